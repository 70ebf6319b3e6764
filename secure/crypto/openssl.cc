#include "secure/crypto/openssl.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <string>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::openssl {
namespace {

absl::StatusOr<Bio> NewMemoryBio() {
  Bio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr) {
    return Error(absl::StatusCode::kInternal, "cannot make a memory buffer");
  }
  return bio;
}

std::span<std::byte> Contents(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::as_writable_bytes(
      std::span(data, size > 0 ? static_cast<size_t>(size) : 0));
}

}  // namespace

absl::Status Error(absl::StatusCode code, std::string_view what) {
  std::string text(what);
  const char* separator = ": ";
  while (const unsigned long error = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(error);
    CatInto(text, separator, reason != nullptr ? reason : "unknown error");
    separator = "; ";
  }
  return absl::Status(code, text);
}

void ClearErrors() { ERR_clear_error(); }

absl::StatusOr<Bio> BioOf(std::string_view text) {
  Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (bio == nullptr) {
    return Error(absl::StatusCode::kInternal, "cannot make a memory buffer");
  }
  return bio;
}

int NoPassphrase(char*, int, int, void*) { return -1; }

absl::StatusOr<Pkey> PrivateKeyFromPem(const SecretBytes& pem) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const Bio bio, BioOf(pem.Text(SecretAccess("parses a private key"))));
  Pkey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return Error(absl::StatusCode::kInvalidArgument,
                 "not an unencrypted PEM private key");
  }
  return key;
}

absl::StatusOr<SecretBytes> PrivateKeyToPem(const EVP_PKEY& key) {
  CONSILIUM_ASSIGN_OR_RETURN(const Bio bio, NewMemoryBio());
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), &key, nullptr, nullptr, 0,
                                    nullptr, nullptr) != 1) {
    return Error(absl::StatusCode::kInternal, "cannot write a private key");
  }
  const std::span<std::byte> text = Contents(bio);
  SecretBytes pem = SecretBytes::CopyOf(text);
  WipeMemory(text);
  return pem;
}

absl::StatusOr<std::string> PublicKeyToPem(const EVP_PKEY& key) {
  CONSILIUM_ASSIGN_OR_RETURN(const Bio bio, NewMemoryBio());
  if (PEM_write_bio_PUBKEY(bio.get(), &key) != 1) {
    return Error(absl::StatusCode::kInternal, "cannot write a public key");
  }
  const std::span<std::byte> text = Contents(bio);
  return std::string(reinterpret_cast<const char*>(text.data()), text.size());
}

}  // namespace consilium::openssl

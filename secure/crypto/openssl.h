// OpenSSL handles with owners, and its error queue as statuses.
#ifndef CONSILIUM_SECURE_CRYPTO_OPENSSL_H_
#define CONSILIUM_SECURE_CRYPTO_OPENSSL_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium::openssl {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* handle) const {
    kFree(handle);
  }
};

using Bio = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using Pkey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeWith<EVP_PKEY_CTX_free>>;
using CipherContext =
    std::unique_ptr<EVP_CIPHER_CTX, FreeWith<EVP_CIPHER_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeWith<EVP_MD_CTX_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, FreeWith<EVP_KDF_CTX_free>>;

// "<what>: <reasons>", and empties this thread's error queue. TLS code on the
// same thread would take what stays in the queue for its own.
absl::Status Error(absl::StatusCode code, std::string_view what);

// Empties the queue where the reasons are of no use.
void ClearErrors();

template <size_t kSize>
const unsigned char* Data(std::span<const std::byte, kSize> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
template <size_t kSize>
unsigned char* Data(std::span<std::byte, kSize> bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

// A read-only view as a BIO; `text` must outlive it.
// Errors: INTERNAL  no memory.
absl::StatusOr<Bio> BioOf(std::string_view text);

// A PKCS#8 PEM private key, unencrypted. An encrypted one is an error here;
// OpenSSL would otherwise ask the terminal for the passphrase.
absl::StatusOr<Pkey> PrivateKeyFromPem(const SecretBytes& pem);
absl::StatusOr<SecretBytes> PrivateKeyToPem(const EVP_PKEY& key);
absl::StatusOr<std::string> PublicKeyToPem(const EVP_PKEY& key);

// For the callback arguments of PEM_read_*: refuses to give a passphrase.
int NoPassphrase(char* buffer, int size, int writing, void* user_data);

}  // namespace consilium::openssl

#endif  // CONSILIUM_SECURE_CRYPTO_OPENSSL_H_

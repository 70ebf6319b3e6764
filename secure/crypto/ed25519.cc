#include "consilium/secure/ed25519.h"

#include <openssl/pem.h>

#include <algorithm>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/key_file.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

using openssl::Data;

constexpr int64_t kMaxPublicPemBytes = 4096;

template <size_t kSize>
absl::Status CopyExactly(std::string_view what, std::span<const std::byte> from,
                         std::array<std::byte, kSize>& to) {
  if (from.size() != kSize) {
    return absl::InvalidArgumentError(
        Cat(what, " has ", kSize, " bytes, not ", from.size()));
  }
  std::copy(from.begin(), from.end(), to.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::array<std::byte, VerifyKey::kBytes>> RawPublicKey(
    const EVP_PKEY& key) {
  std::array<std::byte, VerifyKey::kBytes> raw;
  size_t size = raw.size();
  if (EVP_PKEY_get_base_id(&key) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_public_key(&key, Data(std::span(raw)), &size) != 1 ||
      size != raw.size()) {
    openssl::ClearErrors();
    return absl::InvalidArgumentError("the key is not an Ed25519 key");
  }
  return raw;
}

absl::StatusOr<openssl::Pkey> PublicHandle(
    std::span<const std::byte, VerifyKey::kBytes> raw) {
  openssl::Pkey key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                                Data(raw), raw.size()));
  if (key == nullptr) {
    return openssl::Error(absl::StatusCode::kInvalidArgument,
                          "not an Ed25519 public key");
  }
  return key;
}

}  // namespace

absl::StatusOr<Signature> Signature::FromBytes(
    std::span<const std::byte> bytes) {
  Signature signature;
  CONSILIUM_RETURN_IF_ERROR(
      CopyExactly("an Ed25519 signature", bytes, signature.bytes));
  return signature;
}

absl::StatusOr<Signature> Signature::FromBytes(std::string_view bytes) {
  return FromBytes(AsBytes(bytes));
}

std::string Signature::ToString() const { return std::string(AsChars(bytes)); }

absl::StatusOr<VerifyKey> VerifyKey::FromBytes(
    std::span<const std::byte> bytes) {
  VerifyKey key;
  CONSILIUM_RETURN_IF_ERROR(
      CopyExactly("an Ed25519 public key", bytes, key.bytes_));
  return key;
}

absl::StatusOr<VerifyKey> VerifyKey::FromBytes(std::string_view bytes) {
  return FromBytes(AsBytes(bytes));
}

absl::StatusOr<VerifyKey> VerifyKey::FromHex(std::string_view hex) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                             HexDecode(hex));
  return FromBytes(bytes);
}

absl::StatusOr<VerifyKey> VerifyKey::FromPem(std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Bio bio, openssl::BioOf(pem));
  const openssl::Pkey handle(
      PEM_read_bio_PUBKEY(bio.get(), nullptr, openssl::NoPassphrase, nullptr));
  if (handle == nullptr) {
    return openssl::Error(absl::StatusCode::kInvalidArgument,
                          "not a PEM public key");
  }
  VerifyKey key;
  CONSILIUM_ASSIGN_OR_RETURN(key.bytes_, RawPublicKey(*handle));
  return key;
}

absl::StatusOr<VerifyKey> VerifyKey::LoadFile(FileSystem* fs,
                                              const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string pem,
                             ReadWholeFile(fs, path, kMaxPublicPemBytes));
  absl::StatusOr<VerifyKey> key = FromPem(pem);
  if (!key.ok()) return Annotate(key.status(), path);
  return key;
}

absl::Status VerifyKey::Verify(std::span<const std::byte> message,
                               const Signature& signature) const {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Pkey key, PublicHandle(bytes_));
  const openssl::DigestContext context(EVP_MD_CTX_new());
  if (context == nullptr ||
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr,
                           key.get()) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot start an Ed25519 verification");
  }
  if (EVP_DigestVerify(context.get(), Data(std::span(signature.bytes)),
                       signature.bytes.size(), Data(message),
                       message.size()) != 1) {
    openssl::ClearErrors();
    return absl::UnauthenticatedError(
        Cat("the signature is not by Ed25519 key ", Hex()));
  }
  return absl::OkStatus();
}

std::string VerifyKey::ToString() const { return std::string(AsChars(bytes_)); }

std::string VerifyKey::Hex() const { return HexEncode(bytes_); }

absl::StatusOr<std::string> VerifyKey::ToPem() const {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Pkey key, PublicHandle(bytes_));
  return openssl::PublicKeyToPem(*key);
}

struct SigningKey::Handle {
  openssl::Pkey key;
};

SigningKey::SigningKey(std::unique_ptr<Handle> handle, VerifyKey verify_key)
    : handle_(std::move(handle)), verify_key_(verify_key) {}
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;
SigningKey::~SigningKey() = default;

absl::StatusOr<SigningKey> SigningKey::Generate(RandomSource& random) {
  SecretBytes seed(VerifyKey::kBytes);
  random.Fill(seed.MutableBytes(SecretAccess("generates")));
  return FromSeed(seed);
}

absl::StatusOr<SigningKey> SigningKey::FromSeed(const SecretBytes& seed) {
  if (seed.size() != VerifyKey::kBytes) {
    return absl::InvalidArgumentError(Cat("an Ed25519 seed has ",
                                          VerifyKey::kBytes, " bytes, not ",
                                          seed.size()));
  }
  openssl::Pkey key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, Data(seed.Bytes(SecretAccess("Ed25519 seed"))),
      seed.size()));
  if (key == nullptr) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot make an Ed25519 key");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const auto raw, RawPublicKey(*key));
  CONSILIUM_ASSIGN_OR_RETURN(const VerifyKey verify_key,
                             VerifyKey::FromBytes(raw));
  return SigningKey(std::make_unique<Handle>(Handle{std::move(key)}),
                    verify_key);
}

absl::StatusOr<SigningKey> SigningKey::FromPem(const SecretBytes& pem) {
  CONSILIUM_ASSIGN_OR_RETURN(openssl::Pkey key,
                             openssl::PrivateKeyFromPem(pem));
  CONSILIUM_ASSIGN_OR_RETURN(const auto raw, RawPublicKey(*key));
  CONSILIUM_ASSIGN_OR_RETURN(const VerifyKey verify_key,
                             VerifyKey::FromBytes(raw));
  return SigningKey(std::make_unique<Handle>(Handle{std::move(key)}),
                    verify_key);
}

absl::StatusOr<SigningKey> SigningKey::LoadFile(FileSystem* fs,
                                                const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes pem, ReadKeyFile(fs, path));
  absl::StatusOr<SigningKey> key = FromPem(pem);
  if (!key.ok()) return Annotate(key.status(), path);
  return key;
}

absl::Status SigningKey::SaveFile(FileSystem* fs,
                                  const std::string& path) const {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes pem, ToPem());
  return WriteKeyFile(fs, path, pem);
}

absl::StatusOr<SecretBytes> SigningKey::ToPem() const {
  return openssl::PrivateKeyToPem(*handle_->key);
}

absl::StatusOr<Signature> SigningKey::Sign(
    std::span<const std::byte> message) const {
  const openssl::DigestContext context(EVP_MD_CTX_new());
  Signature signature;
  size_t size = signature.bytes.size();
  if (context == nullptr ||
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr,
                         handle_->key.get()) != 1 ||
      EVP_DigestSign(context.get(), Data(std::span(signature.bytes)), &size,
                     Data(message), message.size()) != 1 ||
      size != signature.bytes.size()) {
    return openssl::Error(absl::StatusCode::kInternal, "cannot sign");
  }
  return signature;
}

}  // namespace consilium

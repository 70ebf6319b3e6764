#include "consilium/secure/x25519.h"

#include <algorithm>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

using openssl::Data;

absl::StatusOr<openssl::Pkey> PrivateHandle(const SecretBytes& secret) {
  openssl::Pkey key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_X25519, nullptr,
      Data(secret.Bytes(SecretAccess("X25519 private key"))), secret.size()));
  if (key == nullptr) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot use an X25519 private key");
  }
  return key;
}

}  // namespace

absl::StatusOr<X25519PublicKey> X25519PublicKey::FromBytes(
    std::span<const std::byte> bytes) {
  if (bytes.size() != kX25519KeyBytes) {
    return absl::InvalidArgumentError(Cat("an X25519 public key has ",
                                          kX25519KeyBytes, " bytes, not ",
                                          bytes.size()));
  }
  X25519PublicKey key;
  std::copy(bytes.begin(), bytes.end(), key.bytes.begin());
  return key;
}

std::string X25519PublicKey::Hex() const { return HexEncode(bytes); }

X25519PrivateKey::X25519PrivateKey(SecretBytes secret,
                                   X25519PublicKey public_key)
    : secret_(std::move(secret)), public_key_(public_key) {}

absl::StatusOr<X25519PrivateKey> X25519PrivateKey::Generate(
    RandomSource& random) {
  SecretBytes secret(kX25519KeyBytes);
  random.Fill(secret.MutableBytes(SecretAccess("generates")));
  return FromSecret(std::move(secret));
}

absl::StatusOr<X25519PrivateKey> X25519PrivateKey::FromSecret(
    SecretBytes secret) {
  if (secret.size() != kX25519KeyBytes) {
    return absl::InvalidArgumentError(Cat("an X25519 private key has ",
                                          kX25519KeyBytes, " bytes, not ",
                                          secret.size()));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Pkey key, PrivateHandle(secret));
  X25519PublicKey public_key;
  size_t size = public_key.bytes.size();
  if (EVP_PKEY_get_raw_public_key(key.get(), Data(std::span(public_key.bytes)),
                                  &size) != 1 ||
      size != public_key.bytes.size()) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot compute an X25519 public key");
  }
  return X25519PrivateKey(std::move(secret), public_key);
}

absl::StatusOr<SecretBytes> X25519PrivateKey::Agree(
    const X25519PublicKey& peer) const {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Pkey mine, PrivateHandle(secret_));
  const openssl::Pkey theirs(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_X25519, nullptr, Data(std::span(peer.bytes)),
      peer.bytes.size()));
  const openssl::PkeyContext context(EVP_PKEY_CTX_new(mine.get(), nullptr));
  if (theirs == nullptr || context == nullptr ||
      EVP_PKEY_derive_init(context.get()) != 1 ||
      EVP_PKEY_derive_set_peer(context.get(), theirs.get()) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot start an X25519 key agreement");
  }
  const SecretAccess access("X25519 result");
  SecretBytes shared(kX25519KeyBytes);
  size_t size = shared.size();
  const bool derived =
      EVP_PKEY_derive(context.get(), Data(shared.MutableBytes(access)),
                      &size) == 1 &&
      size == shared.size();
  // A low-order point makes the result a constant that everybody knows.
  if (!derived || shared == SecretBytes(kX25519KeyBytes)) {
    openssl::ClearErrors();
    return absl::InvalidArgumentError(
        Cat("X25519 public key ", peer.Hex(),
            " has low order: it agrees on no secret"));
  }
  return shared;
}

}  // namespace consilium

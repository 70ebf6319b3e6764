// Key agreement.
#ifndef CONSILIUM_SECURE_X25519_H_
#define CONSILIUM_SECURE_X25519_H_

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "consilium/base/random.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

inline constexpr size_t kX25519KeyBytes = 32;

struct X25519PublicKey {
  std::array<std::byte, kX25519KeyBytes> bytes{};

  // Errors: INVALID_ARGUMENT  not 32 bytes.
  static absl::StatusOr<X25519PublicKey> FromBytes(
      std::span<const std::byte> bytes);
  std::string Hex() const;
  friend bool operator==(const X25519PublicKey&,
                         const X25519PublicKey&) = default;
};

// Key agreement on Curve25519 (RFC 7748). Immutable after creation; safe to
// use from several threads.
class X25519PrivateKey {
 public:
  static absl::StatusOr<X25519PrivateKey> Generate(RandomSource& random);
  // Errors: INVALID_ARGUMENT  not 32 bytes.
  static absl::StatusOr<X25519PrivateKey> FromSecret(SecretBytes secret);

  const X25519PublicKey& public_key() const { return public_key_; }
  const SecretBytes& secret() const { return secret_; }

  // The raw shared point; derive keys from it, never use it as one.
  // Errors: INVALID_ARGUMENT  the result is all zero (a low-order peer key).
  absl::StatusOr<SecretBytes> Agree(const X25519PublicKey& peer) const;

 private:
  X25519PrivateKey(SecretBytes secret, X25519PublicKey public_key);
  SecretBytes secret_;
  X25519PublicKey public_key_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_X25519_H_

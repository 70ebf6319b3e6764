// Key derivation.
#ifndef CONSILIUM_SECURE_HKDF_H_
#define CONSILIUM_SECURE_HKDF_H_

#include <cstddef>
#include <span>

#include "absl/status/statusor.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

// HKDF-SHA256, extract then expand (RFC 5869). `length` in bytes, 1..8160.
// Errors: INVALID_ARGUMENT  length out of range.
absl::StatusOr<SecretBytes> HkdfSha256(std::span<const std::byte> secret,
                                       std::span<const std::byte> salt,
                                       std::span<const std::byte> info,
                                       size_t length);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_HKDF_H_

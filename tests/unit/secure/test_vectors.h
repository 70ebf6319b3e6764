// Reading test vectors.
#ifndef CONSILIUM_TESTS_UNIT_SECURE_TEST_VECTORS_H_
#define CONSILIUM_TESTS_UNIT_SECURE_TEST_VECTORS_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

inline std::vector<std::byte> FromHex(std::string_view hex) {
  absl::StatusOr<std::vector<std::byte>> bytes = HexDecode(hex);
  CONSILIUM_CHECK(bytes.ok());
  return *std::move(bytes);
}

inline SecretBytes SecretFromHex(std::string_view hex) {
  return SecretBytes::CopyOf(FromHex(hex));
}

inline std::string Reveal(const SecretBytes& secret) {
  return HexEncode(secret.Bytes(SecretAccess("a test looks")));
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_SECURE_TEST_VECTORS_H_

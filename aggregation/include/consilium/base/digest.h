// SHA-256 digests as values, and hashing as an interface: this module never
// links a cryptographic library, consilium::crypto provides the hasher.
#ifndef CONSILIUM_BASE_DIGEST_H_
#define CONSILIUM_BASE_DIGEST_H_

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace consilium {

// 32 bytes; all zero by default. Ordered byte by byte. Comparing takes time
// that depends on the bytes: fine for names, not for secrets.
struct Sha256Digest {
  static constexpr size_t kSize = 32;

  std::array<std::byte, kSize> bytes{};

  // 64 lower-case characters.
  std::string Hex() const;

  // INVALID_ARGUMENT: not 64 hex digits.
  static absl::StatusOr<Sha256Digest> FromHex(std::string_view text);

  // INVALID_ARGUMENT: not 32 bytes.
  static absl::StatusOr<Sha256Digest> FromBytes(
      std::span<const std::byte> bytes);

  friend bool operator==(const Sha256Digest&, const Sha256Digest&) = default;
  friend std::strong_ordering operator<=>(const Sha256Digest&,
                                          const Sha256Digest&) = default;

  template <typename H>
  friend H AbslHashValue(H state, const Sha256Digest& digest) {
    return H::combine_contiguous(
        std::move(state),
        reinterpret_cast<const unsigned char*>(digest.bytes.data()), kSize);
  }
};

// One running SHA-256. Not thread-safe.
class Hasher {
 public:
  virtual ~Hasher() = default;

  // The digest covers all updates in order; how they are cut does not matter.
  virtual void Update(std::span<const std::byte> bytes) = 0;

  // Once, after the last Update. For another digest make another hasher.
  virtual Sha256Digest Finish() = 0;
};

// Thread-safe; each call gives a fresh hasher.
using HasherFactory = std::function<std::unique_ptr<Hasher>()>;

}  // namespace consilium

template <>
struct std::hash<consilium::Sha256Digest> {
  size_t operator()(const consilium::Sha256Digest& digest) const noexcept;
};

#endif  // CONSILIUM_BASE_DIGEST_H_

#include "consilium/base/digest.h"

#include <algorithm>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

std::string Sha256Digest::Hex() const { return HexEncode(bytes); }

absl::StatusOr<Sha256Digest> Sha256Digest::FromHex(std::string_view text) {
  Sha256Digest digest;
  if (const absl::Status status = HexDecodeTo(text, digest.bytes);
      !status.ok()) {
    return Annotate(status, "not a SHA-256 digest");
  }
  return digest;
}

absl::StatusOr<Sha256Digest> Sha256Digest::FromBytes(
    std::span<const std::byte> bytes) {
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(
        Cat("a SHA-256 digest has 32 bytes, not ", bytes.size()));
  }
  Sha256Digest digest;
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

}  // namespace consilium

size_t std::hash<consilium::Sha256Digest>::operator()(
    const consilium::Sha256Digest& digest) const noexcept {
  // A digest's bits are uniform already.
  return static_cast<size_t>(
      consilium::LoadLittleEndian<uint64_t>(digest.bytes.data()));
}

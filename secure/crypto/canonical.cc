#include "consilium/secure/canonical.h"

#include <array>
#include <bit>

#include "consilium/base/bytes.h"

namespace consilium {

CanonicalEncoder::CanonicalEncoder(std::string_view domain) { String(domain); }

void CanonicalEncoder::AppendLength(uint64_t length) {
  std::array<std::byte, 8> raw;
  StoreBigEndian(length, raw.data());
  out_.append(AsChars(raw));
}

CanonicalEncoder& CanonicalEncoder::String(std::string_view text) {
  AppendLength(text.size());
  out_.append(text);
  return *this;
}

CanonicalEncoder& CanonicalEncoder::Bytes(std::span<const std::byte> bytes) {
  return String(AsChars(bytes));
}

CanonicalEncoder& CanonicalEncoder::U64(uint64_t value) {
  AppendLength(sizeof(value));
  AppendLength(value);
  return *this;
}

CanonicalEncoder& CanonicalEncoder::I64(int64_t value) {
  return U64(static_cast<uint64_t>(value));
}

CanonicalEncoder& CanonicalEncoder::Bool(bool value) {
  return U64(value ? 1 : 0);
}

CanonicalEncoder& CanonicalEncoder::F64(double value) {
  return U64(std::bit_cast<uint64_t>(value));
}

}  // namespace consilium

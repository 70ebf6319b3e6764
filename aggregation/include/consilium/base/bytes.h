// Bytes in memory: fixed-width integers, a writer and a bounds-checked reader.
//
// Everything here is little-endian but for the functions named *BigEndian.
#ifndef CONSILIUM_BASE_BYTES_H_
#define CONSILIUM_BASE_BYTES_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}
inline std::string_view AsChars(std::span<const std::byte> bytes) {
  return std::string_view(reinterpret_cast<const char*>(bytes.data()),
                          bytes.size());
}

namespace internal {
template <std::unsigned_integral T>
constexpr T ByteSwap(T value) {
  T out = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    out = static_cast<T>((out << 8 * (sizeof(T) > 1)) | (value & 0xff));
    value = static_cast<T>(value >> 8 * (sizeof(T) > 1));
  }
  return out;
}
}  // namespace internal

// Both read and write sizeof(T) bytes at `p`, which needs no alignment.
template <std::unsigned_integral T>
T LoadLittleEndian(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  if constexpr (std::endian::native == std::endian::big) {
    value = internal::ByteSwap(value);
  }
  return value;
}
template <std::unsigned_integral T>
void StoreLittleEndian(T value, std::byte* p) {
  if constexpr (std::endian::native == std::endian::big) {
    value = internal::ByteSwap(value);
  }
  std::memcpy(p, &value, sizeof(T));
}
template <std::unsigned_integral T>
T LoadBigEndian(const std::byte* p) {
  return internal::ByteSwap(LoadLittleEndian<T>(p));
}
template <std::unsigned_integral T>
void StoreBigEndian(T value, std::byte* p) {
  StoreLittleEndian(internal::ByteSwap(value), p);
}

// Appends to a buffer that it owns. Not thread-safe.
class ByteWriter {
 public:
  void U8(uint8_t value) { Put(value); }
  void U16(uint16_t value) { Put(value); }
  void U32(uint32_t value) { Put(value); }
  void U64(uint64_t value) { Put(value); }
  void I64(int64_t value) { Put(static_cast<uint64_t>(value)); }
  void F32(float value) { Put(std::bit_cast<uint32_t>(value)); }
  void F64(double value) { Put(std::bit_cast<uint64_t>(value)); }
  void Bytes(std::span<const std::byte> bytes);
  void Text(std::string_view text) { Bytes(AsBytes(text)); }
  void Zeros(size_t count) { buffer_.resize(buffer_.size() + count); }

  // A u32 count of bytes, then the bytes. At most 2^32 - 1 of them (CHECK).
  void LengthPrefixed(std::span<const std::byte> bytes);
  void LengthPrefixed(std::string_view text) { LengthPrefixed(AsBytes(text)); }

  // Overwrites 4 bytes written before, for lengths known only afterwards.
  void PatchU32(size_t offset, uint32_t value);

  size_t size() const { return buffer_.size(); }
  std::span<const std::byte> bytes() const { return buffer_; }
  std::string ToString() const { return std::string(AsChars(buffer_)); }
  std::vector<std::byte> Take() && { return std::move(buffer_); }

 private:
  template <std::unsigned_integral T>
  void Put(T value) {
    std::byte raw[sizeof(T)];
    StoreLittleEndian(value, raw);
    buffer_.insert(buffer_.end(), raw, raw + sizeof(T));
  }
  std::vector<std::byte> buffer_;
};

// Walks bytes that nobody vouches for. Every read is checked first and fails
// with INVALID_ARGUMENT naming `what`, the field's offset, the bytes it needs
// and the bytes left; a failed read consumes nothing. Views and `what` refer to
// memory of the caller. Not thread-safe.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes,
                      std::string_view what = "input")
      : bytes_(bytes), what_(what) {}

  absl::StatusOr<uint8_t> U8() { return Get<uint8_t>("u8"); }
  absl::StatusOr<uint16_t> U16() { return Get<uint16_t>("u16"); }
  absl::StatusOr<uint32_t> U32() { return Get<uint32_t>("u32"); }
  absl::StatusOr<uint64_t> U64() { return Get<uint64_t>("u64"); }
  absl::StatusOr<int64_t> I64();
  absl::StatusOr<float> F32();
  absl::StatusOr<double> F64();
  absl::StatusOr<std::span<const std::byte>> Bytes(size_t count);
  absl::StatusOr<std::string_view> Text(size_t count);
  absl::Status Skip(size_t count);

  // A u32 count and that many bytes. INVALID_ARGUMENT also when the count is
  // above `max_bytes`.
  absl::StatusOr<std::span<const std::byte>> LengthPrefixed(size_t max_bytes);
  absl::StatusOr<std::string_view> LengthPrefixedText(size_t max_bytes);

  // INVALID_ARGUMENT when bytes are left over.
  absl::Status ExpectEnd() const;

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  bool done() const { return remaining() == 0; }

 private:
  absl::Status Need(size_t count, const char* field) const;
  template <std::unsigned_integral T>
  absl::StatusOr<T> Get(const char* field) {
    if (remaining() < sizeof(T)) return Need(sizeof(T), field);
    const T value = LoadLittleEndian<T>(bytes_.data() + offset_);
    offset_ += sizeof(T);
    return value;
  }
  std::span<const std::byte> bytes_;
  std::string_view what_;
  size_t offset_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_BYTES_H_

#include "consilium/base/bytes.h"

#include <limits>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

void ByteWriter::Bytes(std::span<const std::byte> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void ByteWriter::LengthPrefixed(std::span<const std::byte> bytes) {
  CONSILIUM_CHECK(bytes.size() <= std::numeric_limits<uint32_t>::max());
  U32(static_cast<uint32_t>(bytes.size()));
  Bytes(bytes);
}

void ByteWriter::PatchU32(size_t offset, uint32_t value) {
  CONSILIUM_CHECK(buffer_.size() >= 4 && offset <= buffer_.size() - 4);
  StoreLittleEndian(value, buffer_.data() + offset);
}

absl::Status ByteReader::Need(size_t count, const char* field) const {
  if (remaining() >= count) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat(what_, " is cut short: ", field,
                                        " at byte ", offset_, " needs ", count,
                                        " bytes, ", remaining(), " are left"));
}

absl::StatusOr<int64_t> ByteReader::I64() {
  CONSILIUM_ASSIGN_OR_RETURN(const uint64_t raw, Get<uint64_t>("i64"));
  return std::bit_cast<int64_t>(raw);
}

absl::StatusOr<float> ByteReader::F32() {
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t raw, Get<uint32_t>("f32"));
  return std::bit_cast<float>(raw);
}

absl::StatusOr<double> ByteReader::F64() {
  CONSILIUM_ASSIGN_OR_RETURN(const uint64_t raw, Get<uint64_t>("f64"));
  return std::bit_cast<double>(raw);
}

absl::StatusOr<std::span<const std::byte>> ByteReader::Bytes(size_t count) {
  CONSILIUM_RETURN_IF_ERROR(Need(count, "field"));
  const auto out = bytes_.subspan(offset_, count);
  offset_ += count;
  return out;
}

absl::StatusOr<std::string_view> ByteReader::Text(size_t count) {
  CONSILIUM_ASSIGN_OR_RETURN(const auto raw, Bytes(count));
  return AsChars(raw);
}

absl::Status ByteReader::Skip(size_t count) {
  CONSILIUM_RETURN_IF_ERROR(Need(count, "field"));
  offset_ += count;
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::byte>> ByteReader::LengthPrefixed(
    size_t max_bytes) {
  const size_t start = offset_;
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t count, Get<uint32_t>("length"));
  if (count > max_bytes) {
    offset_ = start;
    return absl::InvalidArgumentError(Cat(what_, ": field at byte ", start,
                                          " declares ", count,
                                          " bytes, the limit is ", max_bytes));
  }
  auto body = Bytes(count);
  if (!body.ok()) offset_ = start;
  return body;
}

absl::StatusOr<std::string_view> ByteReader::LengthPrefixedText(
    size_t max_bytes) {
  CONSILIUM_ASSIGN_OR_RETURN(const auto raw, LengthPrefixed(max_bytes));
  return AsChars(raw);
}

absl::Status ByteReader::ExpectEnd() const {
  if (done()) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat(what_, " should end at byte ", offset_,
                                        " but has ", remaining(), " more"));
}

}  // namespace consilium

#include "coordinator/rpc/upload_chunk.h"

#include <cstring>
#include <optional>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace consilium {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int kUploadId = 1;
constexpr int kIndex = 2;
constexpr int kData = 3;

// The bytes of a length-delimited field, which is next.
std::optional<std::span<const std::byte>> ReadBytes(
    CodedInputStream& in, std::span<const std::byte> all) {
  uint32_t length = 0;
  if (!in.ReadVarint32(&length)) return std::nullopt;
  const auto at = static_cast<size_t>(in.CurrentPosition());
  if (length > all.size() - at || !in.Skip(static_cast<int>(length))) {
    return std::nullopt;
  }
  return all.subspan(at, length);
}

bool ReadField(CodedInputStream& in, std::span<const std::byte> all,
               uint32_t tag, UploadChunkView* chunk) {
  const int field = WireFormatLite::GetTagFieldNumber(tag);
  const auto type = WireFormatLite::GetTagWireType(tag);
  if (field == kIndex && type == WireFormatLite::WIRETYPE_VARINT) {
    return in.ReadVarint64(&chunk->index);
  }
  if ((field == kUploadId || field == kData) &&
      type == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
    const auto bytes = ReadBytes(in, all);
    if (!bytes.has_value()) return false;
    if (field == kData) {
      chunk->data = *bytes;
    } else {
      chunk->upload_id = AsChars(*bytes);
    }
    return true;
  }
  return WireFormatLite::SkipField(&in, tag);
}

}  // namespace

absl::StatusOr<UploadChunkView> ParseUploadChunk(
    std::span<const std::byte> bytes) {
  CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                      static_cast<int>(bytes.size()));
  UploadChunkView chunk;
  while (const uint32_t tag = in.ReadTag()) {
    if (!ReadField(in, bytes, tag, &chunk)) {
      return absl::InvalidArgumentError(
          Cat("the message is no UploadChunk: field ",
              WireFormatLite::GetTagFieldNumber(tag), " is malformed"));
    }
  }
  // Tag 0 is the end, or no tag at all.
  if (!in.ConsumedEntireMessage() ||
      static_cast<size_t>(in.CurrentPosition()) != bytes.size()) {
    return absl::InvalidArgumentError(
        Cat("the message is no UploadChunk: bad tag at byte ",
            in.CurrentPosition(), " of ", bytes.size()));
  }
  return chunk;
}

absl::StatusOr<std::span<const std::byte>> Gather(
    const grpc::ByteBuffer& message, std::span<std::byte> out) {
  if (message.Length() > out.size()) {
    return absl::InvalidArgumentError(
        Cat("an upload message has ", message.Length(), " bytes, the limit is ",
            out.size(), ": chunks have at most 1 MiB"));
  }
  std::vector<grpc::Slice> slices;
  if (!message.Dump(&slices).ok()) {
    return absl::InvalidArgumentError("an upload message cannot be read");
  }
  size_t at = 0;
  for (const grpc::Slice& slice : slices) {
    std::memcpy(out.data() + at, slice.begin(), slice.size());
    at += slice.size();
  }
  return std::span<const std::byte>(out.first(at));
}

}  // namespace consilium

#include "consilium/aggregation/frame.h"

#include <utility>

#include "consilium/aggregation/kernels.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr size_t kVersionAt = 4;
constexpr size_t kKindAt = 5;
constexpr size_t kCodecAt = 6;
constexpr size_t kFirstElementAt = 8;
constexpr size_t kElementsAt = 16;
constexpr size_t kCodecHeaderAt = 20;
constexpr size_t kCrcAt = 24;
constexpr size_t kZeroAt = 28;

template <typename... Args>
absl::Status Broken(const Args&... args) {
  return absl::InvalidArgumentError(Cat("frame: ", args...));
}

}  // namespace

absl::StatusOr<FrameHeader> ParseFrameHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) {
    return Broken(bytes.size(), " bytes; a header has ", kFrameHeaderBytes);
  }
  const std::byte* const p = bytes.data();
  if (LoadLittleEndian<uint32_t>(p) != kFrameMagic) {
    return Broken("does not begin with its magic number");
  }
  const auto version = LoadLittleEndian<uint8_t>(p + kVersionAt);
  if (version != kFrameVersion) {
    return Broken("version ", version, "; this build reads ", kFrameVersion);
  }
  const auto kind = LoadLittleEndian<uint8_t>(p + kKindAt);
  if (kind > static_cast<uint8_t>(FrameKind::kWords)) {
    return Broken("kind ", kind, " is not known");
  }
  if (LoadLittleEndian<uint32_t>(p + kZeroAt) != 0) {
    return Broken("the last header field is not zero");
  }
  FrameHeader header;
  header.kind = static_cast<FrameKind>(kind);
  header.codec = static_cast<CodecId>(LoadLittleEndian<uint16_t>(p + kCodecAt));
  header.first_element = LoadLittleEndian<uint64_t>(p + kFirstElementAt);
  header.elements = LoadLittleEndian<uint32_t>(p + kElementsAt);
  header.codec_header_bytes = LoadLittleEndian<uint32_t>(p + kCodecHeaderAt);
  header.crc32c = LoadLittleEndian<uint32_t>(p + kCrcAt);
  if (header.kind == FrameKind::kMetadata &&
      (header.first_element != 0 || header.elements != 0 ||
       header.codec != CodecId::kF32)) {
    return Broken("metadata with elements or a codec");
  }
  if (header.first_element > uint64_t{1} << 62) {
    return Broken("first element ", header.first_element,
                  " is beyond any layout");
  }
  return header;
}

absl::StatusOr<FrameView> ParseFrame(std::span<const std::byte> frame,
                                     CrcCheck check) {
  if (frame.size() > kMaxFrameBytes) {
    return Broken(frame.size(), " bytes exceed the most of ", kMaxFrameBytes);
  }
  FrameView view;
  CONSILIUM_ASSIGN_OR_RETURN(view.header, ParseFrameHeader(frame));
  const std::span<const std::byte> rest = frame.subspan(kFrameHeaderBytes);
  if (view.header.codec_header_bytes > rest.size()) {
    return Broken("codec header of ", view.header.codec_header_bytes,
                  " bytes in ", rest.size());
  }
  if (check == CrcCheck::kVerify &&
      kernels::Crc32c(rest) != view.header.crc32c) {
    return absl::DataLossError("frame: the checksum is wrong");
  }
  view.codec_header = rest.first(view.header.codec_header_bytes);
  view.body = rest.subspan(view.header.codec_header_bytes);
  return view;
}

void SealFrameHeader(const FrameHeader& header, std::span<std::byte> frame) {
  CONSILIUM_CHECK(frame.size() <= kMaxFrameBytes &&
                  frame.size() >=
                      kFrameHeaderBytes + header.codec_header_bytes);
  std::byte* const p = frame.data();
  StoreLittleEndian(kFrameMagic, p);
  StoreLittleEndian(kFrameVersion, p + kVersionAt);
  StoreLittleEndian(static_cast<uint8_t>(header.kind), p + kKindAt);
  StoreLittleEndian(static_cast<uint16_t>(header.codec), p + kCodecAt);
  StoreLittleEndian(header.first_element, p + kFirstElementAt);
  StoreLittleEndian(header.elements, p + kElementsAt);
  StoreLittleEndian(header.codec_header_bytes, p + kCodecHeaderAt);
  StoreLittleEndian(kernels::Crc32c(frame.subspan(kFrameHeaderBytes)),
                    p + kCrcAt);
  StoreLittleEndian(uint32_t{0}, p + kZeroAt);
}

}  // namespace consilium

#ifndef CONSILIUM_AGGREGATION_FRAME_H_
#define CONSILIUM_AGGREGATION_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

// A frame is the plaintext of one chunk. It can be read alone: it says which
// elements of the covered flat space it holds and how they are encoded.
// Little-endian, 32 bytes of header:
//
//   at size  field
//    0  u32  magic 0x4D524643 ("CFRM")
//    4  u8   version, 1
//    5  u8   kind: 0 metadata, 1 parameters, 2 words of Z_2^64
//    6  u16  codec: 0 raw float32 (and in metadata), 1 bfloat16, 64 ring of
//            2^32, 65 of 2^24
//    8  u64  first element (index into the covered flat space; 0 in metadata)
//   16  u32  elements (0 in metadata)
//   20  u32  bytes of codec header, which follow this header
//   24  u32  CRC-32C of everything after this header
//   28  u32  zero
//
// Then codec header and body. A payload is frame 0 (metadata) and the
// parameter frames in order, each but the last with the round's full count.
inline constexpr uint32_t kFrameMagic = 0x4D524643;
inline constexpr uint8_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 32;
// A sealed frame (16 bytes of tag more) fits a chunk of 1 MiB.
inline constexpr size_t kMaxFrameBytes = (size_t{1} << 20) - 16;
inline constexpr size_t kMaxFrameBodyBytes = kMaxFrameBytes - kFrameHeaderBytes;

enum class FrameKind : uint8_t { kMetadata = 0, kParameters = 1, kWords = 2 };

enum class CodecId : uint16_t {
  kF32 = 0,
  kBF16 = 1,
  kRing32 = 64,
  kRing24 = 65,
};

struct FrameHeader {
  FrameKind kind = FrameKind::kParameters;
  CodecId codec = CodecId::kF32;
  uint64_t first_element = 0;
  uint32_t elements = 0;
  uint32_t codec_header_bytes = 0;
  uint32_t crc32c = 0;
};

// Spans into the bytes that were parsed.
struct FrameView {
  FrameHeader header;
  std::span<const std::byte> codec_header;
  std::span<const std::byte> body;
};

// A frame that came out of an authenticated chunk, and was checked when it
// came in, need not be checked again.
enum class CrcCheck { kVerify, kSkip };

// Errors: DATA_LOSS for a wrong checksum; INVALID_ARGUMENT for anything else
// that is not such a frame. The message names the field.
absl::StatusOr<FrameView> ParseFrame(std::span<const std::byte> frame,
                                     CrcCheck check = CrcCheck::kVerify);

// The header alone, for a frame that comes in pieces: `bytes` begins with it.
// Its lengths and checksum are for the caller to check. Errors:
// INVALID_ARGUMENT.
absl::StatusOr<FrameHeader> ParseFrameHeader(std::span<const std::byte> bytes);

// Writes the header of `frame`, whose other bytes are final, and computes the
// checksum. Needs kFrameHeaderBytes + codec_header_bytes <= frame.size() <=
// kMaxFrameBytes. `header.crc32c` is not read.
void SealFrameHeader(const FrameHeader& header, std::span<std::byte> frame);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_FRAME_H_

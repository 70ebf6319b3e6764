#ifndef CONSILIUM_AGGREGATION_CODEC_H_
#define CONSILIUM_AGGREGATION_CODEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/frame.h"
#include "consilium/aggregation/metadata.h"

namespace consilium {

// Elements of a decoded frame: values[i] is covered element first_element + i.
struct DecodedFrame {
  int64_t first_element = 0;
  std::span<const float> values;
};

// 63 * 4096: the largest multiple of a page of floats that fits a frame.
inline constexpr int64_t kMaxElementsPerFrame = 258048;
// What the frames of a round may hold, largest first: in float32, 1,008 to 63
// KiB. Whole blocks of 256 elements fill each of them.
inline constexpr std::array<int64_t, 5> kFrameSizes = {
    kMaxElementsPerFrame, kMaxElementsPerFrame / 2, kMaxElementsPerFrame / 4,
    kMaxElementsPerFrame / 8, kMaxElementsPerFrame / 16};

// The largest of kFrameSizes with which `frames` frames of float32 take no more
// than `bytes`; the smallest where none does. Needs frames > 0.
int64_t FrameSizeFor(int64_t frames, int64_t bytes);

// Turns float32 elements into parameter frames of one size and back.
// Stateless and thread-safe; the registry owns one object for each codec and
// frame size.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const = 0;
  virtual std::string_view name() const = 0;  // "f32", as in configuration
  // One of kFrameSizes. Every frame but the last of a payload holds exactly
  // this many elements, so element e lies in frame
  // 1 + e / elements_per_frame().
  virtual int64_t elements_per_frame() const = 0;
  // Whole-frame bytes for `elements`, at most; exact where the size is fixed.
  virtual size_t MaxFrameBytes(int64_t elements) const = 0;

  // Writes one frame to the start of `out` (MaxFrameBytes(values.size()) long
  // at least) and returns its size. Needs 0 < values.size() <=
  // elements_per_frame(). `out` and `values` do not overlap.
  virtual size_t Encode(std::span<const float> values, int64_t first_element,
                        std::span<std::byte> out) const = 0;

  // Takes frames of every size. The values lie in the frame itself where codec
  // and alignment allow (f32 at a multiple of 4), else in `scratch`; valid
  // until either changes. Errors: INVALID_ARGUMENT when sizes do not fit
  // together.
  virtual absl::StatusOr<DecodedFrame> Decode(
      const FrameView& frame, std::vector<float>* scratch) const = 0;
};

// As in configuration ("f32"); empty when this build has no such codec.
std::string_view CodecName(CodecId id);

// Never null. Errors: UNIMPLEMENTED when this build has no such codec;
// INVALID_ARGUMENT, naming kFrameSizes, for any other frame size.
absl::StatusOr<const Codec*> FindCodec(CodecId id, int64_t elements_per_frame);

// Parameter frames of a payload with that many covered elements, and what they
// take together, at most.
int64_t ParameterFrameCount(const Codec& codec, int64_t elements);
int64_t MaxParameterBytes(const Codec& codec, int64_t elements);

// ParseFrame() and Decode() with the codec the frame names. Errors: of both;
// UNIMPLEMENTED for a codec that this build does not have; INVALID_ARGUMENT
// for a frame that holds no parameters.
absl::StatusOr<DecodedFrame> DecodeParameterFrame(
    std::span<const std::byte> frame, CrcCheck check,
    std::vector<float>* scratch);

// Cuts a contribution into frames. One frame of memory. Calls, in order:
// WriteMetadata once, Append until all covered elements are in, Finish. Not
// thread-safe. After an error the object may only be destroyed.
class PayloadWriter {
 public:
  // Receives each whole frame; the span is valid during the call only.
  using Sink = std::function<absl::Status(std::span<const std::byte>)>;

  PayloadWriter(int64_t covered_elements, const Codec* codec, Sink sink);

  absl::Status WriteMetadata(ContributionMetadata metadata,
                             const MetadataLimits& limits = {});
  // The next elements of the covered flat space. Errors: OUT_OF_RANGE for
  // more than covered_elements; FAILED_PRECONDITION before WriteMetadata.
  absl::Status Append(std::span<const float> values);
  // Errors: FAILED_PRECONDITION when elements are missing.
  absl::Status Finish();

  int64_t frames() const { return frames_; }
  int64_t bytes() const { return bytes_; }

 private:
  absl::Status Emit(std::span<const float> values);

  const int64_t covered_elements_;
  const Codec* const codec_;
  const Sink sink_;
  int64_t appended_ = 0;
  int64_t emitted_ = 0;
  int64_t frames_ = 0;
  int64_t bytes_ = 0;
  std::vector<float> pending_;
  std::vector<std::byte> frame_;
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_CODEC_H_

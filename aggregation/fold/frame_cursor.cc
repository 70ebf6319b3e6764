#include "consilium/aggregation/frame_cursor.h"

#include <algorithm>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr size_t kCacheLine = 64;

}  // namespace

FrameCursor::FrameCursor(const Codec* codec, int64_t covered_elements,
                         int64_t first, CrcCheck check, Load load)
    : codec_(codec),
      covered_elements_(covered_elements),
      check_(check),
      load_(std::move(load)),
      position_(first) {}

absl::StatusOr<std::span<const float>> FrameCursor::Next(size_t max) {
  if (rest_.empty()) {
    if (position_ >= covered_elements_) {
      return absl::OutOfRangeError(
          Cat("the contribution ends at element ", covered_elements_));
    }
    if (storage_ == nullptr) {
      // Not initialised: a frame is written before it is read.
      storage_.reset(new std::byte[kBufferBytes + 2 * kCacheLine]);
      const auto address = reinterpret_cast<uintptr_t>(storage_.get());
      const size_t skip =
          (2 * kCacheLine - kFrameHeaderBytes - address % kCacheLine) %
          kCacheLine;
      buffer_ = {storage_.get() + skip, kBufferBytes};
    }
    const int64_t per_frame = codec_->elements_per_frame();
    const int64_t frame = position_ / per_frame;
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                               load_(1 + frame, buffer_));
    CONSILIUM_ASSIGN_OR_RETURN(const DecodedFrame decoded,
                               DecodeParameterFrame(bytes, check_, &scratch_));
    const int64_t first = frame * per_frame;
    const int64_t count = std::min(per_frame, covered_elements_ - first);
    if (decoded.first_element != first ||
        std::cmp_not_equal(decoded.values.size(), count)) {
      return absl::DataLossError(Cat("frame ", 1 + frame, " holds elements [",
                                     decoded.first_element, ", +",
                                     decoded.values.size(), ") instead of [",
                                     first, ", +", count, ")"));
    }
    rest_ = decoded.values.subspan(static_cast<size_t>(position_ - first));
  }
  const std::span<const float> next = rest_.first(std::min(max, rest_.size()));
  rest_ = rest_.subspan(next.size());
  position_ += static_cast<int64_t>(next.size());
  return next;
}

PlainPayloadSource::PlainPayloadSource(std::string name,
                                       const CoveredSpace* space,
                                       const Codec* codec, File* file,
                                       int64_t parameters_offset)
    : name_(std::move(name)),
      space_(space),
      codec_(codec),
      file_(file),
      parameters_offset_(parameters_offset) {}

absl::StatusOr<std::unique_ptr<ContributionCursor>> PlainPayloadSource::Open(
    int64_t first) const {
  const auto load = [this](int64_t frame, std::span<std::byte> buffer)
      -> absl::StatusOr<std::span<const std::byte>> {
    const int64_t per_frame = codec_->elements_per_frame();
    const int64_t before = (frame - 1) * per_frame;
    const int64_t count = std::min(per_frame, space_->elements() - before);
    const auto full = static_cast<int64_t>(codec_->MaxFrameBytes(per_frame));
    const std::span<std::byte> bytes =
        buffer.first(codec_->MaxFrameBytes(count));
    CONSILIUM_RETURN_IF_ERROR(
        ReadExactlyAt(file_, parameters_offset_ + (frame - 1) * full, bytes));
    return bytes;
  };
  return std::make_unique<FrameCursor>(codec_, space_->elements(), first,
                                       CrcCheck::kVerify, load);
}

}  // namespace consilium

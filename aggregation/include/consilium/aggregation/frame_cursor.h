#ifndef CONSILIUM_AGGREGATION_FRAME_CURSOR_H_
#define CONSILIUM_AGGREGATION_FRAME_CURSOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/fold.h"
#include "consilium/base/file.h"

namespace consilium {

// A cursor over the frames of a payload. `load` brings one frame into memory
// (reads and opens a sealed chunk, say); the rest, placing, decoding and
// walking, happens here without copies for codecs that allow it.
class FrameCursor : public ContributionCursor {
 public:
  // Returns the plain bytes of frame `frame` (1 is the first parameter frame).
  // `buffer` has 1 MiB, belongs to the loader until its next call, and begins
  // where the body of a frame placed at its start is aligned to 64 bytes.
  using Load = std::function<absl::StatusOr<std::span<const std::byte>>(
      int64_t frame, std::span<std::byte> buffer)>;

  // A cursor from covered element `first` of `covered_elements`. Loads nothing
  // before Next().
  FrameCursor(const Codec* codec, int64_t covered_elements, int64_t first,
              CrcCheck check, Load load);

  // Errors: of `load` and of DecodeParameterFrame(); DATA_LOSS for a frame
  // that is not the one asked for; OUT_OF_RANGE at the end.
  absl::StatusOr<std::span<const float>> Next(size_t max) override;

 private:
  static constexpr size_t kBufferBytes = size_t{1} << 20;

  const Codec* const codec_;
  const int64_t covered_elements_;
  const CrcCheck check_;
  const Load load_;
  int64_t position_;
  std::span<const float> rest_;  // of the current frame
  std::vector<float> scratch_;
  std::unique_ptr<std::byte[]> storage_;
  std::span<std::byte> buffer_;  // in storage_
};

// A contribution whose plain frames lie one after the other in a file. For
// policies without sealing, and for tools.
class PlainPayloadSource : public ContributionSource {
 public:
  // Parameter frames begin at byte `parameters_offset` (behind frame 0) and
  // have the exact sizes of `codec`. Everything given must outlive the source.
  PlainPayloadSource(std::string name, const CoveredSpace* space,
                     const Codec* codec, File* file, int64_t parameters_offset);

  std::string_view name() const override { return name_; }
  const Coverage& coverage() const override { return space_->coverage(); }
  absl::StatusOr<std::unique_ptr<ContributionCursor>> Open(
      int64_t first) const override;

 private:
  const std::string name_;
  const CoveredSpace* const space_;
  const Codec* const codec_;
  File* const file_;
  const int64_t parameters_offset_;
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_FRAME_CURSOR_H_

#ifndef CONSILIUM_AGGREGATION_CONTRIBUTION_CHECK_H_
#define CONSILIUM_AGGREGATION_CONTRIBUTION_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/metadata.h"

namespace consilium {

// Keys in configuration: limits.<field>.
struct ContributionLimits {
  uint64_t max_examples = 10'000'000;   // per contribution
  uint64_t max_tokens = 1'000'000'000;  // per group
  double max_norm = 0;                  // L2 over all; 0: no limit
  MetadataLimits metadata = {};
};

struct ContributionStats {
  ContributionMetadata metadata;
  int64_t frames = 0;  // with frame 0
  int64_t payload_bytes = 0;
  double norm = 0;  // L2 over all covered elements
  float abs_max = 0;
  std::vector<double> group_sum_squares;  // by group; 0 where not covered
};

// Checks a payload frame by frame while it arrives; one pass, no copies, and
// memory for one double per group. Not thread-safe; `space` must outlive it.
// After an error every further call returns that error.
class ContributionChecker {
 public:
  // Errors: INVALID_ARGUMENT for empty coverage.
  static absl::StatusOr<std::unique_ptr<ContributionChecker>> Create(
      const CoveredSpace* space, const Codec* codec,
      const ContributionLimits& limits);

  // The next frame, in order.
  //
  // Errors:
  //   DATA_LOSS           wrong checksum
  //   INVALID_ARGUMENT    not a frame; another kind, codec, place or element
  //                       count than the next frame must have; NaN or
  //                       infinity (names tensor and index); bad metadata;
  //                       examples of zero
  //   RESOURCE_EXHAUSTED  examples, tokens or norm beyond their limit
  //   OUT_OF_RANGE        a frame after the last one
  absl::Status AddFrame(std::span<const std::byte> frame);

  // Whether all frames have been seen.
  bool Complete() const { return next_element_ == space_->elements(); }
  // Frames expected in all, with frame 0.
  int64_t ExpectedFrames() const;
  // Errors: FAILED_PRECONDITION before the last frame.
  absl::StatusOr<ContributionStats> Finish() &&;

 private:
  ContributionChecker(const CoveredSpace* space, const Codec* codec,
                      const ContributionLimits& limits);
  absl::Status Check(std::span<const std::byte> frame);
  absl::Status CheckMetadata(const FrameView& frame);
  absl::Status CheckValues(const DecodedFrame& frame);

  const CoveredSpace* const space_;
  const Codec* const codec_;
  const ContributionLimits limits_;
  absl::Status status_;
  ContributionStats stats_;
  double sum_squares_ = 0;
  int64_t next_element_ = -1;  // -1: frame 0 is due
  size_t slot_ = 0;            // of next_element_, or not covered before it
  int64_t slot_done_ = 0;      // elements of slot_ seen
  std::vector<float> scratch_;
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_CONTRIBUTION_CHECK_H_

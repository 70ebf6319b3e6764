#include "consilium/aggregation/contribution_check.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

absl::StatusOr<std::unique_ptr<ContributionChecker>>
ContributionChecker::Create(const CoveredSpace* space, const Codec* codec,
                            const ContributionLimits& limits) {
  if (space->elements() == 0) {
    return absl::InvalidArgumentError("a contribution covers no group");
  }
  return std::unique_ptr<ContributionChecker>(
      new ContributionChecker(space, codec, limits));
}

ContributionChecker::ContributionChecker(const CoveredSpace* space,
                                         const Codec* codec,
                                         const ContributionLimits& limits)
    : space_(space), codec_(codec), limits_(limits) {
  stats_.group_sum_squares.resize(space->layout().groups().size());
}

int64_t ContributionChecker::ExpectedFrames() const {
  return 1 + ParameterFrameCount(*codec_, space_->elements());
}

absl::Status ContributionChecker::AddFrame(std::span<const std::byte> frame) {
  if (status_.ok()) {
    status_ = Check(frame);
    if (!status_.ok()) {
      status_ = Annotate(status_, Cat("frame ", stats_.frames));
    }
    ++stats_.frames;
    stats_.payload_bytes += static_cast<int64_t>(frame.size());
  }
  return status_;
}

absl::Status ContributionChecker::Check(std::span<const std::byte> bytes) {
  if (Complete()) {
    return absl::OutOfRangeError(
        Cat("the payload has ", ExpectedFrames(), " frames"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView frame, ParseFrame(bytes));
  if (next_element_ < 0) return CheckMetadata(frame);
  if (frame.header.kind != FrameKind::kParameters ||
      frame.header.codec != codec_->id()) {
    return absl::InvalidArgumentError(
        Cat("kind ", static_cast<int>(frame.header.kind), " and codec ",
            static_cast<int>(frame.header.codec), " instead of parameters as ",
            codec_->name()));
  }
  const int64_t elements = std::min(codec_->elements_per_frame(),
                                    space_->elements() - next_element_);
  if (std::cmp_not_equal(frame.header.first_element, next_element_) ||
      std::cmp_not_equal(frame.header.elements, elements)) {
    return absl::InvalidArgumentError(Cat(
        "elements [", frame.header.first_element, ", +", frame.header.elements,
        ") instead of [", next_element_, ", +", elements, ")"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const DecodedFrame decoded,
                             codec_->Decode(frame, &scratch_));
  return CheckValues(decoded);
}

absl::Status ContributionChecker::CheckMetadata(const FrameView& frame) {
  const size_t groups = space_->layout().groups().size();
  CONSILIUM_ASSIGN_OR_RETURN(stats_.metadata,
                             DecodeMetadata(frame, groups, limits_.metadata));
  const ContributionMetadata& metadata = stats_.metadata;
  if (metadata.examples == 0) {
    return absl::InvalidArgumentError("metadata: examples are 0");
  }
  if (metadata.examples > limits_.max_examples) {
    return absl::ResourceExhaustedError(
        Cat("metadata: ", metadata.examples,
            " examples exceed rounds.maximum_weight ", limits_.max_examples));
  }
  for (const GroupTokens& entry : metadata.group_tokens) {
    const std::string group = space_->layout().groups()[entry.group].ToString();
    if (!space_->coverage().Has(entry.group)) {
      return absl::InvalidArgumentError(
          Cat("metadata: tokens for group ", group, ", which is not covered"));
    }
    if (entry.tokens > limits_.max_tokens) {
      return absl::ResourceExhaustedError(
          Cat("metadata: ", entry.tokens, " tokens for group ", group,
              " exceed limits.max_tokens ", limits_.max_tokens));
    }
  }
  next_element_ = 0;
  return absl::OkStatus();
}

absl::Status ContributionChecker::CheckValues(const DecodedFrame& frame) {
  const std::vector<TensorSlot>& slots = space_->layout().slots();
  std::span<const float> rest = frame.values;
  while (!rest.empty()) {
    while (!space_->CoversSlot(slot_)) ++slot_;
    const TensorSlot& slot = slots[slot_];
    const size_t n =
        std::min(rest.size(), static_cast<size_t>(slot.elements - slot_done_));
    const std::span<const float> part = rest.first(n);
    const kernels::Stats stats = kernels::ScanStats(part);
    if (stats.non_finite > 0) {
      const auto bad = std::find_if(part.begin(), part.end(),
                                    [](float v) { return !std::isfinite(v); });
      return absl::InvalidArgumentError(
          Cat("tensor ", Quoted(slot.name, 512), ": element ",
              slot_done_ + (bad - part.begin()), " is not finite"));
    }
    stats_.group_sum_squares[slot.group] += stats.sum_squares;
    sum_squares_ += stats.sum_squares;
    stats_.abs_max = std::max(stats_.abs_max, stats.abs_max);
    slot_done_ += static_cast<int64_t>(n);
    next_element_ += static_cast<int64_t>(n);
    rest = rest.subspan(n);
    if (slot_done_ == slot.elements) {
      ++slot_;
      slot_done_ = 0;
    }
  }
  stats_.norm = std::sqrt(sum_squares_);
  if (limits_.max_norm > 0 && stats_.norm > limits_.max_norm) {
    return absl::ResourceExhaustedError(
        Cat("the norm is above rounds.maximum_norm ", limits_.max_norm, " (",
            stats_.norm, " after ", next_element_, " elements)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ContributionStats> ContributionChecker::Finish() && {
  CONSILIUM_RETURN_IF_ERROR(status_);
  if (!Complete()) {
    return absl::FailedPreconditionError(
        Cat(stats_.frames, " of ", ExpectedFrames(), " frames arrived"));
  }
  return std::move(stats_);
}

}  // namespace consilium

#ifndef CONSILIUM_AGGREGATION_FOLD_SEGMENT_H_
#define CONSILIUM_AGGREGATION_FOLD_SEGMENT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/fold.h"

namespace consilium {

// What all threads of a fold share and none changes.
struct FoldPlan {
  const FoldInputs* inputs = nullptr;
  const FoldOptions* options = nullptr;
  const FoldOutput* output = nullptr;
  std::vector<GroupFold> groups;
  std::vector<CoveredSpace> spaces;  // by contribution

  int64_t elements() const { return inputs->layout->total_elements(); }
  int64_t segments() const {
    return (elements() + options->segment_elements - 1) /
           options->segment_elements;
  }
  // Elements of segment `index`.
  int64_t SegmentSize(int64_t index) const {
    const int64_t first = index * options->segment_elements;
    return std::min(options->segment_elements, elements() - first);
  }
};

// Folds segments, one after the other; what one thread of a fold owns. Keeps
// its cursors open from one segment to the next where they still fit.
class SegmentFolder {
 public:
  explicit SegmentFolder(const FoldPlan* plan);

  // Reads the base, folds and writes segment `index`. Leaves the result in
  // `values` (SegmentSize(index) long). Hashes each block while it is hot when
  // `hasher` is given.
  absl::Status Fold(int64_t index, std::span<float> values, Hasher* hasher);

  // Closes the cursors; what was folded counts only if this is OK.
  absl::Status Finish();

  // Elements taken from each contribution so far.
  const std::vector<int64_t>& elements_read() const { return elements_read_; }
  double hash_seconds() const { return hash_seconds_; }

 private:
  // The reading end of one contribution.
  struct Reader {
    std::unique_ptr<ContributionCursor> cursor;
    int64_t at = 0;  // covered element at the front of `rest`
    std::span<const float> rest;
    int64_t here = 0;  // covered elements before the current run
  };

  // Puts each reader's `here` at canonical element `first` in slot `slot`.
  void Seek(int64_t first, size_t slot);
  // Folds [first, first + values.size()), one group, one set of contributors.
  absl::Status FoldRun(uint32_t group, int64_t first, std::span<float> values);
  // Lets the cursor of reader `c` go.
  absl::Status Close(size_t c);
  // Makes rest of reader `c` begin at its covered element `want`, non-empty.
  absl::Status Advance(size_t c, int64_t want, int64_t need);

  const FoldPlan* const plan_;
  std::vector<Reader> readers_;
  std::vector<int64_t> elements_read_;
  double hash_seconds_ = 0;
  // Of the run in hand: contributions that take part, and what the kernel
  // needs.
  std::vector<uint32_t> active_;
  std::vector<double> weights_;
  std::vector<const float*> blocks_;
};

// `status` with the index of the contribution behind it; see
// FailedContribution().
absl::Status BlameContribution(const absl::Status& status,
                               const FoldInputs& inputs, size_t contribution);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_FOLD_SEGMENT_H_

#ifndef CONSILIUM_AGGREGATION_FOLD_H_
#define CONSILIUM_AGGREGATION_FOLD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/cancel.h"
#include "consilium/base/clock.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"

namespace consilium {

// Reads the covered flat space of one contribution, forwards.
class ContributionCursor {
 public:
  virtual ~ContributionCursor() = default;
  // Between 1 and `max` (>= 1) of the next elements, valid until the next
  // call. Best served straight from an opened chunk: the fold copies nothing.
  // Errors: any; they end the fold and name this contribution.
  virtual absl::StatusOr<std::span<const float>> Next(size_t max) = 0;
  // Whether what was handed out is what was sent, for sources where that shows
  // only at the end of a chunk. The fold asks before it lets a cursor go, and
  // throws its work away unless the answer is OK.
  virtual absl::Status Finish() { return absl::OkStatus(); }
};

// One contribution. Open() is called from several threads at once and must be
// safe so; a cursor is used by one thread.
class ContributionSource {
 public:
  virtual ~ContributionSource() = default;
  // For messages: the institution.
  virtual std::string_view name() const = 0;
  virtual const Coverage& coverage() const = 0;
  // A cursor reads whole frames of this many elements, wherever it starts.
  virtual int64_t elements_per_frame() const = 0;
  // A cursor that starts at covered element `first`.
  virtual absl::StatusOr<std::unique_ptr<ContributionCursor>> Open(
      int64_t first) const = 0;
};

struct FoldContribution {
  const ContributionSource* source = nullptr;
  std::vector<int64_t> weights = {};  // u by group, from PlanWeights()
};

struct FoldProgress {
  int64_t done_elements = 0;
  int64_t total_elements = 0;
};

struct FoldOptions {
  // Groups with fewer contributions of non-zero weight are held.
  size_t min_contributors = 1;
  int threads = 1;
  // Elements that a thread takes at a time: a whole number of frames of any
  // size, so that threads rarely open the same chunk. Memory: 4 bytes of it,
  // threads + 1 times (once with one thread).
  int64_t segment_elements = 4 * kMaxElementsPerFrame;
  // Elements read, folded and written at a time, to stay in the L2 cache.
  int64_t block_elements = int64_t{1} << 16;
  // Looked at between blocks.
  CancelToken cancel = {};
  // Called after each segment, one call at a time, from any thread.
  std::function<void(const FoldProgress&)> progress = nullptr;
  Clock* clock = SystemClock();  // for the report's seconds
};

// All pointers must outlive the fold. `base` and `out` are different files.
struct FoldInputs {
  const Layout* layout = nullptr;
  File* base = nullptr;          // parameters of the base version ...
  int64_t base_data_offset = 0;  // ... float32 e at this + 4 * e
  // In institution order: the order of additions.
  std::vector<FoldContribution> contributions = {};
};

struct FoldOutput {
  File* file = nullptr;
  int64_t data_offset = 0;
  // Fed with all output bytes in file order, by one thread at a time. May be
  // null.
  Hasher* hasher = nullptr;
};

struct GroupFold {
  uint32_t contributors = 0;  // with non-zero weight
  int64_t total_weight = 0;   // sum of their u
  bool held = false;          // kept the bits of the base
};

struct FoldReport {
  std::vector<GroupFold> groups;
  std::vector<int64_t> elements_read;  // by contribution, for kept groups
  int64_t held_groups = 0;
  double seconds = 0;       // wall
  double hash_seconds = 0;  // in the hasher, of any thread
};

// new = base + sum_c(u_c * x_c) / sum_c(u_c), per group over the contributions
// that cover it with u > 0; in float64, added in institution order, rounded
// once. The bits depend on nothing else: not on threads, blocks or CPU. Held
// groups keep the bits of the base. Reads every contribution once from front
// to back (per segment), writes every output byte once, and syncs nothing.
// Memory: (threads + 1) segments, and what the cursors hold: one per
// contribution and thread.
//
// Errors:
//   INVALID_ARGUMENT    shapes that do not fit together; a negative weight,
//                       or one for a group that is not covered
//   RESOURCE_EXHAUSTED  more than kMaxContributions; disk full
//   OUT_OF_RANGE        a result that is not finite (names the tensor)
//   CANCELLED           by options.cancel, with its reason
//   errors of cursors and files
absl::StatusOr<FoldReport> Fold(const FoldInputs& inputs,
                                const FoldOptions& options,
                                const FoldOutput& output);

// The contribution (index into FoldInputs::contributions) whose cursor failed,
// if that is what `status` from Fold() reports.
std::optional<size_t> FailedContribution(const absl::Status& status);

struct FoldedVersion {
  FoldReport report;
  Sha256Digest digest;  // of the whole file
  int64_t file_bytes = 0;
};

// Fold() into a whole version file: header, parameters, digest. `out` is
// empty; it is allocated first, so that a full disk shows before the work.
absl::StatusOr<FoldedVersion> FoldToVersionFile(const FoldInputs& inputs,
                                                const FoldOptions& options,
                                                const Sha256Digest& layout_id,
                                                const HasherFactory& sha256,
                                                File* out);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_FOLD_H_

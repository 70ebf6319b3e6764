#ifndef CONSILIUM_TESTS_UNIT_AGGREGATION_FOLD_FOLD_FIXTURE_H_
#define CONSILIUM_TESTS_UNIT_AGGREGATION_FOLD_FOLD_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/aggregation/fold.h"
#include "tests/support/fault_file_system.h"

namespace consilium {

// A contribution in memory. Its cursors return pieces of at most `piece`
// elements (0: as many as asked for) and fail at `fail_at`.
class MemorySource final : public ContributionSource {
 public:
  MemorySource(std::string name, const Layout* layout, Coverage coverage)
      : name_(std::move(name)), space_(layout, std::move(coverage)) {
    values.resize(static_cast<size_t>(space_.elements()));
  }

  std::string_view name() const override { return name_; }
  const Coverage& coverage() const override { return space_.coverage(); }
  int64_t elements_per_frame() const override { return frame; }
  absl::StatusOr<std::unique_ptr<ContributionCursor>> Open(
      int64_t first) const override;

  const CoveredSpace& space() const { return space_; }

  std::vector<float> values;  // covered flat space
  size_t piece = 0;
  int64_t frame = kMaxElementsPerFrame;
  std::optional<int64_t> fail_at;
  bool fail_finish = false;
  mutable std::atomic<int> opened = 0;

 private:
  class Cursor;
  const std::string name_;
  const CoveredSpace space_;
};

// A federation small enough to fold by hand.
struct FoldCase {
  std::shared_ptr<const Layout> layout = {};  // where sources point
  std::vector<float> base = {};               // layout->total_elements()
  std::vector<std::unique_ptr<MemorySource>> sources = {};
  std::vector<std::vector<int64_t>> weights = {};  // [contribution][group]

  // `density`: the share of groups that a contribution covers, in percent.
  static FoldCase Random(uint32_t seed, size_t contributions, int density);
};

inline std::shared_ptr<const Layout> Shared(absl::StatusOr<Layout> layout) {
  return std::make_shared<const Layout>(*std::move(layout));
}

// What the fold must give: element by element, no blocks, no threads.
std::vector<float> ExpectedFold(const FoldCase& c, size_t min_contributors);

struct FoldOutcome {
  absl::Status status = absl::OkStatus();
  FoldReport report = {};
  std::vector<float> values = {};
  Sha256Digest digest = {};
};

// Folds through files of an in-memory file system.
FoldOutcome RunFold(const FoldCase& c, const FoldOptions& options);

// The bit patterns, so that -0 differs from 0 and failures can be read.
std::vector<uint32_t> Bits(std::span<const float> values);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_AGGREGATION_FOLD_FOLD_FIXTURE_H_

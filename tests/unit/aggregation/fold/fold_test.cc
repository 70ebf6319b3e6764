#include "consilium/aggregation/fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fake_hasher.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/aggregation/fold/fold_fixture.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr int64_t kOne = kWeightOne;

// Two groups of two slots each, interleaved; three contributions, of which the
// last covers the expert only.
class FoldTest : public ::testing::Test {
 protected:
  FoldTest() {
    case_.layout =
        Shared(Layout::Parse("consilium-layout 1\n"
                             "shared F32 2 s.A\n"
                             "expert/0/0 F32 1 e.A\n"
                             "shared F32 1 s.B\n"
                             "expert/0/0 F32 2 e.B\n"));
    case_.base = {10, 20, 30, 40, 50, 60};
    Add("\x03", {1, 2, 3, 4, 5, 6}, {kOne, kOne / 4});
    Add("\x03", {3, 4, 7, 0, 1, 10}, {kOne, 3 * kOne / 4});
    Add("\x02", {8, 16, 24}, {0, kOne});
  }

  void Add(const char* coverage, std::vector<float> values,
           std::vector<int64_t> weights) {
    auto source = std::make_unique<MemorySource>(
        Cat("bank-", case_.sources.size()), case_.layout.get(),
        *Coverage::FromBytes(coverage, 2));
    source->values = std::move(values);
    case_.sources.push_back(std::move(source));
    case_.weights.push_back(std::move(weights));
  }

  FoldCase case_ = {};
};

TEST_F(FoldTest, IsTheWeightedMeanPerGroup) {
  const FoldOutcome outcome = RunFold(case_, {});
  ASSERT_OK(outcome.status);
  // shared: mean of two. expert: (1/4 a + 3/4 b + c) / 2.
  EXPECT_THAT(
      outcome.values,
      ElementsAre(10 + 2, 20 + 3, 30 + (0.75f + 5.25f + 8) / 2, 40 + 2,
                  50 + (1.25f + 0.75f + 16) / 2, 60 + (1.5f + 7.5f + 24) / 2));
  const FoldReport& report = outcome.report;
  ASSERT_EQ(report.groups.size(), 2u);
  EXPECT_EQ(report.groups[0].contributors, 2u);
  EXPECT_EQ(report.groups[0].total_weight, 2 * kOne);
  EXPECT_EQ(report.groups[1].contributors, 3u);
  EXPECT_EQ(report.groups[1].total_weight, 2 * kOne);
  EXPECT_EQ(report.held_groups, 0);
  EXPECT_THAT(report.elements_read, ElementsAre(6, 6, 3));
}

TEST_F(FoldTest, HoldsGroupsBelowTheMinimum) {
  const FoldOutcome outcome = RunFold(case_, {.min_contributors = 3});
  ASSERT_OK(outcome.status);
  EXPECT_THAT(outcome.values, ElementsAre(10, 20, 37, 40, 59, 76.5f));
  EXPECT_TRUE(outcome.report.groups[0].held);
  EXPECT_FALSE(outcome.report.groups[1].held);
  EXPECT_EQ(outcome.report.held_groups, 1);
  EXPECT_THAT(outcome.report.elements_read, ElementsAre(3, 3, 3));
}

TEST_F(FoldTest, WithoutContributionsEverythingIsHeld) {
  case_.sources.clear();
  case_.weights.clear();
  const FoldOutcome outcome = RunFold(case_, {});
  ASSERT_OK(outcome.status);
  EXPECT_EQ(outcome.values, case_.base);
  EXPECT_EQ(outcome.report.held_groups, 2);
}

TEST_F(FoldTest, BlamesTheContributionWhoseCursorFails) {
  case_.sources[1]->fail_at = 2;
  for (const int threads : {1, 2}) {
    const FoldOutcome outcome =
        RunFold(case_, {.threads = threads, .segment_elements = 2});
    EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kDataLoss,
                                         HasSubstr("contribution of bank-1")));
    EXPECT_EQ(FailedContribution(outcome.status), 1u);
  }
  EXPECT_EQ(FailedContribution(absl::DataLossError("x")), std::nullopt);
  EXPECT_EQ(FailedContribution(absl::OkStatus()), std::nullopt);
}

// What a cursor handed out counts only once it says so, whether it lives to the
// end or is left behind, and whatever the numbers looked like.
TEST_F(FoldTest, BlamesTheContributionWhoseCursorDoesNotFinish) {
  case_.sources[1]->fail_finish = true;
  for (const float last : {1.0f, 3e38f}) {
    case_.base[5] = last;
    case_.sources[0]->values.back() = last;
    case_.sources[1]->values.back() = last;
    for (const int64_t segment : {int64_t{2}, int64_t{1} << 16}) {
      const FoldOutcome outcome =
          RunFold(case_, {.threads = 2, .segment_elements = segment});
      EXPECT_THAT(outcome.status,
                  StatusIs(absl::StatusCode::kDataLoss,
                           HasSubstr("contribution of bank-1: broken seal")));
      EXPECT_EQ(FailedContribution(outcome.status), 1u);
    }
  }
}

TEST_F(FoldTest, RefusesAResultThatIsNotFinite) {
  case_.base[5] = 3e38f;
  for (auto& source : case_.sources) source->values.back() = 3e38f;
  EXPECT_THAT(
      RunFold(case_, {}).status,
      StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("\"e.B\": element 1")));
}

TEST_F(FoldTest, RefusesShapesThatDoNotFitTogether) {
  const std::vector<std::vector<int64_t>> good = case_.weights;
  const auto status_with = [&](std::vector<int64_t> weights) {
    case_.weights = good;
    case_.weights[2] = std::move(weights);
    return RunFold(case_, {}).status;
  };
  EXPECT_THAT(status_with({0}), StatusIs(kInvalid, HasSubstr("1 weights")));
  EXPECT_THAT(status_with({0, -1}),
              StatusIs(kInvalid, HasSubstr("expert/0/0")));
  EXPECT_THAT(status_with({0, kOne + 1}),
              StatusIs(kInvalid, HasSubstr("2^40")));
  EXPECT_THAT(status_with({1, 1}),
              StatusIs(kInvalid, AllOf(HasSubstr("bank-2"),
                                       HasSubstr("shared has a weight"))));
  case_.weights = good;
  for (const FoldOptions& options :
       {FoldOptions{.min_contributors = 0}, FoldOptions{.threads = 0},
        FoldOptions{.threads = 257}, FoldOptions{.segment_elements = 0},
        FoldOptions{.block_elements = 0}}) {
    EXPECT_THAT(RunFold(case_, options).status, StatusIs(kInvalid));
  }
}

TEST_F(FoldTest, StopsWhenCancelled) {
  CancelSource stop;
  int segments = 0;
  const FoldOptions options = {.segment_elements = 1,
                               .cancel = stop.token(),
                               .progress = [&](const FoldProgress& progress) {
                                 ++segments;
                                 EXPECT_EQ(progress.done_elements, segments);
                                 EXPECT_EQ(progress.total_elements, 6);
                                 if (segments == 2)
                                   stop.Cancel("shutting down");
                               }};
  EXPECT_THAT(
      RunFold(case_, options).status,
      StatusIs(absl::StatusCode::kCancelled, HasSubstr("shutting down")));
  EXPECT_EQ(segments, 2);
}

// With one thread and whole coverage a chunk is opened once only.
TEST_F(FoldTest, OneThreadOpensEachContributionOnce) {
  case_ = FoldCase::Random(3, 4, 100);
  for (auto& weights : case_.weights) {
    std::fill(weights.begin(), weights.end(), kOne);
  }
  ASSERT_OK(
      RunFold(case_, {.segment_elements = 100, .block_elements = 7}).status);
  for (const auto& source : case_.sources) EXPECT_EQ(source->opened, 1);
}

// What a held group lets pass by is skipped by a new cursor, when it is more
// than a frame of its contribution, and read over otherwise.
TEST_F(FoldTest, SkipsLongPassagesByReopening) {
  struct Passage {
    int64_t frame;
    int64_t gap;
    int opened;
  };
  for (const auto& [frame, gap, opened] :
       {Passage{258048, 258048, 1}, Passage{258048, 258049, 2},
        Passage{16128, 16128, 1}, Passage{16128, 16129, 2}}) {
    FoldCase c{.layout = Shared(Layout::Parse(
                   Cat("consilium-layout 1\nshared F32 5 a\nexpert/0/0 F32 ",
                       gap, " b\nshared F32 5 c\n")))};
    c.base.resize(static_cast<size_t>(c.layout->total_elements()));
    c.sources.push_back(std::make_unique<MemorySource>(
        "bank", c.layout.get(), Coverage::All(*c.layout)));
    c.sources[0]->frame = frame;
    std::vector<float>& values = c.sources[0]->values;
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i);
    }
    c.weights = {{kOne, 0}};
    const FoldOutcome outcome = RunFold(c, {});
    ASSERT_OK(outcome.status);
    EXPECT_EQ(Bits(outcome.values), Bits(ExpectedFold(c, 1)));
    EXPECT_EQ(c.sources[0]->opened, opened);
    EXPECT_THAT(outcome.report.elements_read, ElementsAre(10));
  }
}

class FoldFilesTest : public FoldTest {
 protected:
  FoldFilesTest()
      : id_(case_.layout->ComputeId(FakeHasher::Factory())),
        base_(*fs_.Open("/base", {.write = true, .create = true})),
        out_(*fs_.Open("/out", {.write = true, .create = true})) {
    const auto written = WriteVersionFile(
        *case_.layout, id_,
        [&](const TensorSlot& slot) -> absl::StatusOr<std::span<const float>> {
          return std::span<const float>(case_.base)
              .subspan(static_cast<size_t>(slot.first_element),
                       static_cast<size_t>(slot.elements));
        },
        FakeHasher::Factory(), base_.get());
    inputs_ = {.layout = case_.layout.get(),
               .base = base_.get(),
               .base_data_offset = written->info.data_offset};
    for (size_t i = 0; i < case_.sources.size(); ++i) {
      inputs_.contributions.push_back(
          {.source = case_.sources[i].get(), .weights = case_.weights[i]});
    }
  }

  FaultFileSystem fs_;
  Sha256Digest id_;
  std::unique_ptr<File> base_;
  std::unique_ptr<File> out_;
  FoldInputs inputs_;
};

TEST_F(FoldFilesTest, WritesAVersionThatReadsBack) {
  ASSERT_OK_AND_ASSIGN(
      const FoldedVersion version,
      FoldToVersionFile(inputs_, {}, id_, FakeHasher::Factory(), out_.get()));
  ASSERT_OK_AND_ASSIGN(const VersionFileInfo info,
                       ReadVersionFile(out_.get(), *case_.layout, id_));
  EXPECT_EQ(info.file_bytes, version.file_bytes);
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadWholeFile(&fs_, "/out", 1 << 20));
  EXPECT_EQ(std::ssize(bytes), version.file_bytes);
  EXPECT_EQ(version.digest, FakeHasher::Of(AsBytes(bytes)));
  const std::vector<float> expected = ExpectedFold(case_, 1);
  EXPECT_EQ(bytes.substr(static_cast<size_t>(info.data_offset)),
            AsChars(std::as_bytes(std::span(expected))));
}

TEST_F(FoldFilesTest, AFullDiskIsATypedError) {
  fs_.FailWithNoSpaceAfter(100);
  EXPECT_THAT(
      FoldToVersionFile(inputs_, {}, id_, FakeHasher::Factory(), out_.get()),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/out")));
}

TEST_F(FoldFilesTest, ABaseCutShortIsATypedError) {
  ASSERT_OK(base_->Truncate(inputs_.base_data_offset + 20));
  EXPECT_THAT(
      FoldToVersionFile(inputs_, {}, id_, FakeHasher::Factory(), out_.get()),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("base version")));
}

// A failed write ends the fold with its error and never with a version.
TEST_F(FoldFilesTest, EveryFailingStepIsReported) {
  const int64_t before = fs_.ops();
  const FoldOptions options = {.segment_elements = 2};
  ASSERT_OK(FoldToVersionFile(inputs_, options, id_, FakeHasher::Factory(),
                              out_.get()));
  const int64_t steps = fs_.ops() - before;
  ASSERT_GE(steps, 5);
  for (int64_t k = 1; k <= steps; ++k) {
    fs_.FailAt(k, absl::DataLossError("bad block"));
    EXPECT_THAT(FoldToVersionFile(inputs_, options, id_, FakeHasher::Factory(),
                                  out_.get()),
                StatusIs(absl::StatusCode::kDataLoss))
        << k;
  }
}

}  // namespace
}  // namespace consilium

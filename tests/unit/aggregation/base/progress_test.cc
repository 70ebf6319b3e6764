#include "consilium/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fake_clock.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class RecordingSink final : public ProgressSink {
 public:
  void Write(std::string_view text) override { writes.emplace_back(text); }
  std::vector<std::string> writes;
};

constexpr int64_t kMiB = 1 << 20;

class ProgressTest : public ::testing::Test {
 protected:
  FakeClock clock_;
  RecordingSink sink_;
};

TEST_F(ProgressTest, PlainPrintsALineEveryTenPercent) {
  Progress progress("upload", {.total = 100 * kMiB}, &clock_, &sink_);
  for (int i = 0; i <= 25; ++i) {
    progress.Update(i * kMiB);
    clock_.Advance(absl::Milliseconds(250));
  }
  EXPECT_THAT(sink_.writes,
              ElementsAre("upload: 0 %, 0 B of 100 MiB\n",
                          "upload: 10 %, 10 MiB of 100 MiB, 4 MiB/s, 23s "
                          "left\n",
                          "upload: 20 %, 20 MiB of 100 MiB, 4 MiB/s, 20s "
                          "left\n"));
}

TEST_F(ProgressTest, PlainAlsoPrintsAfterALongTime) {
  Progress progress("fold", {.total = 1000 * kMiB}, &clock_, &sink_);
  progress.Update(0);
  clock_.Advance(absl::Seconds(9));
  progress.Update(1 * kMiB);
  EXPECT_EQ(sink_.writes.size(), 1u);
  clock_.Advance(absl::Seconds(1));
  progress.Update(2 * kMiB);
  EXPECT_EQ(sink_.writes.size(), 2u);
}

TEST_F(ProgressTest, TerminalRedrawsOneLineNotTooOften) {
  {
    Progress progress("upload",
                      {.mode = ProgressMode::kTerminal, .total = 4 * kMiB},
                      &clock_, &sink_);
    progress.Update(0);
    for (int i = 1; i <= 1000; ++i) progress.Update(kMiB);  // no time passes
    EXPECT_EQ(sink_.writes.size(), 1u);
    clock_.Advance(absl::Seconds(1));
    progress.Update(2 * kMiB);
    EXPECT_THAT(sink_.writes.back(),
                AllOf(StartsWith("\r"), HasSubstr("[############....."),
                      HasSubstr("50 % 2 MiB of 4 MiB, 2 MiB/s, 1.0s left"),
                      Not(HasSubstr("\n"))));
  }
  EXPECT_EQ(sink_.writes.back(), "\n");  // the line was left open
}

TEST_F(ProgressTest, TerminalLinesFitTheWidth) {
  Progress progress(
      "\xc3\xbc"
      "bertragung",
      {.mode = ProgressMode::kTerminal, .total = 10, .width = 5}, &clock_,
      &sink_);
  progress.Update(5);
  EXPECT_THAT(sink_.writes, ElementsAre("\r\xc3\xbc"
                                        "bert\x1b[K"));
}

TEST_F(ProgressTest, SilentPrintsNothing) {
  {
    Progress progress("upload", {.mode = ProgressMode::kSilent, .total = 10},
                      &clock_, &sink_);
    progress.Update(0);
    clock_.Advance(absl::Hours(1));
    progress.Update(10);
    progress.Finish();
  }
  EXPECT_THAT(sink_.writes, IsEmpty());
}

TEST_F(ProgressTest, TheRateLeavesOutWhatWasThereBefore) {
  Progress progress("upload", {.total = 100 * kMiB}, &clock_, &sink_);
  progress.Update(90 * kMiB);  // resumed
  clock_.Advance(absl::Seconds(10));
  progress.Update(100 * kMiB);
  EXPECT_THAT(sink_.writes.back(), HasSubstr("1 MiB/s"));
  progress.Finish();
  EXPECT_EQ(sink_.writes.back(), "upload: 100 MiB in 10s (1 MiB/s)\n");
}

TEST_F(ProgressTest, GoingBackIsNoNegativeRate) {
  Progress progress("upload", {.total = 100}, &clock_, &sink_);
  progress.Update(50);
  clock_.Advance(absl::Seconds(10));
  progress.Update(10);
  EXPECT_EQ(sink_.writes.back(), "upload: 10 %, 10 B of 100 B\n");
}

TEST_F(ProgressTest, WithoutATotalThereIsNoPercentage) {
  Progress progress("scan", {.unit = ProgressOptions::Unit::kItems}, &clock_,
                    &sink_);
  progress.Update(0);
  clock_.Advance(absl::Seconds(10));
  progress.Advance(25);
  progress.SetNote("phase 2");
  clock_.Advance(absl::Seconds(10));
  progress.Update(25);
  EXPECT_THAT(sink_.writes, ElementsAre("scan: 0\n", "scan: 25, 2.5/s\n",
                                        HasSubstr(", phase 2\n")));
}

TEST_F(ProgressTest, ATotalLearntLaterCounts) {
  Progress progress("scan", {}, &clock_, &sink_);
  progress.Update(0);
  progress.SetTotal(100);
  progress.Update(50);
  EXPECT_EQ(sink_.writes.back(), "scan: 50 %, 50 B of 100 B\n");
}

TEST_F(ProgressTest, FailureIsSaidOnceAndEndsIt) {
  Progress progress("upload",
                    {.mode = ProgressMode::kTerminal, .total = 10 * kMiB},
                    &clock_, &sink_);
  progress.Update(kMiB);
  clock_.Advance(absl::Seconds(42));
  progress.Fail("connection lost");
  EXPECT_EQ(sink_.writes.back(),
            "\rupload: failed after 42s at 1 MiB: connection lost\x1b[K\n");
  const size_t count = sink_.writes.size();
  progress.Finish();
  progress.Update(2 * kMiB);
  EXPECT_EQ(sink_.writes.size(), count);
}

TEST_F(ProgressTest, JsonMeansSilence) {
  EXPECT_EQ(DetectProgressMode(true), ProgressMode::kSilent);
  EXPECT_NE(DetectProgressMode(false), ProgressMode::kSilent);
}

}  // namespace
}  // namespace consilium

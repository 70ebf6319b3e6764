#include "coordinator/round/round_report.h"

#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(WhyWaitingTest, NamesWhoAndWhatAndUntilWhen) {
  RoundHarness h;
  EXPECT_EQ(WhyWaiting(h.state, h.now).reason, WaitReason::kStart);
  h.Do(Start{});
  EXPECT_EQ(WhyWaiting(h.state, h.now).sentence,
            "waiting for a: not heard from, b: not heard from and c: not heard "
            "from; 0 of the quorum of 2, closes or fails at the latest in "
            "1h 00m");
  h.Upload("a");
  h.Upload("c");
  h.Do(ProgressReported{"b", 0.4, ""});
  h.Advance(absl::Minutes(56) + absl::Seconds(40));
  const WaitReport report = WhyWaiting(h.state, h.now);
  EXPECT_EQ(report.sentence,
            "waiting for b: training 40 %; quorum 2 of 3 reached with 2, "
            "closes at the latest in 3m 20s");
  EXPECT_EQ(report.reason, WaitReason::kContributions);
  ASSERT_EQ(report.waiting_for.size(), 1u);
  EXPECT_EQ(report.waiting_for[0].institution, "b");
  EXPECT_EQ(report.have, 2);
  EXPECT_EQ(report.quorum, 2);
  EXPECT_EQ(report.until, h.state.deadline);
}

TEST(WhyWaitingTest, InTheGraceOnlyUploadsCount) {
  RoundHarness h;
  h.Do(Start{});
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Do(ProgressReported{"b", 0.12, ""});
  h.Do(UploadLost{"b", "connection reset"});
  h.AdvanceAndTick(h.state.config.deadline);
  const WaitReport report = WhyWaiting(h.state, h.now);
  EXPECT_EQ(report.reason, WaitReason::kGrace);
  EXPECT_EQ(report.sentence,
            "waiting for b: upload interrupted at 12 % (connection reset); 1 "
            "of the quorum of 2, closes or fails at the latest in 2m 00s "
            "(grace after the deadline)");
}

TEST(WhyWaitingTest, FoldRetryEvaluationAndEnd) {
  RoundHarness h;
  h.Do(Start{});
  h.Upload("a");
  h.Upload("b");
  h.Do(Declined{"c", "no data"});
  EXPECT_EQ(WhyWaiting(h.state, h.now).sentence,
            "folding 2 contributions; ends at the latest in 6h 00m");
  h.Do(PublishFailed{1, "disk full"});
  EXPECT_EQ(WhyWaiting(h.state, h.now).reason, WaitReason::kFoldRetry);
  EXPECT_THAT(WhyWaiting(h.state, h.now).sentence, HasSubstr("in 10s"));
  h.AdvanceAndTick(absl::Seconds(10));
  h.Do(FoldFinished{2, 8, 3, {}});
  h.Do(ProgressReported{"a", 0.5, ""});
  const WaitReport report = WhyWaiting(h.state, h.now);
  EXPECT_EQ(report.reason, WaitReason::kEvaluations);
  EXPECT_THAT(report.sentence,
              HasSubstr("waiting for a: evaluating 50 %, b: evaluating"));
  EXPECT_THAT(report.sentence, HasSubstr("verdict at the latest in 10m 00s"));
  h.Do(Cancel{"enough"});
  EXPECT_EQ(WhyWaiting(h.state, h.now).sentence, "cancelled: enough");
  EXPECT_EQ(WhyWaiting(h.state, h.now).until, std::nullopt);
}

TEST(WhyWaitingTest, ALargeCohortStaysOneLine) {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) names.push_back("site-" + std::to_string(i));
  RoundHarness h(names);
  h.Do(Start{});
  const WaitReport report = WhyWaiting(h.state, h.now);
  EXPECT_EQ(report.waiting_for.size(), 1000u);
  EXPECT_LT(report.sentence.size(), 400u);
  EXPECT_THAT(report.sentence, HasSubstr("and 995 more"));
}

}  // namespace
}  // namespace consilium

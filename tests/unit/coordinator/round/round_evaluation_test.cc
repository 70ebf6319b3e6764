// Evaluation of the candidate and the verdict on it.

#include <limits>
#include <string>

#include "coordinator/round/round_machine.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

RoundConfig LossRule() {
  RoundConfig config;
  config.evaluation.quorum = 2;
  config.evaluation.rule = {"loss", false, 0.05};
  return config;
}

// a and b contributed, c declined; all three are asked.
RoundHarness Evaluating(RoundConfig config) {
  RoundHarness h({"a", "b", "c"}, std::move(config));
  h.Do(Start{});
  h.Do(Declined{"c", "no data"});
  h.Upload("a");
  h.Upload("b");
  h.Do(FoldFinished{1, 8, 3, {}});
  return h;
}

EvaluationReported Report(const std::string& name, int64_t examples,
                          double candidate, double base) {
  return {name, examples, {{"loss", candidate}}, {{"loss", base}}};
}

TEST(EvaluationTest, EverybodyLeftIsAskedUntilADeadline) {
  RoundHarness h = Evaluating(LossRule());
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  EXPECT_EQ(h.state.candidate, 8);
  for (const RoundMember& m : h.state.members) {
    EXPECT_EQ(m.evaluation, EvaluationState::kAsked) << m.institution;
  }
  EXPECT_EQ(h.state.evaluation_deadline,
            h.now + h.state.config.evaluation.deadline);
  EXPECT_EQ(h.wake, h.state.evaluation_deadline);
  EXPECT_EQ(h.Find<Promote>(), nullptr);
  EXPECT_FALSE(AllowsNextRound(h.state));
}

TEST(EvaluationTest, PromotesAsSoonAsTheContributorsHaveReported) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 100, 0.40, 0.50));
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  h.Do(Report("b", 100, 0.52, 0.50));
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);  // c is not waited for
  EXPECT_EQ(h.Find<Promote>()->candidate, 8);
}

TEST(EvaluationTest, ARegressionBeyondTheToleranceRejects) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 300, 0.60, 0.50));
  h.Do(Report("b", 100, 0.50, 0.50));
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_EQ(h.Find<Promote>(), nullptr);
  EXPECT_EQ(h.Find<Reject>()->reason,
            "loss went from 0.5 to 0.575, worse by 0.075 with a tolerance of "
            "0.05 (mean of 2 institutions, 400 examples)");
}

TEST(EvaluationTest, ExamplesWeighTheReports) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 100, 0.60, 0.50));
  h.Do(Report("b", 900, 0.50, 0.50));
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST(EvaluationTest, HigherMayBeBetter) {
  RoundConfig config = LossRule();
  config.evaluation.rule = {"accuracy", true, 0.01};
  RoundHarness h = Evaluating(config);
  h.Do(EvaluationReported{"a", 10, {{"accuracy", 0.90}}, {{"accuracy", 0.92}}});
  h.Do(EvaluationReported{"b", 10, {{"accuracy", 0.90}}, {{"accuracy", 0.92}}});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
}

TEST(EvaluationTest, WithNothingToCompareWithItPromotesAndSaysSo) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(EvaluationReported{"a", 10, {{"loss", 0.7}}, {}});
  h.Do(EvaluationReported{"b", 10, {{"loss", 0.7}}, {}});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_THAT(h.Find<Alert>()->reason, HasSubstr("no value of loss"));
}

TEST(EvaluationTest, ARuleOnAMetricNobodyReportsDoesNotPromote) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(EvaluationReported{"a", 10, {{"los", 0.7}}, {}});
  h.Do(EvaluationReported{"b", 10, {{"los", 0.7}}, {}});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_THAT(h.state.reason, HasSubstr("no evaluation contains the metric"));
}

TEST(EvaluationTest, AtTheDeadlineTheQuorumDecides) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Do(Report("c", 10, 0.4, 0.5));
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);  // b contributed
  h.AdvanceAndTick(h.state.config.evaluation.deadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST(EvaluationTest, WithoutTheQuorumItRejectsAndNamesTheSilent) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Do(EvaluationDeclined{"c", "no split"});
  h.AdvanceAndTick(h.state.config.evaluation.deadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_EQ(h.state.reason,
            "1 of 2 evaluations needed; b did not report and c declined (no "
            "split)");
}

TEST(EvaluationTest, WithoutTheQuorumItMayPromoteByPolicy) {
  RoundConfig config = LossRule();
  config.evaluation.without_quorum = WithoutQuorum::kPromote;
  RoundHarness h = Evaluating(config);
  h.AdvanceAndTick(config.evaluation.deadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_NE(h.Find<Promote>(), nullptr);
  EXPECT_NE(h.Find<Alert>(), nullptr);
}

TEST(EvaluationTest, AnUnreachableQuorumEndsTheWaitAtOnce) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(EvaluationDeclined{"a", "busy"});
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  h.Do(EvaluationDeclined{"b", "busy"});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
}

TEST(EvaluationTest, AMemberMayReportAfterDeclining) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(EvaluationDeclined{"a", "busy"});
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Do(Report("b", 10, 0.4, 0.5));
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST(EvaluationTest, TheFirstReportCounts) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  EXPECT_THAT(h.Send(Report("a", 10, 9.0, 0.5)),
              IsOkAndHolds(Answer::kUnchanged));
  EXPECT_EQ(h.member("a").metrics.at("loss"), 0.4);
}

TEST(EvaluationTest, MalformedReportsAreRefusedAndNamed) {
  RoundHarness h = Evaluating(LossRule());
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(
      h.Send(Report("a", 0, 0.4, 0.5)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 examples")));
  EXPECT_THAT(
      h.Send(Report("a", 10, inf, 0.5)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loss is inf")));
  EXPECT_THAT(h.Send(Report("a", 10, 0.5, std::nan(""))),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(h.Send(EvaluationReported{"a", 10, {{"bad name", 1.0}}, {}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  std::map<std::string, double> many;
  for (int i = 0; i < 300; ++i) many["m" + std::to_string(i)] = i;
  EXPECT_THAT(
      h.Send(EvaluationReported{"a", 10, many, {}}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 256")));
}

TEST(EvaluationTest, ExtremeValuesNeverPromoteByOverflow) {
  RoundHarness h = Evaluating(LossRule());
  const double huge = std::numeric_limits<double>::max();
  h.Do(Report("a", 10, huge, -huge));
  h.Do(Report("b", 10, -huge, huge));
  EXPECT_NE(h.state.phase, RoundPhase::kEvaluating);
  h = Evaluating(LossRule());
  h.Do(Report("a", 10, huge, -huge));
  h.Do(Report("b", 10, huge, -huge));
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
}

TEST(EvaluationTest, CloseNowAndExtendActOnTheEvaluation) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  EXPECT_THAT(h.Send(CloseNow{}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("1 of 2 reports")));
  h.Do(Extend{h.now + absl::Hours(1)});
  EXPECT_EQ(h.wake, h.now + absl::Hours(1));
  h.Do(Report("c", 10, 0.4, 0.5));
  h.Do(CloseNow{});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST(EvaluationTest, ARemovedMemberIsNotWaitedFor) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Do(Report("c", 10, 0.4, 0.5));
  h.Do(MemberRemoved{"b", Removal::kSuspended, "audit"});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_EQ(h.member("b").state, MemberState::kCommitted);
}

TEST(EvaluationTest, RevocationTakesTheReportBack) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("c", 10, 0.4, 0.5));
  h.Do(MemberRemoved{"c", Removal::kRevoked, "stolen"});
  EXPECT_EQ(h.member("c").evaluation, EvaluationState::kDeclined);
  EXPECT_THAT(h.Send(Report("c", 10, 0.4, 0.5)),
              IsOkAndHolds(Answer::kRefused));
}

TEST(EvaluationTest, QuarantineAfterTheFoldRejectsTheCandidate) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(ContributionQuarantined{"b", "poisoned"});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_THAT(h.Find<Reject>()->reason, HasSubstr("b was quarantined"));
}

TEST(EvaluationTest, CancelAbandonsTheCandidate) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Cancel{"never mind"});
  EXPECT_EQ(h.state.phase, RoundPhase::kCancelled);
  EXPECT_EQ(h.Find<Abandon>()->candidate, 8);
}

TEST(EvaluationTest, ARestartTopsUp) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Advance(absl::Hours(5));
  h.Do(Restarted{});
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  EXPECT_EQ(h.member("b").evaluation, EvaluationState::kAsked);
  EXPECT_EQ(h.wake, h.now + h.state.config.grace);
}

TEST(EvaluationTest, ProgressOfAnEvaluationIsKept) {
  RoundHarness h = Evaluating(LossRule());
  h.Do(ProgressReported{"a", 0.5, "validating"});
  EXPECT_EQ(h.member("a").state, MemberState::kCommitted);
  EXPECT_EQ(h.member("a").progress, 0.5);
}

class EarlyPromotionTest : public ::testing::Test {
 protected:
  RoundHarness Begin(OnRegression action = OnRegression::kRollBack) {
    RoundConfig config = LossRule();
    config.promotion = Promotion::kImmediate;
    config.evaluation.on_regression = action;
    return Evaluating(config);
  }
};

TEST_F(EarlyPromotionTest, PromotesBeforeAskingAndLetsTheNextRoundOpen) {
  RoundHarness h = Begin();
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  EXPECT_EQ(h.Find<Promote>()->candidate, 8);
  EXPECT_TRUE(AllowsNextRound(h.state));
  h.Do(Report("a", 10, 0.4, 0.5));
  h.Do(Report("b", 10, 0.4, 0.5));
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_EQ(h.Find<Promote>(), nullptr);  // once is enough
}

TEST_F(EarlyPromotionTest, ARegressionRollsBack) {
  RoundHarness h = Begin();
  h.Do(Report("a", 10, 0.9, 0.5));
  h.Do(Report("b", 10, 0.9, 0.5));
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_EQ(h.Find<RollBack>()->candidate, 8);
  EXPECT_EQ(h.Find<Reject>(), nullptr);
  EXPECT_NE(h.Find<Alert>(), nullptr);
}

TEST_F(EarlyPromotionTest, ARegressionMayOnlyAlert) {
  RoundHarness h = Begin(OnRegression::kAlert);
  h.Do(Report("a", 10, 0.9, 0.5));
  h.Do(Report("b", 10, 0.9, 0.5));
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_EQ(h.Find<RollBack>(), nullptr);
  EXPECT_THAT(h.Find<Alert>()->reason, HasSubstr("worse by 0.4"));
}

TEST_F(EarlyPromotionTest, SilenceIsNoEvidenceAgainstIt) {
  RoundHarness h = Begin();
  h.AdvanceAndTick(h.state.config.evaluation.deadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_EQ(h.Find<RollBack>(), nullptr);
  EXPECT_NE(h.Find<Alert>(), nullptr);
}

TEST_F(EarlyPromotionTest, CancelIsTooLate) {
  RoundHarness h = Begin();
  EXPECT_THAT(h.Send(Cancel{"no"}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("already promoted version 8")));
}

TEST_F(EarlyPromotionTest, QuarantineTaintsButGoesOn) {
  RoundHarness h = Begin();
  h.Do(ContributionQuarantined{"b", "poisoned"});
  EXPECT_EQ(h.state.phase, RoundPhase::kEvaluating);
  EXPECT_EQ(h.Find<TaintVersion>()->version, 8);
  h.Do(Report("c", 10, 0.4, 0.5));
  h.Do(Report("a", 10, 0.4, 0.5));  // nobody waits for b
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST_F(EarlyPromotionTest, RollingBackTheVersionEndsItsEvaluation) {
  RoundHarness h = Begin();
  h.Do(BaseAbandoned{8, "users complain"});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  // It was in use: whoever rolled it back has said what it is now.
  EXPECT_EQ(h.Find<Abandon>()->candidate, std::nullopt);
  h = Begin();
  h.Do(BaseAbandoned{7, "users complain"});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
}

}  // namespace
}  // namespace consilium

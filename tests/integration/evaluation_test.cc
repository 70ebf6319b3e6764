// Institutions judge a candidate on their own data; policy decides by it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Policy kJudged = {{"evaluation.enabled", "true"},
                        {"evaluation.quorum", "2"},
                        {"evaluation.deadline", "5m"},
                        {"evaluation.rule.metric", "accuracy"},
                        {"evaluation.rule.higher_is_better", "true"},
                        {"evaluation.rule.tolerance", "0.01"}};

double Metric(const v1::VersionInfo& version, const std::string& name) {
  for (const v1::NamedValue& metric : version.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  ADD_FAILURE() << name << " is not known of version "
                << version.version().number();
  return 0;
}

uint64_t RunUntilEvaluation(TimedFederation& f, float value = 1) {
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], value);
  Contribute(f["bank-b"], value);
  const v1::RoundInfo round = f->WaitForPhase(id, "evaluating");
  EXPECT_EQ(round.phase(), "evaluating") << round.reason();
  return id;
}

TEST(EvaluationTest, WeightedMeansAreKept) {
  TimedFederation f(kJudged, {"bank-a", "bank-b"});
  const uint64_t id = RunUntilEvaluation(f);
  // Not served before the verdict, and the round says what it waits for.
  EXPECT_EQ(f->engine().current_version()->number, 0);
  Evaluate(f["bank-a"], 300, {{"accuracy", 0.9}, {"loss", 0.5}});
  const v1::RoundInfo waiting = RoundOf(*f, id);
  EXPECT_THAT(waiting.waiting_for(), AllOf(HasSubstr("bank-b: evaluating"),
                                           HasSubstr("1 of the quorum of 2")));
  EXPECT_TRUE(Member(waiting, "bank-a").evaluated());
  EXPECT_THAT(TryStartRound(*f), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("evaluating")));
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.5}, {"loss", 1.5}});
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  const v1::VersionInfo version = VersionOf(*f, 1);
  EXPECT_TRUE(version.current());
  EXPECT_DOUBLE_EQ(Metric(version, "accuracy"), 0.8);
  EXPECT_DOUBLE_EQ(Metric(version, "loss"), 0.75);
  // Also after a restart: it is in the store.
  f->Restart();
  EXPECT_DOUBLE_EQ(Metric(VersionOf(*f, 1), "accuracy"), 0.8);
}

TEST(EvaluationTest, AWorseCandidateIsRejected) {
  TimedFederation f(kJudged, {"bank-a", "bank-b"});
  RunUntilEvaluation(f);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.90}});
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.80}});
  const uint64_t id = RunUntilEvaluation(f, -7);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.70}});
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.81}});
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "rejected");
  EXPECT_THAT(end.reason(), HasSubstr("accuracy went from 0.85 to 0.755"));
  EXPECT_EQ(f->engine().current_version()->number, 1);
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 1.0f);
  const v1::VersionInfo refused = VersionOf(*f, 2);
  EXPECT_EQ(refused.state(), "rejected");
  EXPECT_THAT(refused.reason(), HasSubstr("accuracy"));
  // The next round begins from what is served.
  EXPECT_EQ(RoundOf(*f, f->StartRound()).base().number(), 1u);
}

TEST(EvaluationTest, WithinTheToleranceItIsPromoted) {
  TimedFederation f(kJudged, {"bank-a", "bank-b"});
  RunUntilEvaluation(f);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.90}});
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.90}});
  const uint64_t id = RunUntilEvaluation(f);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.895}});
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.895}});
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
}

TEST(EvaluationTest, TheQuorumMissedAtTheDeadlineIsARejection) {
  TimedFederation f(kJudged, {"bank-a", "bank-b"});
  const uint64_t id = RunUntilEvaluation(f);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.9}});
  f.Advance(absl::Minutes(5));
  const v1::RoundInfo end = RoundOf(*f, id);
  EXPECT_EQ(end.phase(), "rejected");
  EXPECT_THAT(end.reason(), AllOf(HasSubstr("1 of 2 evaluations needed"),
                                  HasSubstr("bank-b did not report")));
  EXPECT_EQ(f->engine().current_version()->number, 0);
}

TEST(EvaluationTest, PolicyMayPromoteWithoutTheQuorum) {
  Policy policy = kJudged;
  policy["evaluation.without_quorum"] = "promote";
  TimedFederation f(policy, {"bank-a", "bank-b"});
  const uint64_t id = RunUntilEvaluation(f);
  // The quorum is out of reach: there is nothing to wait for.
  ASSERT_OK(f["bank-a"].Decline(WaitForEvaluation(f["bank-a"]), "no data"));
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted");
  EXPECT_THAT(end.reason(), HasSubstr("bank-a declined (no data)"));
}

// One that does not report is waited for until the deadline, not longer, and
// only because it contributed.
TEST(EvaluationTest, TheDeadlineEndsTheWaitForTheOthers) {
  Policy policy = kJudged;
  policy["evaluation.quorum"] = "1";
  TimedFederation f(policy, {"bank-a", "bank-b"});
  const uint64_t id = RunUntilEvaluation(f);
  const client::EvaluateTask late = WaitForEvaluation(f["bank-b"]);
  Evaluate(f["bank-a"], 100, {{"accuracy", 0.9}});
  EXPECT_EQ(RoundOf(*f, id).phase(), "evaluating");
  f.Advance(absl::Minutes(5));
  EXPECT_EQ(RoundOf(*f, id).phase(), "promoted");
  const auto refused =
      f["bank-b"].ReportEvaluation(late, 100, {{"accuracy", 0.1}});
  ASSERT_THAT(refused, IsOk());
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ((*refused)->code, client::RefusalCode::kLate);
}

TEST(EvaluationTest, ItSurvivesARestart) {
  TimedFederation f(kJudged, {"bank-a", "bank-b"});
  const uint64_t id = RunUntilEvaluation(f);
  Evaluate(f["bank-a"], 300, {{"accuracy", 0.9}});
  f->Restart();
  EXPECT_EQ(RoundOf(*f, id).phase(), "evaluating");
  Evaluate(f["bank-b"], 100, {{"accuracy", 0.5}});
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_DOUBLE_EQ(Metric(VersionOf(*f, 1), "accuracy"), 0.8);
}

TEST(EvaluationTest, APlanNamesAQuorumThatCannotBeMet) {
  Policy policy = kJudged;
  policy["evaluation.quorum"] = "3";
  TimedFederation f(policy, {"bank-a", "bank-b"});
  const auto plan = f->engine().PlanNextRound({}, {});
  ASSERT_THAT(plan, IsOk());
  ASSERT_EQ(plan->problems.size(), 1u);
  EXPECT_THAT(plan->problems.front(), HasSubstr("evaluation quorum is 3"));
  EXPECT_THAT(TryStartRound(*f),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace consilium

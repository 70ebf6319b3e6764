// Promotion before the verdict, rollback, and what becomes of rounds on a
// version that is abandoned.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Policy kImmediate = {{"promotion", "immediate"},
                           {"evaluation.enabled", "true"},
                           {"evaluation.quorum", "2"},
                           {"evaluation.deadline", "5m"},
                           {"evaluation.rule.metric", "loss"}};

int64_t Served(TimedFederation& f) {
  return f->engine().current_version()->number;
}

void ContributeBoth(TimedFederation& f, float value) {
  Contribute(f["bank-a"], value);
  Contribute(f["bank-b"], value);
}

// Version 1, served, with a loss of 0.5 at both.
void MakeVersionOne(TimedFederation& f) {
  const uint64_t id = f->StartRound();
  ContributeBoth(f, 1);
  Evaluate(f["bank-a"], 100, {{"loss", 0.5}});
  Evaluate(f["bank-b"], 100, {{"loss", 0.5}});
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
}

// Round 2 made version 2, which is served and under evaluation.
uint64_t ServeVersionTwo(TimedFederation& f) {
  const uint64_t id = f->StartRound();
  ContributeBoth(f, 1);
  EXPECT_EQ(f->WaitForPhase(id, "evaluating").phase(), "evaluating");
  EXPECT_EQ(Served(f), 2);
  return id;
}

TEST(PromotionTest, EvaluationOverlapsTheNextRound) {
  TimedFederation f(kImmediate, {"bank-a", "bank-b"});
  MakeVersionOne(f);
  const uint64_t judged = ServeVersionTwo(f);
  const uint64_t next = f->StartRound();
  EXPECT_EQ(RoundOf(*f, next).base().number(), 2u);
  // Each judges version 2 and then trains for round 3.
  Evaluate(f["bank-a"], 100, {{"loss", 0.4}});
  Contribute(f["bank-a"], 1);
  EXPECT_EQ(RoundOf(*f, judged).phase(), "evaluating");
  EXPECT_EQ(RoundOf(*f, next).phase(), "collecting");
  f->Restart();  // both rounds are resumed
  EXPECT_EQ(Served(f), 2);
  Evaluate(f["bank-b"], 100, {{"loss", 0.4}});
  EXPECT_EQ(f->WaitForEnd(judged).phase(), "promoted");
  Contribute(f["bank-b"], 1);
  EXPECT_EQ(f->WaitForPhase(next, "evaluating").phase(), "evaluating");
  EXPECT_EQ(Served(f), 3);
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 3.0f);
}

TEST(PromotionTest, ARegressionRollsBackAndEndsTheRoundBuiltOnIt) {
  TimedFederation f(kImmediate, {"bank-a", "bank-b"});
  MakeVersionOne(f);
  const uint64_t judged = ServeVersionTwo(f);
  const uint64_t next = f->StartRound();
  Evaluate(f["bank-a"], 100, {{"loss", 0.9}});
  const client::TrainTask task = WaitForTask(f["bank-a"]);
  Evaluate(f["bank-b"], 100, {{"loss", 0.9}});
  EXPECT_EQ(f->WaitForEnd(judged).phase(), "rejected");
  const v1::RoundInfo ended = RoundOf(*f, next);
  EXPECT_EQ(ended.phase(), "cancelled");
  EXPECT_THAT(ended.reason(), AllOf(HasSubstr("base version 2 was abandoned"),
                                    HasSubstr("loss went from 0.5 to 0.9")));
  ExpectRefusal(SubmitConstant(f["bank-a"], task, 1, 1),
                client::RefusalCode::kLate);
  EXPECT_EQ(Served(f), 1);
  EXPECT_EQ(VersionOf(*f, 2).state(), "rolled_back");
  EXPECT_EQ(RoundOf(*f, f->StartRound()).base().number(), 1u);
}

// The verdict comes when the next version is already made from the bad one.
TEST(PromotionTest, ARegressionTakesWhatWasBuiltOnItAlong) {
  TimedFederation f(kImmediate, {"bank-a", "bank-b"});
  MakeVersionOne(f);
  const uint64_t judged = ServeVersionTwo(f);
  const client::EvaluateTask verdict = WaitForEvaluation(f["bank-b"]);
  const uint64_t next = f->StartRound();
  Evaluate(f["bank-a"], 100, {{"loss", 0.9}});
  Contribute(f["bank-a"], 1);
  ASSERT_OK(SetPolicy(*f, {{"quorum", "1"}}));
  ASSERT_OK(f["bank-b"].Decline(verdict, "later"));
  // One of two reports: the quorum is missed and silence is no evidence, so
  // the version stays.
  EXPECT_EQ(f->WaitForEnd(judged).phase(), "promoted");
  Contribute(f["bank-b"], 1);
  EXPECT_EQ(f->WaitForPhase(next, "evaluating").phase(), "evaluating");
  const uint64_t last = f->StartRound();
  EXPECT_EQ(RoundOf(*f, last).base().number(), 3u);
  // Version 3 turns out bad while round 4 trains on it.
  Evaluate(f["bank-a"], 100, {{"loss", 5}});
  Evaluate(f["bank-b"], 100, {{"loss", 5}});
  const v1::RoundInfo end = f->WaitForEnd(next);
  EXPECT_EQ(end.phase(), "rejected") << end.reason();
  EXPECT_EQ(RoundOf(*f, last).phase(), "cancelled");
  EXPECT_EQ(Served(f), 2);
}

TEST(PromotionTest, AlertKeepsTheVersion) {
  Policy policy = kImmediate;
  policy["evaluation.on_regression"] = "alert";
  TimedFederation f(policy, {"bank-a", "bank-b"});
  MakeVersionOne(f);
  const uint64_t judged = ServeVersionTwo(f);
  Evaluate(f["bank-a"], 100, {{"loss", 0.9}});
  Evaluate(f["bank-b"], 100, {{"loss", 0.9}});
  const v1::RoundInfo end = f->WaitForEnd(judged);
  EXPECT_EQ(end.phase(), "promoted");
  EXPECT_THAT(end.reason(), HasSubstr("loss went from 0.5 to 0.9"));
  EXPECT_EQ(Served(f), 2);
}

TEST(PromotionTest, RollbackEndsRoundsOnWhatItAbandons) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  for (int i = 0; i < 2; ++i) {
    const uint64_t id = f->StartRound();
    ContributeBoth(f, 1);
    ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  }
  const uint64_t open = f->StartRound();
  HeldSubmit held(f["bank-a"], WaitForTask(f["bank-a"]), 1, 1);
  ASSERT_OK(f->engine().RollbackVersion("op", 0, "worse at bank-a"));
  const v1::RoundInfo ended = RoundOf(*f, open);
  EXPECT_EQ(ended.phase(), "cancelled");
  EXPECT_EQ(ended.reason(),
            "base version 2 was abandoned: rolled back to version 0: worse at "
            "bank-a");
  EXPECT_THAT(ExpectRefusal(held.Finish(), client::RefusalCode::kLate),
              HasSubstr("cancelled"));
  EXPECT_EQ(VersionOf(*f, 1).state(), "rolled_back");
  EXPECT_EQ(VersionOf(*f, 2).state(), "rolled_back");
  EXPECT_EQ(Served(f), 0);
  f->Restart();
  EXPECT_EQ(Served(f), 0);
  // And it goes on from there.
  const uint64_t id = f->StartRound();
  ContributeBoth(f, 5);
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 5.0f);
}

TEST(PromotionTest, RollingBackAVersionUnderEvaluationEndsItsRound) {
  TimedFederation f(kImmediate, {"bank-a", "bank-b"});
  MakeVersionOne(f);
  const uint64_t judged = ServeVersionTwo(f);
  ASSERT_OK(f->engine().RollbackVersion("op", 1, "users complain"));
  const v1::RoundInfo end = RoundOf(*f, judged);
  EXPECT_EQ(end.phase(), "rejected");
  EXPECT_THAT(end.reason(), HasSubstr("users complain"));
  EXPECT_EQ(VersionOf(*f, 2).state(), "rolled_back");
  EXPECT_EQ(Served(f), 1);
}

TEST(PromotionTest, OnlyVersionsThatWereServedCanBeRolledBackTo) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  EXPECT_THAT(f->engine().RollbackVersion("op", 0, ""),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is the current one")));
  EXPECT_THAT(f->engine().RollbackVersion("op", 7, ""),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace consilium

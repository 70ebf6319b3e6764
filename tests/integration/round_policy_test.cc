// When a round closes, with whom, and what it says of those who are missing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kDeadline = absl::Minutes(10);
constexpr absl::Duration kGrace = absl::Minutes(1);

std::vector<std::string> Cohort(const v1::RoundInfo& round) {
  std::vector<std::string> names;
  for (const v1::MemberInfo& m : round.members()) {
    names.push_back(m.institution());
  }
  return names;
}

TEST(RoundPolicyTest, ARoundWithoutItsQuorumSaysWhoIsMissingAndWhy) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c", "bank-d"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  const client::TrainTask task = WaitForTask(f["bank-b"]);
  ASSERT_THAT(f["bank-b"].ReportProgress(task, 0.4, "epoch 2 of 5"),
              IsOkAndHolds(true));
  ASSERT_OK(f["bank-d"].Decline(WaitForTask(f["bank-d"]), "no new data"));
  // It waits for as long as it said, and says what for.
  f.Advance(kDeadline - absl::Seconds(1));
  const v1::RoundInfo waiting = RoundOf(*f, id);
  EXPECT_EQ(waiting.phase(), "collecting");
  EXPECT_THAT(
      waiting.waiting_for(),
      AllOf(HasSubstr("bank-b: training 40 % (epoch 2 of 5)"),
            HasSubstr("bank-c: not heard from"),
            HasSubstr("1 of the quorum of 2"),
            HasSubstr("at the latest in 1.0s"), Not(HasSubstr("bank-d"))));
  f.Advance(absl::Seconds(1));
  const v1::RoundInfo end = RoundOf(*f, id);
  EXPECT_EQ(end.phase(), "failed");
  EXPECT_THAT(end.reason(),
              AllOf(HasSubstr("1 of 2 contributions needed"),
                    HasSubstr("bank-b missing (the deadline passed; training "
                              "40 % (epoch 2 of 5))"),
                    HasSubstr("bank-c missing (the deadline passed; not heard "
                              "from)"),
                    HasSubstr("bank-d declined (no new data)")));
  EXPECT_EQ(Member(end, "bank-a").state(), "committed");
  EXPECT_EQ(Member(end, "bank-b").state(), "missing");
  // Training on would be in vain, and a late result gets a typed answer.
  EXPECT_THAT(f["bank-b"].ReportProgress(task, 0.5, ""), IsOkAndHolds(false));
  EXPECT_THAT(ExpectRefusal(SubmitConstant(f["bank-b"], task, 1, 1),
                            client::RefusalCode::kLate),
              HasSubstr("round 1 is over: failed"));
  EXPECT_EQ(f->engine().current_version()->number, 0);
}

TEST(RoundPolicyTest, AQuorumOutOfReachFailsAtOnce) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  ASSERT_OK(f["bank-b"].Decline(WaitForTask(f["bank-b"]), "audit week"));
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "failed");
  EXPECT_THAT(end.reason(), HasSubstr("bank-b declined (audit week)"));
}

TEST(RoundPolicyTest, GraceIsForUploadsThatHaveBegun) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  const client::TrainTask late = WaitForTask(f["bank-c"]);
  HeldSubmit slow(f["bank-b"], WaitForTask(f["bank-b"]), 3, 100);
  f.Advance(kDeadline);
  const v1::RoundInfo waiting = RoundOf(*f, id);
  EXPECT_EQ(waiting.phase(), "collecting");
  EXPECT_THAT(waiting.waiting_for(), HasSubstr("grace after the deadline"));
  // One that begins now is late; it does not end the wait for the other.
  EXPECT_THAT(ExpectRefusal(SubmitConstant(f["bank-c"], late, 5, 100),
                            client::RefusalCode::kLate),
              HasSubstr("round 1"));
  f.Advance(kGrace - absl::Seconds(1));
  ExpectReceipt(slow.Finish());
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(end.contributions(), 2u);
  EXPECT_EQ(Member(end, "bank-c").state(), "missing");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 2.0f);
}

TEST(RoundPolicyTest, GraceEnds) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  HeldSubmit slow(f["bank-b"], WaitForTask(f["bank-b"]), 3, 100);
  f.Advance(kDeadline);
  f.Advance(kGrace);
  const v1::RoundInfo end = RoundOf(*f, id);
  EXPECT_EQ(end.phase(), "failed");
  EXPECT_THAT(end.reason(), HasSubstr("bank-b missing"));
  ExpectRefusal(slow.Finish(), client::RefusalCode::kLate);
}

TEST(RoundPolicyTest, TooFewExamplesDoNotHoldUpTheRound) {
  TimedFederation f({{"minimum_examples", "50"}},
                    {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  client::TrainTask task = WaitForTask(f["bank-c"]);
  EXPECT_EQ(task.min_examples, 50u);
  EXPECT_THAT(SubmitConstant(f["bank-c"], task, 1, 49).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("decline it instead")));
  task.min_examples = 0;  // a client that does not look
  EXPECT_THAT(ExpectRefusal(SubmitConstant(f["bank-c"], task, 1, 49),
                            client::RefusalCode::kQuarantined),
              HasSubstr("49 examples, at least 50 are required"));
  Contribute(f["bank-a"], 1, 50);
  Contribute(f["bank-b"], 3, 50);
  // Nobody waits for the third: time stands still.
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(end.contributions(), 2u);
  EXPECT_EQ(Member(end, "bank-c").state(), "failed");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 2.0f);
}

TEST(RoundPolicyTest, OverSelectionInvitesSparesAndClosesAtTheTarget) {
  TimedFederation f({{"target", "2"}, {"over_selection", "1"}},
                    {"bank-a", "bank-b", "bank-c", "bank-d"});
  const uint64_t first = f->StartRound();
  EXPECT_THAT(Cohort(RoundOf(*f, first)),
              ElementsAre("bank-a", "bank-b", "bank-c"));
  const client::TrainTask spare = WaitForTask(f["bank-a"]);
  Contribute(f["bank-b"], 1);
  Contribute(f["bank-c"], 1);
  const v1::RoundInfo end = f->WaitForEnd(first);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_THAT(Member(end, "bank-a").reason(), HasSubstr("target of 2"));
  ExpectRefusal(SubmitConstant(f["bank-a"], spare, 1, 1),
                client::RefusalCode::kLate);
  // Whoever has waited longest is invited first.
  const uint64_t second = f->StartRound();
  EXPECT_THAT(Cohort(RoundOf(*f, second)),
              ElementsAre("bank-a", "bank-b", "bank-d"));
}

TEST(RoundPolicyTest, OneThatFailsDoesNotFailTheOthers) {
  TimedFederation f(
      {{"maximum_norm", "1e6"}},
      {"bank-a", "bank-b", "crashes", "declines", "explodes", "vanishes"});
  const uint64_t id = f->StartRound();
  ASSERT_OK(f["declines"].Decline(WaitForTask(f["declines"]), "busy"));
  EXPECT_THAT(
      ExpectRefusal(
          SubmitConstant(f["explodes"], WaitForTask(f["explodes"]), 1e9f, 10),
          client::RefusalCode::kQuarantined),
      HasSubstr("norm"));
  {
    HeldSubmit dying(f["crashes"], WaitForTask(f["crashes"]), 7, 10);
    dying.Die();
  }
  WaitForTask(f["vanishes"]);
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 2);
  EXPECT_EQ(RoundOf(*f, id).phase(), "collecting");
  f.Advance(kDeadline);
  EXPECT_EQ(RoundOf(*f, id).phase(), "collecting");  // grace for the upload
  f.Advance(kGrace);
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(end.contributions(), 2u);
  EXPECT_EQ(Member(end, "declines").state(), "declined");
  EXPECT_EQ(Member(end, "explodes").state(), "failed");
  EXPECT_EQ(Member(end, "crashes").state(), "missing");
  EXPECT_EQ(Member(end, "vanishes").state(), "missing");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 1.5f);
  // Who crashed comes back: its contribution is late, and it hears so.
  const auto resumed = f["crashes"].ResumePending();
  ASSERT_THAT(resumed, IsOk());
  ASSERT_EQ(resumed->size(), 1u);
  const auto* refused = std::get_if<client::Refused>(&resumed->front().outcome);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->code, client::RefusalCode::kLate) << refused->message;
}

TEST(RoundPolicyTest, WithTheQuorumItWaitsForOthersOnlySoLong) {
  TimedFederation f({{"wait_after_quorum", "30s"}},
                    {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  f.Advance(absl::Minutes(2));
  Contribute(f["bank-b"], 1);
  f.Advance(absl::Seconds(29));
  EXPECT_EQ(RoundOf(*f, id).phase(), "collecting");
  f.Advance(absl::Seconds(1));
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
}

TEST(RoundPolicyTest, OperatorsExtendCloseAndCancel) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  ASSERT_OK(f->engine().ExtendRound("op", static_cast<int64_t>(id),
                                    absl::Minutes(5), "bank-b is slow"));
  EXPECT_THAT(f->engine().CloseRound("op", static_cast<int64_t>(id), ""),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("1 of 2 contributions")));
  f.Advance(kDeadline);
  EXPECT_EQ(RoundOf(*f, id).phase(), "collecting");
  Contribute(f["bank-b"], 1);
  ASSERT_OK(f->engine().CloseRound("op", static_cast<int64_t>(id), "enough"));
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  const uint64_t next = f->StartRound();
  HeldSubmit held(f["bank-a"], WaitForTask(f["bank-a"]), 1, 1);
  ASSERT_OK(f->engine().CancelRound("op", static_cast<int64_t>(next), "oops"));
  EXPECT_EQ(RoundOf(*f, next).reason(), "oops");
  EXPECT_THAT(ExpectRefusal(held.Finish(), client::RefusalCode::kLate),
              HasSubstr("cancelled"));
}

// A deadline that ran out while the coordinator was down is no reason to lose
// what an institution has ready.
TEST(RoundPolicyTest, DowntimeDoesNotEatTheDeadline) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  HeldSubmit slow(f["bank-b"], WaitForTask(f["bank-b"]), 3, 100);
  f->Stop();
  f.AdvanceStopped(kDeadline * 2);
  f->StartAgain();
  EXPECT_EQ(RoundOf(*f, id).phase(), "collecting");
  ExpectReceipt(slow.Finish());
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 2.0f);
}

}  // namespace
}  // namespace consilium

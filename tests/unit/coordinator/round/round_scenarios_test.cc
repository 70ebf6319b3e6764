// The pains a round must survive: stragglers, crashes, refusals, revocation,
// operators, clocks.

#include <string>
#include <vector>

#include "coordinator/round/round_machine.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kDeadline = absl::Minutes(60);
constexpr absl::Duration kGrace = absl::Minutes(2);

RoundHarness Opened(int64_t quorum = 2, int64_t target = 0) {
  RoundConfig config;
  config.quorum = quorum;
  config.target = target;
  config.deadline = kDeadline;
  config.grace = kGrace;
  config.evaluation.enabled = false;
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  return h;
}

TEST(RoundScenario, AllContributeAndTheVersionIsPromoted) {
  RoundHarness h = Opened();
  EXPECT_EQ(h.wake, h.now + kDeadline);
  for (const char* name : {"c", "a"}) h.Upload(name);
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  h.Upload("b");
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  const auto* fold = h.Find<BeginFold>();
  ASSERT_NE(fold, nullptr);
  EXPECT_THAT(fold->institutions, ElementsAre("a", "b", "c"));
  EXPECT_EQ(h.state.closed_at, h.now);
  h.Do(FoldFinished{fold->run, 8, 5, {"expert/0/3"}});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  ASSERT_NE(h.Find<Promote>(), nullptr);
  EXPECT_EQ(h.Find<Promote>()->candidate, 8);
  EXPECT_THAT(h.state.held_groups, ElementsAre("expert/0/3"));
  EXPECT_EQ(h.state.finished_at, h.now);
}

TEST(RoundScenario, AStragglerDelaysOnlyUntilTheDeadline) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.Do(ProgressReported{"c", 0.05, "epoch 1 of 20"});
  h.Advance(kDeadline - absl::Microseconds(1));
  h.Do(Tick{});
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  h.AdvanceAndTick(absl::Microseconds(1));
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_EQ(h.member("c").state, MemberState::kMissing);
  EXPECT_THAT(h.member("c").reason,
              HasSubstr("the deadline passed; training 5 % (epoch 1 of 20)"));
  EXPECT_THAT(h.Find<BeginFold>()->institutions, ElementsAre("a", "b"));

  EXPECT_THAT(h.Send(UploadBegan{"c"}), IsOkAndHolds(Answer::kLate));
  EXPECT_THAT(h.text, HasSubstr("round 12 closed to contributions at"));
  EXPECT_THAT(h.Send(ContributionCommitted{"c", 10}),
              IsOkAndHolds(Answer::kLate));
  EXPECT_THAT(h.Send(ProgressReported{"c", 0.1, ""}),
              IsOkAndHolds(Answer::kLate));
}

TEST(RoundScenario, AnUploadBegunInTimeGetsTheGrace) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.Do(UploadBegan{"c"});
  h.AdvanceAndTick(kDeadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  EXPECT_EQ(h.wake, *h.state.deadline + kGrace);
  h.Advance(kGrace - absl::Seconds(1));
  h.Do(ContributionCommitted{"c", 100});
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_EQ(h.Find<BeginFold>()->institutions.size(), 3u);
}

TEST(RoundScenario, TheGraceEndsAndCutsTheUpload) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.Do(UploadBegan{"c"});
  h.AdvanceAndTick(kDeadline);
  h.AdvanceAndTick(kGrace);
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  ASSERT_NE(h.Find<CancelUploads>(), nullptr);
  EXPECT_THAT(h.Find<CancelUploads>()->institutions, ElementsAre("c"));
}

TEST(RoundScenario, NoUploadBeginsDuringTheGrace) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Do(ProgressReported{"c", 0.9, ""});
  h.Advance(kDeadline);
  EXPECT_FALSE(TakesUploads(h.state, h.now));
  EXPECT_THAT(h.Send(UploadBegan{"c"}), IsOkAndHolds(Answer::kLate));
  EXPECT_THAT(h.text, HasSubstr("took new uploads until"));
  // b was cut off and comes back: that upload began in time.
  h.Do(UploadLost{"b", "connection reset"});
  h.Do(UploadBegan{"b"});
  h.Do(ContributionCommitted{"b", 10});
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_EQ(h.member("c").state, MemberState::kMissing);
}

TEST(RoundScenario, ACommitAfterTheGraceIsLateEvenWithoutATick) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.Do(UploadBegan{"c"});
  h.Advance(kDeadline + kGrace);
  EXPECT_THAT(h.Send(ContributionCommitted{"c", 100}),
              IsOkAndHolds(Answer::kLate));
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_THAT(h.Find<BeginFold>()->institutions, ElementsAre("a", "b"));
}

TEST(RoundScenario, OneCrashDoesNotFailARoundWithItsQuorum) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(Declined{"c", "CUDA out of memory"});
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  h.Upload("b");
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
}

TEST(RoundScenario, AMemberThatGaveUpMayComeBackInTime) {
  RoundHarness h = Opened();
  h.Do(Declined{"c", "power cut"});
  h.Do(ProgressReported{"c", 0.0, ""});
  EXPECT_EQ(h.member("c").state, MemberState::kTraining);
  EXPECT_EQ(h.member("c").reason, "");
  h.Upload("c");
  EXPECT_EQ(h.member("c").state, MemberState::kCommitted);
}

TEST(RoundScenario, FailsAtOnceWhenTheQuorumIsOutOfReach) {
  RoundHarness h = Opened(3);
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Do(Declined{"c", "no data\nthis week"});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_EQ(h.state.reason,
            "1 of 3 contributions needed; b missing (the round failed; "
            "uploading) and c declined (no data this week)");
  EXPECT_THAT(h.Find<CancelUploads>()->institutions, ElementsAre("b"));
  EXPECT_TRUE(AllowsNextRound(h.state));
}

TEST(RoundScenario, WithoutQuorumTheDeadlineFailsItAndNamesTheMissing) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(ProgressReported{"b", 0.4, ""});
  h.AdvanceAndTick(kDeadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_THAT(h.state.reason, HasSubstr("1 of 2 contributions needed"));
  EXPECT_THAT(h.state.reason, HasSubstr("b missing (the deadline passed; "
                                        "training 40 %)"));
  EXPECT_THAT(h.state.reason, HasSubstr("c missing (the deadline passed; "
                                        "not heard from)"));
}

TEST(RoundScenario, WithoutQuorumTheGraceWaitsForUploadsThatCanMakeIt) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.AdvanceAndTick(kDeadline);
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  h.AdvanceAndTick(kGrace);
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);

  h = Opened(3);
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.AdvanceAndTick(kDeadline);  // 1 + 1 can never be 3
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
}

TEST(RoundScenario, TheTargetClosesWithoutWaiting) {
  RoundHarness h = Opened(1, 2);
  h.Upload("b");
  h.Do(UploadBegan{"c"});
  h.Upload("a");
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_THAT(h.Find<BeginFold>()->institutions, ElementsAre("a", "b"));
  EXPECT_THAT(h.member("c").reason, HasSubstr("target of 2"));
}

TEST(RoundScenario, AfterTheQuorumStragglersGetOnlySoLong) {
  RoundConfig config;
  config.wait_after_quorum = absl::Minutes(5);
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  h.Upload("a");
  h.Advance(absl::Minutes(10));
  h.Upload("b");
  EXPECT_EQ(h.wake, h.now + absl::Minutes(5));
  // The quorum is lost and found again: the wait starts anew.
  h.Advance(absl::Minutes(4));
  h.Do(ContributionQuarantined{"b", "norm"});
  EXPECT_EQ(h.wake, *h.state.opened_at + config.deadline);
  h.Do(ContributionReleased{"b"});
  EXPECT_EQ(h.wake, h.now + absl::Minutes(5));
  h.AdvanceAndTick(absl::Minutes(5));
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
}

TEST(RoundScenario, ExtendOverridesTheWaitAfterTheQuorum) {
  RoundConfig config;
  config.wait_after_quorum = absl::Minutes(5);
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  h.Upload("a");
  h.Upload("b");
  h.Do(Extend{h.now + absl::Hours(2)});
  EXPECT_EQ(h.wake, h.now + absl::Hours(2));
  h.AdvanceAndTick(absl::Minutes(90));
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
}

TEST(RoundScenario, ExtendInTheGraceReopensTheWindow) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.AdvanceAndTick(kDeadline);
  EXPECT_FALSE(TakesUploads(h.state, h.now));
  h.Do(Extend{h.now + absl::Minutes(30)});
  EXPECT_TRUE(TakesUploads(h.state, h.now));
  h.Do(UploadBegan{"c"});
}

TEST(RoundScenario, CloseNowNeedsTheQuorum) {
  RoundHarness h = Opened();
  h.Upload("a");
  EXPECT_THAT(h.Send(CloseNow{}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("1 of 2 contributions")));
  h.Upload("b");
  h.Do(UploadBegan{"c"});
  h.Do(CloseNow{});
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_THAT(h.member("c").reason, HasSubstr("an operator closed the round"));
}

TEST(RoundScenario, TooFewExamplesAreRefused) {
  RoundConfig config;
  config.minimum_examples = 50;
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  h.Do(UploadBegan{"a"});
  EXPECT_THAT(h.Send(ContributionCommitted{"a", 49}),
              IsOkAndHolds(Answer::kRefused));
  EXPECT_THAT(h.text, HasSubstr("49 examples, at least 50"));
  EXPECT_EQ(h.member("a").state, MemberState::kFailed);
  h.Upload("a", 50);
  EXPECT_EQ(h.member("a").examples, 50);
}

TEST(RoundScenario, CommittingTwiceChangesNothing) {
  RoundHarness h = Opened();
  h.Upload("a", 10);
  EXPECT_THAT(h.Send(ContributionCommitted{"a", 999}),
              IsOkAndHolds(Answer::kUnchanged));
  EXPECT_THAT(h.Send(UploadBegan{"a"}), IsOkAndHolds(Answer::kUnchanged));
  EXPECT_EQ(h.member("a").examples, 10);
  EXPECT_THAT(h.Send(Declined{"a", "changed my mind"}),
              IsOkAndHolds(Answer::kRefused));
}

TEST(RoundScenario, AQuarantinedMemberStaysOutUntilReleased) {
  RoundHarness h = Opened();
  h.Upload("a", 10);
  h.Do(ContributionQuarantined{"a", "norm 99 exceeds 10"});
  EXPECT_EQ(h.member("a").state, MemberState::kFailed);
  EXPECT_THAT(h.Send(UploadBegan{"a"}), IsOkAndHolds(Answer::kRefused));
  EXPECT_THAT(h.text, HasSubstr("norm 99 exceeds 10"));
  h.Do(ContributionReleased{"a"});
  EXPECT_EQ(h.member("a").state, MemberState::kCommitted);
  EXPECT_EQ(h.member("a").examples, 10);

  // Quarantined while still uploading: there is nothing to release.
  h.Do(UploadBegan{"b"});
  h.Do(ContributionQuarantined{"b", "NaN in slot 3"});
  EXPECT_THAT(h.Find<CancelUploads>()->institutions, ElementsAre("b"));
  EXPECT_THAT(h.Send(ContributionReleased{"b"}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(RoundScenario, RevocationTakesTheContributionWithIt) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(MemberRemoved{"a", Removal::kRevoked, "key stolen"});
  EXPECT_EQ(h.member("a").state, MemberState::kRemoved);
  ASSERT_NE(h.Find<QuarantineContribution>(), nullptr);
  EXPECT_EQ(h.Find<QuarantineContribution>()->institution, "a");
  EXPECT_THAT(h.Send(UploadBegan{"a"}), IsOkAndHolds(Answer::kRefused));
  h.Do(UploadBegan{"b"});
  h.Do(MemberRemoved{"b", Removal::kRevoked, ""});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_THAT(h.Find<CancelUploads>()->institutions, ElementsAre("b"));
}

TEST(RoundScenario, SuspensionLetsStartedWorkFinish) {
  RoundHarness h = Opened();
  h.Do(UploadBegan{"a"});
  h.Do(MemberRemoved{"a", Removal::kSuspended, "audit"});
  h.Do(MemberRemoved{"b", Removal::kSuspended, "audit"});
  EXPECT_EQ(h.member("b").state, MemberState::kRemoved);
  EXPECT_THAT(h.Send(UploadBegan{"b"}), IsOkAndHolds(Answer::kRefused));
  h.Do(ContributionCommitted{"a", 10});
  EXPECT_EQ(h.member("a").state, MemberState::kCommitted);
  h.Do(MemberRemoved{"a", Removal::kRevoked, "worse"});
  EXPECT_EQ(h.member("a").state, MemberState::kRemoved);
}

TEST(RoundScenario, AfterASuspensionTheRoundTakesWhatItStillCan) {
  RoundHarness h = Opened();
  h.Do(MemberRemoved{"a", Removal::kSuspended, "audit"});
  h.Do(MemberRestored{"a"});
  EXPECT_FALSE(h.member("a").suspended);
  EXPECT_EQ(h.member("a").state, MemberState::kInvited);
  EXPECT_EQ(h.member("a").reason, "");
  h.Upload("a");
  EXPECT_EQ(h.member("a").state, MemberState::kCommitted);
  // Revocation is no suspension, and nothing lifts it.
  h.Do(MemberRemoved{"b", Removal::kSuspended, "audit"});
  EXPECT_THAT(h.Send(MemberRemoved{"b", Removal::kRevoked, "stolen"}),
              IsOkAndHolds(Answer::kAccepted));
  EXPECT_THAT(h.Send(MemberRestored{"b"}), IsOkAndHolds(Answer::kUnchanged));
  EXPECT_EQ(h.member("b").state, MemberState::kRemoved);
}

TEST(RoundScenario, AfterTheDeadlineASuspensionIsNotUndone) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Do(MemberRemoved{"c", Removal::kSuspended, "audit"});
  h.now = *h.state.deadline;
  h.Do(MemberRestored{"c"});
  EXPECT_EQ(h.member("c").state, MemberState::kRemoved);
}

TEST(RoundScenario, ASuspendedUploaderThatGivesUpMayNotBeginAgain) {
  RoundHarness h = Opened();
  h.Do(UploadBegan{"a"});
  h.Do(MemberRemoved{"a", Removal::kSuspended, "audit"});
  h.Do(Declined{"a", "stop"});
  EXPECT_THAT(h.Send(UploadBegan{"a"}), IsOkAndHolds(Answer::kRefused));
}

TEST(RoundScenario, RevocationDuringTheFoldFoldsAgainWithout) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  ASSERT_EQ(h.state.fold_run, 1);
  h.Do(MemberRemoved{"b", Removal::kRevoked, "key stolen"});
  EXPECT_EQ(h.Find<AbortFold>()->run, 1);
  EXPECT_EQ(h.Find<BeginFold>()->run, 2);
  EXPECT_THAT(h.Find<BeginFold>()->institutions, ElementsAre("a", "c"));
  // The first fold was already done when the abort reached it.
  EXPECT_THAT(h.Send(FoldFinished{1, 8, 3, {}}),
              IsOkAndHolds(Answer::kUnchanged));
  h.Do(MemberRemoved{"c", Removal::kRevoked, "key stolen"});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_EQ(h.Find<AbortFold>()->run, 2);
  EXPECT_EQ(h.Find<BeginFold>(), nullptr);
}

TEST(RoundScenario, AFoldThatFailsIsTriedAgainWithGrowingPauses) {
  RoundHarness h = Opened();
  h.state.config.fold_attempts = 3;
  h.state.config.fold_retry_delay = absl::Seconds(10);
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(PublishFailed{1, "no space left on device"});
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_EQ(h.wake, h.now + absl::Seconds(10));
  EXPECT_THAT(h.Find<Alert>()->reason, HasSubstr("no space left"));
  EXPECT_THAT(h.Send(FoldFinished{1, 8, 3, {}}),
              IsOkAndHolds(Answer::kUnchanged));
  h.AdvanceAndTick(absl::Seconds(10));
  EXPECT_EQ(h.Find<BeginFold>()->run, 2);
  h.Do(FoldFailed{2, "read error", true});
  EXPECT_EQ(h.wake, h.now + absl::Seconds(20));
  h.AdvanceAndTick(absl::Seconds(20));
  h.Do(FoldFailed{3, "read error", true});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_THAT(h.state.reason, HasSubstr("read error (attempt 3 of 3)"));
}

TEST(RoundScenario, AFullDiskIsWaitedForUntilTheFoldsTimeIsUp) {
  RoundHarness h = Opened();
  h.state.config.fold_attempts = 1;
  h.state.config.fold_retry_delay = absl::Seconds(10);
  h.state.config.fold_timeout = absl::Hours(1);
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  const absl::Time closed = h.state.closed_at.value();
  int64_t run = 1;
  while (h.now < closed + absl::Hours(1)) {
    if (run % 2 == 0) {
      h.Do(PublishFailed{run, "no space left on device", true});
    } else {
      h.Do(FoldFailed{run, "no space left on device", true, true});
    }
    ASSERT_EQ(h.state.phase, RoundPhase::kAggregating) << "run " << run;
    ASSERT_GT(h.wake.value(), h.now);
    EXPECT_LE(h.wake.value(), h.now + absl::Minutes(1));
    h.AdvanceAndTick(h.wake.value() - h.now);
    EXPECT_EQ(h.Find<BeginFold>()->run, ++run);
  }
  EXPECT_EQ(h.state.fold_failures, 0);
  h.Do(FoldFailed{run, "no space left on device", true, true});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_THAT(h.state.reason, HasSubstr("no space left on device for 1h 00m "
                                        "(rounds.fold_timeout)"));
}

TEST(RoundScenario, AFoldThatCannotWorkFailsAtOnce) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(FoldFailed{1, "round key destroyed", false});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
}

TEST(RoundScenario, AFoldThatHangsIsBounded) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  EXPECT_EQ(h.wake, h.now + h.state.config.fold_timeout);
  h.AdvanceAndTick(h.state.config.fold_timeout);
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_NE(h.Find<AbortFold>(), nullptr);
}

TEST(RoundScenario, AllGroupsHeldIsNoNewVersion) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(FoldFinished{1, 8, 2, {"expert/0/0", "shared"}});
  EXPECT_EQ(h.state.phase, RoundPhase::kRejected);
  EXPECT_EQ(h.Find<Promote>(), nullptr);
  EXPECT_THAT(h.Find<Reject>()->reason, HasSubstr("all 2 release groups"));
}

TEST(RoundScenario, CancelEndsEverythingUnderWay) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Do(Cancel{"wrong layout"});
  EXPECT_EQ(h.state.phase, RoundPhase::kCancelled);
  EXPECT_EQ(h.state.reason, "wrong layout");
  EXPECT_THAT(h.Find<CancelUploads>()->institutions, ElementsAre("b"));
  EXPECT_EQ(h.Find<Abandon>()->candidate, std::nullopt);
  EXPECT_EQ(NextWake(h.state), std::nullopt);
}

TEST(RoundScenario, RollingBackTheBaseCancels) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  EXPECT_THAT(h.Send(BaseAbandoned{6, "old"}),
              IsOkAndHolds(Answer::kUnchanged));
  h.Do(BaseAbandoned{7, "accuracy fell"});
  EXPECT_EQ(h.state.phase, RoundPhase::kCancelled);
  EXPECT_EQ(h.state.reason, "base version 7 was abandoned: accuracy fell");
  EXPECT_EQ(h.Find<AbortFold>()->run, 1);
}

TEST(RoundScenario, QuarantineAfterPromotionTaintsTheVersion) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(FoldFinished{1, 8, 3, {}});
  ASSERT_EQ(h.state.phase, RoundPhase::kPromoted);
  h.Do(ContributionQuarantined{"b", "poisoned"});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
  EXPECT_EQ(h.Find<TaintVersion>()->version, 8);
  EXPECT_EQ(h.Find<TaintVersion>()->institution, "b");
  EXPECT_THAT(h.Send(ContributionQuarantined{"b", "poisoned"}),
              IsOkAndHolds(Answer::kUnchanged));
}

TEST(RoundScenario, ARestartTopsUpWhatRanOutAndNobodyRetrains) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Do(UploadBegan{"b"});
  h.Advance(kDeadline + absl::Hours(3));  // the coordinator was down
  h.Do(Restarted{});
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  EXPECT_TRUE(h.member("b").interrupted);
  EXPECT_EQ(h.wake, h.now + kGrace);
  h.Do(UploadBegan{"b"});
  h.Upload("c");
  h.Do(ContributionCommitted{"b", 10});
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
}

TEST(RoundScenario, ARestartWithTimeLeftKeepsTheDeadline) {
  RoundHarness h = Opened();
  const absl::Time deadline = *h.state.deadline;
  h.Advance(absl::Minutes(1));
  h.Do(Restarted{});
  EXPECT_EQ(h.state.deadline, deadline);
  EXPECT_EQ(h.wake, deadline);
}

TEST(RoundScenario, ARestartTopsUpTheWaitAfterTheQuorum) {
  RoundConfig config;
  config.wait_after_quorum = absl::Minutes(5);
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  h.Upload("a");
  h.Upload("b");
  h.Advance(absl::Hours(3));
  h.Do(Restarted{});
  EXPECT_EQ(h.state.phase, RoundPhase::kCollecting);
  EXPECT_EQ(h.wake, h.now + config.grace);
}

TEST(RoundScenario, ARestartFoldsAgain) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(Restarted{});
  EXPECT_EQ(h.Find<BeginFold>()->run, 2);
  EXPECT_THAT(h.Send(FoldFinished{1, 8, 3, {}}),
              IsOkAndHolds(Answer::kUnchanged));
  h.Do(FoldFinished{2, 8, 3, {}});
  EXPECT_EQ(h.state.phase, RoundPhase::kPromoted);
}

TEST(RoundScenario, ARestartKeepsAPendingRetry) {
  RoundHarness h = Opened();
  for (const char* name : {"a", "b", "c"}) h.Upload(name);
  h.Do(FoldFailed{1, "read error", true});
  h.Do(Restarted{});
  EXPECT_EQ(h.Find<BeginFold>(), nullptr);
  EXPECT_EQ(h.wake, *h.state.fold_retry_at);
}

TEST(RoundScenario, AClockSetBackKeepsTheTimeLeft) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.Advance(absl::Minutes(20));
  h.Do(Tick{});
  h.now -= absl::Hours(24 * 365);
  h.Do(Tick{});
  EXPECT_EQ(h.wake, h.now + absl::Minutes(40));
  h.AdvanceAndTick(absl::Minutes(40));
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_EQ(h.wake, h.now + h.state.config.fold_timeout);
}

TEST(RoundScenario, ThreadsThatOvertakeEachOtherDoNotMoveTheDeadline) {
  RoundHarness h = Opened();
  const absl::Time deadline = *h.state.deadline;
  h.Advance(absl::Seconds(10));
  h.Do(Tick{});
  for (int i = 0; i < 100; ++i) {
    h.now += (i % 2 == 0 ? -1 : 1) * absl::Seconds(5);
    h.Do(ProgressReported{"a", 0.5, ""});
  }
  EXPECT_EQ(h.state.deadline, deadline);
}

TEST(RoundScenario, AClockThatJumpsAheadEndsTheWaitOnce) {
  RoundHarness h = Opened();
  h.Upload("a");
  h.Upload("b");
  h.AdvanceAndTick(absl::Hours(24 * 365));
  EXPECT_EQ(h.state.phase, RoundPhase::kAggregating);
  EXPECT_GT(*h.wake, h.now);
}

TEST(RoundScenario, StartFailsAtOnceWhenTheCohortMeltedAway) {
  RoundConfig config;
  config.quorum = 3;
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(MemberRemoved{"b", Removal::kRevoked, "left"});
  EXPECT_EQ(h.state.phase, RoundPhase::kPlanned);
  h.Do(Start{});
  EXPECT_EQ(h.state.phase, RoundPhase::kFailed);
  EXPECT_THAT(h.state.reason, HasSubstr("b removed (revoked: left)"));
}

}  // namespace
}  // namespace consilium

// What a round keeps of each member, field by field, after each event.

#include <optional>
#include <string>
#include <utility>

#include "coordinator/round/round_machine.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class RoundMemberTest : public testing::Test {
 protected:
  RoundMemberTest() { h_.Do(Start{}); }

  // The event comes a second after the last one, and the row of "a" becomes
  // what it was, changed by `change`, at that time.
  template <typename Change>
  void Becomes(RoundEvent event, Change change) {
    RoundMember want = h_.member("a");
    h_.Advance(absl::Seconds(1));
    h_.Do(std::move(event));
    change(want);
    want.updated_at = h_.now;
    ExpectRow(want);
  }
  // Nothing of the row changes, its time neither.
  void Stays(RoundEvent event, Answer answer, const std::string& says = "") {
    const RoundMember before = h_.member("a");
    h_.Advance(absl::Seconds(1));
    EXPECT_THAT(h_.Send(std::move(event)), IsOkAndHolds(answer));
    EXPECT_THAT(h_.text, HasSubstr(says));
    ExpectRow(before);
  }
  void ExpectRow(const RoundMember& want) const {
    const RoundMember& is = h_.member("a");
    EXPECT_EQ(is.state, want.state);
    EXPECT_EQ(is.reason, want.reason);
    EXPECT_EQ(is.progress, want.progress);
    EXPECT_EQ(is.progress_text, want.progress_text);
    EXPECT_EQ(is.updated_at, want.updated_at);
    EXPECT_EQ(is.interrupted, want.interrupted);
    EXPECT_EQ(is.quarantined, want.quarantined);
    EXPECT_EQ(is.suspended, want.suspended);
    EXPECT_EQ(is.examples, want.examples);
    EXPECT_EQ(is.evaluation, want.evaluation);
    EXPECT_EQ(is.evaluation_reason, want.evaluation_reason);
    EXPECT_TRUE(is == want);
  }

  static RoundConfig Config() {
    RoundConfig config;
    config.quorum = 1;
    config.minimum_examples = 10;
    return config;
  }

  RoundHarness h_{{"a", "b", "c"}, Config()};
};

TEST_F(RoundMemberTest, Trains) {
  Becomes(ProgressReported{"a", 0.25, "epoch 1"}, [](RoundMember& m) {
    m.state = MemberState::kTraining;
    m.progress = 0.25;
    m.progress_text = "epoch 1";
  });
  Becomes(ProgressReported{"a", std::nullopt, ""}, [](RoundMember& m) {
    m.progress.reset();
    m.progress_text.clear();
  });
}

TEST_F(RoundMemberTest, UploadsAndCommits) {
  h_.Do(ProgressReported{"a", 1.0, "trained"});
  Becomes(UploadBegan{"a"}, [](RoundMember& m) {
    m.state = MemberState::kUploading;
    m.progress.reset();
    m.progress_text.clear();
  });
  Stays(UploadBegan{"a"}, Answer::kUnchanged);
  Becomes(ProgressReported{"a", 0.5, "sent"}, [](RoundMember& m) {
    m.progress = 0.5;
    m.progress_text = "sent";
  });
  Becomes(ContributionCommitted{"a", 70}, [](RoundMember& m) {
    m.state = MemberState::kCommitted;
    m.progress.reset();
    m.progress_text.clear();
    m.examples = 70;
  });
  Stays(ContributionCommitted{"a", 80}, Answer::kUnchanged);
  Stays(UploadBegan{"a"}, Answer::kUnchanged);
  Stays(ProgressReported{"a", 0.1, "again"}, Answer::kUnchanged);
  Stays(Declined{"a", "no data"}, Answer::kRefused, "already contributed");
}

TEST_F(RoundMemberTest, LosesItsStreamAndComesBack) {
  Stays(UploadLost{"a", "not even begun"}, Answer::kUnchanged);
  h_.Do(ProgressReported{"a", 0.1, ""});
  Stays(UploadLost{"a", "not even begun"}, Answer::kUnchanged);
  h_.Do(UploadBegan{"a"});
  Becomes(UploadLost{"a", "stream reset"}, [](RoundMember& m) {
    m.interrupted = true;
    m.reason = "stream reset";
  });
  Stays(UploadLost{"a", "told twice"}, Answer::kUnchanged);
  Becomes(UploadBegan{"a"}, [](RoundMember& m) {
    m.interrupted = false;
    m.reason.clear();
  });
  h_.Do(UploadLost{"a", "stream reset"});
  Becomes(ContributionCommitted{"a", 70}, [](RoundMember& m) {
    m.state = MemberState::kCommitted;
    m.interrupted = false;
    m.reason.clear();
    m.examples = 70;
  });
}

TEST_F(RoundMemberTest, GivesUpAndThinksBetterOfIt) {
  h_.Do(UploadBegan{"a"});
  h_.Do(ProgressReported{"a", 0.5, "sent"});
  h_.Do(UploadLost{"a", "stream reset"});
  Becomes(Declined{"a", "no data"}, [](RoundMember& m) {
    m.state = MemberState::kDeclined;
    m.reason = "no data";
    m.interrupted = false;
    m.progress.reset();
    m.progress_text.clear();
  });
  Stays(Declined{"a", "still none"}, Answer::kUnchanged);
  Becomes(ProgressReported{"a", 0.1, ""}, [](RoundMember& m) {
    m.state = MemberState::kTraining;
    m.reason.clear();
    m.progress = 0.1;
  });
  h_.Do(Declined{"a", "out of memory"});
  Becomes(UploadBegan{"a"}, [](RoundMember& m) {
    m.state = MemberState::kUploading;
    m.reason.clear();
  });
}

TEST_F(RoundMemberTest, HasTooFewExamples) {
  h_.Do(UploadBegan{"a"});
  const RoundMember before = h_.member("a");
  h_.Advance(absl::Seconds(1));
  EXPECT_THAT(h_.Send(ContributionCommitted{"a", 9}),
              IsOkAndHolds(Answer::kRefused));
  RoundMember want = before;
  want.state = MemberState::kFailed;
  want.reason =
      "9 examples, at least 10 are required (rounds.minimum_examples)";
  want.updated_at = h_.now;
  ExpectRow(want);
}

TEST_F(RoundMemberTest, IsSuspendedBeforeItBegins) {
  Becomes(MemberRemoved{"a", Removal::kSuspended, "contract"},
          [](RoundMember& m) {
            m.state = MemberState::kRemoved;
            m.suspended = true;
            m.reason = "suspended: contract";
          });
  Stays(MemberRemoved{"a", Removal::kSuspended, "again"}, Answer::kUnchanged);
  h_.Do(UploadBegan{"b"});
  Stays(UploadBegan{"a"}, Answer::kRefused, "out of this round");
  Stays(ProgressReported{"a", 0.1, ""}, Answer::kRefused, "out of this round");
  Stays(ContributionCommitted{"a", 70}, Answer::kRefused, "out of this round");
  Becomes(MemberRestored{"a"}, [](RoundMember& m) {
    m.state = MemberState::kInvited;
    m.suspended = false;
    m.reason.clear();
  });
  Stays(MemberRestored{"a"}, Answer::kUnchanged);
}

TEST_F(RoundMemberTest, IsRevokedAfterItWasSuspended) {
  h_.Do(MemberRemoved{"a", Removal::kSuspended, "contract"});
  Becomes(MemberRemoved{"a", Removal::kRevoked, "key lost"},
          [](RoundMember& m) {
            m.suspended = false;
            m.reason = "revoked: key lost";
          });
  Stays(MemberRestored{"a"}, Answer::kUnchanged);
  Stays(MemberRemoved{"a", Removal::kRevoked, "again"}, Answer::kUnchanged);
}

TEST_F(RoundMemberTest, MayEndTheUploadThatItBeganBeforeItWasSuspended) {
  h_.Do(UploadBegan{"a"});
  Becomes(MemberRemoved{"a", Removal::kSuspended, "contract"},
          [](RoundMember& m) { m.suspended = true; });
  Becomes(ContributionCommitted{"a", 70}, [](RoundMember& m) {
    m.state = MemberState::kCommitted;
    m.examples = 70;
  });
}

TEST_F(RoundMemberTest, IsRevokedWhileItUploads) {
  h_.Do(UploadBegan{"a"});
  h_.Do(ProgressReported{"a", 0.5, "sent"});
  Becomes(MemberRemoved{"a", Removal::kRevoked, ""}, [](RoundMember& m) {
    m.state = MemberState::kRemoved;
    m.reason = "revoked";
    m.progress.reset();
    m.progress_text.clear();
  });
  Stays(ContributionCommitted{"a", 70}, Answer::kRefused, "out of this round");
}

TEST_F(RoundMemberTest, IsQuarantinedAndReleased) {
  h_.Upload("a", 70);
  Becomes(ContributionQuarantined{"a", "norm"}, [](RoundMember& m) {
    m.state = MemberState::kFailed;
    m.quarantined = true;
    m.reason = "norm";
  });
  Stays(ContributionQuarantined{"a", "again"}, Answer::kUnchanged);
  Stays(UploadBegan{"a"}, Answer::kRefused, "out of this round");
  Becomes(ContributionReleased{"a"}, [](RoundMember& m) {
    m.state = MemberState::kCommitted;
    m.quarantined = false;
    m.reason.clear();
  });
}

TEST_F(RoundMemberTest, IsNotInvitedAgainByASuspensionIfItWasOutAnyway) {
  h_.Upload("a");
  h_.Do(ContributionQuarantined{"a", "norm"});
  h_.Do(Declined{"b", "no data"});
  for (const char* name : {"a", "b"}) {
    h_.Do(MemberRemoved{name, Removal::kSuspended, "audit"});
    EXPECT_THAT(h_.Send(UploadBegan{name}), IsOkAndHolds(Answer::kRefused));
    h_.Do(MemberRestored{name});
  }
  EXPECT_EQ(h_.member("a").state, MemberState::kFailed);
  EXPECT_EQ(h_.member("a").reason, "norm");
  EXPECT_TRUE(h_.member("a").quarantined);
  EXPECT_EQ(h_.member("b").state, MemberState::kDeclined);
  EXPECT_EQ(h_.member("b").reason, "no data");
  // What is released counts.
  h_.Do(ContributionReleased{"a"});
  EXPECT_EQ(h_.member("a").state, MemberState::kCommitted);
}

TEST_F(RoundMemberTest, IsNotReleasedAfterItWasRevoked) {
  h_.Upload("a");
  h_.Do(ContributionQuarantined{"a", "norm"});
  h_.Do(MemberRemoved{"a", Removal::kRevoked, "key stolen"});
  EXPECT_THAT(h_.Send(ContributionReleased{"a"}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("a was revoked, which is final")));
  EXPECT_EQ(h_.member("a").state, MemberState::kRemoved);
}

TEST_F(RoundMemberTest, ComesTooLateDuringTheGrace) {
  h_.Do(UploadBegan{"b"});
  h_.Advance(*h_.state.deadline - h_.now);
  Stays(ProgressReported{"a", 0.5, ""}, Answer::kLate);
  Stays(UploadBegan{"a"}, Answer::kLate, "took new uploads until");
}

TEST_F(RoundMemberTest, DeclinesAnEvaluationOnce) {
  h_.Upload("a");
  h_.Upload("b");
  h_.Do(CloseNow{});
  h_.Do(FoldFinished{1, 8, 3, {}});
  ASSERT_EQ(h_.state.phase, RoundPhase::kEvaluating);
  ASSERT_EQ(h_.member("a").evaluation, EvaluationState::kAsked);
  Becomes(EvaluationDeclined{"a", "no data"}, [](RoundMember& m) {
    m.evaluation = EvaluationState::kDeclined;
    m.evaluation_reason = "no data";
  });
  Stays(EvaluationDeclined{"a", "still none"}, Answer::kUnchanged);
}

TEST(PlanRoundTest, ARoundKeepsWhatItWasPlannedWith) {
  RoundPlan plan;
  plan.id = 12;
  plan.attempt = 3;
  plan.base_version = 7;
  plan.config.quorum = 2;
  plan.weighting = {true, 12345.0};
  plan.training = {{"epochs", "5"}};
  plan.members = {"b", "a"};
  const absl::Time now = absl::FromUnixSeconds(1767225600);
  const auto state = PlanRound(plan, now);
  ASSERT_OK(state.status());
  EXPECT_EQ(state->id, 12);
  EXPECT_EQ(state->attempt, 3);
  EXPECT_EQ(state->base_version, 7);
  EXPECT_EQ(state->config, plan.config);
  EXPECT_EQ(state->weighting, plan.weighting);
  EXPECT_EQ(state->planned_at, now);
  ASSERT_EQ(state->members.size(), 2u);
  EXPECT_EQ(state->members[0].institution, "a");
  EXPECT_EQ(state->members[1].institution, "b");
  EXPECT_EQ(state->training, plan.training);
  EXPECT_EQ(state->members[1].updated_at, now);
}

}  // namespace
}  // namespace consilium

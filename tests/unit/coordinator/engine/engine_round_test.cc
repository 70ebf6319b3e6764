// What a round takes from its members, what it tells them, and whom it invites.

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class EngineRoundTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    ASSERT_OK(Import().status());
  }

  ContributionRow RowOf(const std::string& name, int64_t round,
                        const std::string& id) {
    ContributionRow row = Contribution(id, round, CallerOf(name).id());
    row.manifest = UploadManifest().Encode();
    return row;
  }
  std::variant<absl::Status, Refused> Begin(
      const std::string& name, int64_t round, const std::string& id,
      const std::string& superseded = "") {
    return engine_->UploadBegan(CallerOf(name), RowOf(name, round, id),
                                superseded);
  }
  absl::StatusOr<CommitOutcome> Commit(const std::string& name, int64_t round,
                                       const std::string& id) {
    UploadResult result;
    result.stats.metadata.examples = 10;
    return engine_->CommitContribution(CallerOf(name), RowOf(name, round, id),
                                       result);
  }
  void Contribute(const std::string& name, int64_t round,
                  const std::string& id) {
    EXPECT_EQ(Began(Begin(name, round, id)), absl::OkStatus());
    const auto receipt = Commit(name, round, id);
    ASSERT_OK(receipt.status());
    EXPECT_TRUE(std::holds_alternative<SignedReceipt>(*receipt));
  }
  static absl::Status Began(const std::variant<absl::Status, Refused>& began) {
    const auto* status = std::get_if<absl::Status>(&began);
    return status != nullptr ? *status : absl::AbortedError("refused");
  }
  template <typename T>
  static std::optional<RefusalCode> CodeOf(const T& answer) {
    const auto* refused = std::get_if<Refused>(&answer);
    if (refused == nullptr) return std::nullopt;
    return refused->code;
  }
  absl::Status Set(const std::string& name, InstitutionState state) {
    return engine_->SetInstitution(kTestOperator, name, state, "review");
  }
  absl::Status Quarantine(const std::string& id) {
    return engine_->QuarantineContribution(kTestOperator, id, "norm");
  }
  ContributionRow Stored(const std::string& id) {
    ContributionRow out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindContribution(tx, id));
      out = row.value();
      return absl::OkStatus();
    }));
    return out;
  }
  const RoundMember& Member(int64_t round, const std::string& name) {
    view_ = engine_->LiveRoundOf(round);
    return *FindMember(view_->state, name);
  }
  TrainWork TaskOf(const std::string& name) {
    const Work work = engine_->WorkFor(*engine_->peers().Find(name));
    const auto* train = std::get_if<TrainWork>(&work.what);
    EXPECT_NE(train, nullptr);
    return train == nullptr ? TrainWork() : *train;
  }

  std::optional<LiveRoundView> view_;
};

TEST_F(EngineRoundTest, ARotationGoesOnOverAnyNumberOfRounds) {
  constexpr int kMore = 20;
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 0; i < kMore; ++i) {
      CONSILIUM_RETURN_IF_ERROR(
          InsertInstitution(tx, Institution(Cat("hospital-", i))).status());
    }
    return absl::OkStatus();
  }));
  std::set<std::string> invited;
  for (int i = 0; i < 3 + kMore; ++i) {
    ASSERT_OK_AND_ASSIGN(const int64_t round,
                         StartRound({{"quorum", "1"}, {"target", "1"}}));
    const auto view = engine_->LiveRoundOf(round);
    ASSERT_TRUE(view.has_value());
    for (const RoundMember& m : view->state.members) {
      EXPECT_TRUE(invited.insert(m.institution).second)
          << m.institution << " again in round " << round;
    }
    ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  }
  EXPECT_EQ(invited.size(), 3u + kMore);
}

TEST_F(EngineRoundTest, ACohortBeyondWhatAFoldTakesIsAProblemOfThePlan) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int64_t i = 3; i <= RoundLimits().max_members; ++i) {
      CONSILIUM_RETURN_IF_ERROR(
          InsertInstitution(tx, Institution(Cat("hospital-", i))).status());
    }
    return absl::OkStatus();
  }));
  ASSERT_OK_AND_ASSIGN(const RoundPlanView all, engine_->PlanNextRound({}, {}));
  EXPECT_THAT(all.problems,
              ElementsAre(HasSubstr("4097 institutions, a round takes the "
                                    "contributions of 4096 at most")));
  EXPECT_THAT(StartRound().status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("target=4096")));
  ASSERT_OK_AND_ASSIGN(const RoundPlanView some,
                       engine_->PlanNextRound(
                           {{"target", "4096"}, {"over_selection", "1"}}, {}));
  EXPECT_THAT(some.problems, IsEmpty());
  EXPECT_EQ(some.cohort.size(), 4097u);
}

TEST_F(EngineRoundTest, ASuspensionBeforeTheFirstChunkIsNoQuarantine) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  ASSERT_OK(Set("bank-a", InstitutionState::kSuspended));
  EXPECT_EQ(CodeOf(Begin("bank-a", round, "a1")), RefusalCode::kSuspended);
}

TEST_F(EngineRoundTest, WhoHasContributedIsTooLateToDecline) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  Contribute("bank-a", round, "a1");
  ASSERT_OK_AND_ASSIGN(
      const std::optional<Refused> refused,
      engine_->Decline(CallerOf("bank-a"), round, "no data", false));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, RefusalCode::kLate);
  EXPECT_THAT(refused->message, HasSubstr("already contributed"));
}

TEST_F(EngineRoundTest, AQuarantinedMemberIsRefusedBeforeItsUpload) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  ASSERT_EQ(Began(Begin("bank-a", round, "a1")), absl::OkStatus());
  ASSERT_OK(Quarantine("a1"));
  const auto admitted = engine_->AdmitUpload(CallerOf("bank-a"), round, 1);
  ASSERT_EQ(CodeOf(admitted), RefusalCode::kQuarantined);
  EXPECT_THAT(std::get<Refused>(admitted).message, HasSubstr("norm"));
  EXPECT_EQ(CodeOf(Begin("bank-a", round, "a2")), RefusalCode::kQuarantined);
  // A suspension and its end change nothing about that.
  ASSERT_OK(Set("bank-a", InstitutionState::kSuspended));
  ASSERT_OK(Set("bank-a", InstitutionState::kActive));
  EXPECT_EQ(CodeOf(engine_->AdmitUpload(CallerOf("bank-a"), round, 1)),
            RefusalCode::kQuarantined);
  const Work work = engine_->WorkFor(*engine_->peers().Find("bank-a"));
  EXPECT_TRUE(std::holds_alternative<IdleWork>(work.what));
}

TEST_F(EngineRoundTest, AnUploadThatIsRefusedReplacesNothing) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  ASSERT_EQ(Began(Begin("bank-a", round, "a1")), absl::OkStatus());
  // Between the admission of the second and its row.
  ASSERT_OK(Quarantine("a1"));
  EXPECT_EQ(CodeOf(Begin("bank-a", round, "a2", "a1")),
            RefusalCode::kQuarantined);
  EXPECT_EQ(Stored("a1").state, ContributionState::kQuarantined);
  EXPECT_EQ(Stored("a1").reason, "norm");
  // One that is taken does.
  ASSERT_EQ(Began(Begin("bank-b", round, "b1")), absl::OkStatus());
  ASSERT_EQ(Began(Begin("bank-b", round, "b2", "b1")), absl::OkStatus());
  EXPECT_EQ(Stored("b1").state, ContributionState::kSuperseded);
  EXPECT_EQ(Stored("b1").reason, "replaced by upload b2");
}

TEST_F(EngineRoundTest, WhatARevokedInstitutionGaveIsNotReleased) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  Contribute("bank-a", round, "a1");
  Contribute("bank-b", round, "b1");
  ASSERT_OK(Quarantine("a1"));
  for (const char* name : {"bank-a", "bank-b"}) {
    ASSERT_OK(Set(name, InstitutionState::kRevoked));
  }
  for (const char* id : {"a1", "b1"}) {
    EXPECT_THAT(engine_->ReleaseContribution(kTestOperator, id, ""),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("was revoked, which is final")));
    EXPECT_EQ(Stored(id).state, ContributionState::kQuarantined);
  }
  EXPECT_EQ(Member(round, "bank-a").state, MemberState::kRemoved);
}

TEST_F(EngineRoundTest, AllMembersOfARoundTrainWithTheSameSettings) {
  const auto set = [this](const std::string& epochs) {
    return engine_->SetPolicy(kTestOperator, {{"training.epochs", epochs}}, "");
  };
  ASSERT_OK(set("4"));
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  const Settings told = TaskOf("bank-a").parameters;
  EXPECT_EQ(told.at("epochs"), "4");
  ASSERT_OK(set("5"));
  EXPECT_EQ(TaskOf("bank-b").parameters, told);
  ASSERT_OK(RestartEngine());
  EXPECT_EQ(TaskOf("bank-b").parameters, told);
  ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  ASSERT_OK(StartRound().status());
  EXPECT_EQ(TaskOf("bank-b").parameters.at("epochs"), "5");
}

TEST_F(EngineRoundTest, AnExtensionCountsFromWhenTheRoundWouldEnd) {
  ASSERT_OK_AND_ASSIGN(
      const int64_t round,
      StartRound({{"quorum", "1"}, {"wait_after_quorum", "5m"}}));
  Contribute("bank-a", round, "a1");
  clock_.Advance(absl::Minutes(1));
  ASSERT_OK(
      engine_->ExtendRound(kTestOperator, round, absl::Minutes(1), "slow"));
  EXPECT_EQ(engine_->LiveRoundOf(round)->wait.until,
            kTestNow + absl::Minutes(6));
  EXPECT_EQ(TaskOf("bank-b").context->statement.deadline,
            kTestNow + absl::Minutes(6));
}

TEST_F(EngineRoundTest, ARestartAnnouncesTheDeadlineThatItLeaves) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  clock_.Advance(absl::Hours(3));
  ASSERT_OK(RestartEngine());
  const auto view = engine_->LiveRoundOf(round);
  ASSERT_TRUE(view.has_value());
  EXPECT_GT(view->state.deadline, clock_.Now());
  const TrainWork task = TaskOf("bank-a");
  EXPECT_EQ(task.context->statement.deadline, view->state.deadline);
  EXPECT_OK(VerifyStatement(signing_key_.verify_key(), task.context->statement,
                            task.context->signature));
  EXPECT_TRUE(task.context->sealed());
}

TEST_F(EngineRoundTest, OnlyInstitutionsAreSuspended) {
  for (const PeerRole role : {PeerRole::kAuditor, PeerRole::kOperator}) {
    const std::string name = Cat("eve-", PeerRoleName(role));
    ASSERT_OK(
        engine_->Invite(kTestOperator, name, role, absl::ZeroDuration(), {})
            .status());
    for (const InstitutionState state :
         {InstitutionState::kSuspended, InstitutionState::kRevoked}) {
      EXPECT_THAT(Set(name, state),
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           HasSubstr(Cat("is an ", PeerRoleName(role)))));
    }
  }
}

}  // namespace
}  // namespace consilium

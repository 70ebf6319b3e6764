// Another version is served: what becomes of the rounds beside it, and what
// a store that fails leaves undone.

#include <optional>
#include <string>
#include <utility>

#include "coordinator/round/round_json.h"
#include "coordinator/store/sqlite.h"
#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EngineLineageTest : public EngineTest {
 protected:
  // Version 1 was imported, version 2 made from it.
  void SetUp() override {
    EngineTest::SetUp();
    ASSERT_OK(Import().status());
    ASSERT_EQ(Served(), 1);
    ASSERT_THAT(AddVersion(1, VersionState::kCandidate), IsOkAndHolds(2));
    ASSERT_OK(Promote(2));
  }

  int64_t Served() { return engine_->current_version()->number; }
  absl::Status Promote(int64_t number) {
    return engine_->PromoteVersion(kTestOperator, number, "");
  }
  int64_t Transactions() { return store_->history().stats().transactions; }
  RoundRow RowOf(int64_t round) {
    RoundRow out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(out, GetRound(tx, round));
      return absl::OkStatus();
    }));
    return out;
  }

  // Round 1 serves version 2 and asks for evaluations: that of bank-a was bad,
  // and with that of bank-b the version falls. Round 2 is open on version 2.
  void TakeVersionTwoIntoUse() {
    RoundPlan plan;
    plan.id = 1;
    plan.base_version = 1;
    plan.config.promotion = Promotion::kImmediate;
    plan.config.evaluation.quorum = 2;
    plan.config.evaluation.rule.metric = "loss";
    plan.config.target = 2;
    plan.members = {"bank-a", "bank-b", "bank-c"};
    ASSERT_OK_AND_ASSIGN(RoundState state,
                         PlanRound(std::move(plan), clock_.Now()));
    for (const RoundEvent& event : std::vector<RoundEvent>{
             Start{}, UploadBegan{"bank-a"},
             ContributionCommitted{"bank-a", 10}, UploadBegan{"bank-b"},
             ContributionCommitted{"bank-b", 10}, FoldFinished{1, 2, 1, {}},
             EvaluationReported{
                 "bank-a", 10, {{"loss", 0.9}}, {{"loss", 0.5}}}}) {
      ASSERT_OK_AND_ASSIGN(Transition t, Apply(state, event, clock_.Now()));
      state = std::move(t.state);
    }
    ASSERT_EQ(state.phase, RoundPhase::kEvaluating);
    ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
      RoundRow row = Round(1, "evaluating");
      row.base_version = 1;
      row.candidate_version = 2;
      row.config_json = RoundConfigToJson(state.config);
      row.state_json = RoundStateToJson(state);
      return InsertRound(tx, row).status();
    }));
    ASSERT_OK(RestartEngine());
    ASSERT_EQ(Served(), 2);
    ASSERT_THAT(StartRound(), IsOkAndHolds(2));
  }
  absl::StatusOr<std::optional<Refused>> ReportOfBankB() {
    return engine_->ReportEvaluation(CallerOf("bank-b"), 1, imported_, 10,
                                     {{"loss", 0.9}});
  }
  // Once, between the verdict and what follows from it.
  void AfterTheVerdict(std::function<void()> act) {
    on_log_ = [this, act = std::move(act)](std::string_view text) {
      if (text.substr(0, 17) != "round is rejected") return;
      act();
      on_log_ = nullptr;
    };
  }
  void ExpectRoundTwoEndsInTheEnd() {
    clock_.Advance(engine_->options().failure_pause);
    engine_->Poll();
    EXPECT_EQ(Served(), 1);
    EXPECT_EQ(RowOf(2).state, "cancelled");
    EXPECT_THAT(RowOf(2).reason, HasSubstr("base version 2 was abandoned"));
  }
};

TEST_F(EngineLineageTest, AVersionPromotedBesideARoundIsNotOverwritten) {
  ASSERT_THAT(AddVersion(2, VersionState::kRejected), IsOkAndHolds(3));
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  ASSERT_EQ(RowOf(round).base_version, 2);
  // Version 3 stands on the base of the round, which would make another one.
  ASSERT_OK(Promote(3));
  EXPECT_EQ(Served(), 3);
  EXPECT_EQ(RowOf(round).state, "cancelled");
  EXPECT_THAT(RowOf(round).reason,
              AllOf(HasSubstr("base version 2 was abandoned"),
                    HasSubstr("version 3 was promoted in its place")));
  // A round on what is served goes on when that is promoted again.
  ASSERT_OK_AND_ASSIGN(const int64_t next, StartRound());
  ASSERT_OK(Promote(3));
  EXPECT_EQ(RowOf(next).state, "open");
}

TEST_F(EngineLineageTest, ARollbackEndsItsRoundsOrDoesNotHappen) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound());
  disk_.fs().FailAt(1, absl::ResourceExhaustedError("disk full"));
  EXPECT_FALSE(engine_->RollbackVersion(kTestOperator, 1, "worse").ok());
  EXPECT_EQ(Served(), 2);
  EXPECT_EQ(RowOf(round).state, "open");
  const int64_t before = Transactions();
  ASSERT_OK(engine_->RollbackVersion(kTestOperator, 1, "worse"));
  EXPECT_EQ(Transactions(), before + 1);
  EXPECT_EQ(Served(), 1);
  EXPECT_EQ(RowOf(round).state, "cancelled");
  EXPECT_THAT(engine_->LiveRounds(), ::testing::IsEmpty());
}

TEST_F(EngineLineageTest, ARoundOnAFallenVersionEndsOnceTheStoreTakesIt) {
  TakeVersionTwoIntoUse();
  AfterTheVerdict([this] {
    disk_.fs().FailAt(1, absl::ResourceExhaustedError("disk full"));
  });
  ASSERT_OK(ReportOfBankB().status());
  EXPECT_EQ(RowOf(1).state, "rejected");
  EXPECT_EQ(RowOf(2).state, "open");
  EXPECT_THAT(engine_->LiveRoundOf(2)->trouble, HasSubstr("BaseAbandoned"));
  ExpectRoundTwoEndsInTheEnd();
}

TEST_F(EngineLineageTest, TheServedVersionIsAskedForUntilTheStoreSaysIt) {
  TakeVersionTwoIntoUse();
  FederationRow row;
  AfterTheVerdict([&] {
    ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(row, GetFederation(tx));
      return tx.connection().Run("DELETE FROM federation");
    }));
  });
  ASSERT_OK(ReportOfBankB().status());
  EXPECT_EQ(RowOf(2).state, "open");
  ASSERT_OK(Write([&](WriteTx& tx) { return SetFederation(tx, row); }));
  ExpectRoundTwoEndsInTheEnd();
}

TEST_F(EngineLineageTest, AReportOfASuspendedMemberIsRefusedAsThat) {
  TakeVersionTwoIntoUse();
  ASSERT_OK(engine_->SetInstitution(kTestOperator, "bank-b",
                                    InstitutionState::kSuspended, "review"));
  ASSERT_OK_AND_ASSIGN(const std::optional<Refused> refused, ReportOfBankB());
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, RefusalCode::kSuspended);
}

}  // namespace
}  // namespace consilium

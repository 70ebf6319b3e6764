// SIGTERM waits for no long call of an operator: each ends with CANCELLED.

#include "coordinator/rpc/admin_queries.h"
#include "tests/crash/folded_round.h"

namespace consilium {
namespace {

using absl::StatusCode;

using EngineStopTest = FoldedRoundTest;

TEST_F(EngineStopTest, AReplayEnds) {
  EXPECT_OK(world_.engine().ReplayRound("operator", round_, {}, "").status());
  world_.engine().Stop();
  EXPECT_THAT(world_.engine().ReplayRound("operator", round_, {}, ""),
              StatusIs(StatusCode::kCancelled));
}

TEST_F(EngineStopTest, AVerificationEnds) {
  int64_t chunks = 0;
  EXPECT_THAT(world_.engine().VerifyContribution(contribution_, &chunks),
              IsOkAndHolds(testing::IsEmpty()));
  world_.engine().Stop();
  EXPECT_THAT(world_.engine().VerifyContribution(contribution_, &chunks),
              StatusIs(StatusCode::kCancelled));
}

TEST_F(EngineStopTest, ACheckAndABackupEnd) {
  const CancelToken stop = world_.engine().stop_token();
  Store& store = world_.store();
  const absl::Time now = world_.clock().Now();
  EXPECT_OK(CheckStore(store, {.deep = true, .cancel = stop}).status());
  EXPECT_OK(BackupStore(store, "/backup-1", now, stop).status());
  world_.engine().Stop();
  EXPECT_THAT(CheckStore(store, {.deep = true, .cancel = stop}),
              StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(BackupStore(store, "/backup-2", now, stop),
              StatusIs(StatusCode::kCancelled));
}

TEST_F(EngineStopTest, ADiffAndAnAuditCheckEnd) {
  AdminQueries queries(&world_.store(), &world_.engine(), world_.clock().Now(),
                       absl::Hours(1));
  v1::DiffVersionsResponse diff;
  v1::VerifyAuditResponse audit;
  EXPECT_OK(queries.Diff(0, 1, &diff));
  EXPECT_OK(queries.AuditCheck(&audit));
  world_.engine().Stop();
  EXPECT_THAT(queries.Diff(0, 1, &diff), StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(queries.AuditCheck(&audit), StatusIs(StatusCode::kCancelled));
}

// Calls that are under way go on for a moment, and may close a round.
TEST(EngineStopRoundTest, ARoundThatClosesAfterTheStopFoldsAtTheNextStart) {
  EngineWorld world(EngineWorld::MakeImage(SmallLayout()));
  ASSERT_OK(world.Boot());
  ASSERT_OK_AND_ASSIGN(const int64_t round,
                       world.engine().StartRound("operator", {{"quorum", "1"}},
                                                 {}, "manual", ""));
  FakeInstitution bank(
      {.name = "bank-a", .delta = 0.5f, .examples = 10, .groups = {"shared"}});
  ASSERT_OK(bank.Contribute(world, round));
  world.engine().Stop();
  EXPECT_OK(world.engine()
                .Decline(world.CallerFor("bank-b"), round, "no data",
                         /*evaluation=*/false)
                .status());
  world.Down();
  ASSERT_OK(world.Boot());
  for (;;) {
    const uint64_t rings = world.bell().rings();
    const auto live = world.engine().LiveRoundOf(round);
    ASSERT_TRUE(live.has_value());
    if (live->state.phase == RoundPhase::kEvaluating) break;
    ASSERT_EQ(live->state.phase, RoundPhase::kAggregating);
    world.bell().WaitBeyond(rings);
  }
}

}  // namespace
}  // namespace consilium

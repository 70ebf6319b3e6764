// SIGTERM waits for no long call of an operator: each ends with CANCELLED.

#include <gtest/gtest.h>

#include <string>

#include "consilium/base/status_macros.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;

class EngineStopTest : public testing::Test {
 protected:
  // Round 1 has folded both contributions.
  void SetUp() override {
    ASSERT_OK(world_.Boot());
    ASSERT_OK_AND_ASSIGN(
        round_, world_.engine().StartRound("operator", {}, {}, "manual", ""));
    for (const char* name : {"bank-a", "bank-b"}) {
      FakeInstitution bank(
          {.name = name, .delta = 0.5f, .examples = 10, .groups = {"shared"}});
      ASSERT_OK(bank.Contribute(world_, round_));
    }
    for (;;) {
      const uint64_t rings = world_.bell().rings();
      const auto live = world_.engine().LiveRoundOf(round_);
      ASSERT_TRUE(live.has_value());
      if (live->state.phase != RoundPhase::kAggregating) break;
      world_.bell().WaitBeyond(rings);
    }
    ASSERT_OK(world_.store().history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                                 ListContributions(tx, {.round = round_}));
      contribution_ = rows.at(0).id;
      return absl::OkStatus();
    }));
  }

  EngineWorld world_{EngineWorld::MakeImage(SmallLayout())};
  int64_t round_ = 0;
  std::string contribution_;
};

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

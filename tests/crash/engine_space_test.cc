// The disk is full, or fails once, at every change of a file while two
// institutions take a round through the engine. Nobody restarts anything:
// callers get an error that says what is wrong, and once there is space again
// the round goes on by itself and ends as if nothing had been.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "consilium/base/strings.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"
#include "tests/crash/round_play.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

// Beyond every pause after which the engine tries again.
constexpr absl::Duration kLater = absl::Minutes(2);

enum class Trouble {
  kFull,      // until somebody makes room
  kOneFull,   // one step finds no space, the next one does
  kOneError,  // one step fails for another reason
};

struct Case {
  DiskImage image;
  int64_t changes = 0;
  std::optional<Sha256Digest> first;
  std::optional<Sha256Digest> second;
};

Case UndisturbedCase() {
  Case c;
  c.image = EngineWorld::MakeImage(SmallLayout());
  EngineWorld world(c.image);
  const int64_t before = world.fs().ops();
  EXPECT_OK(RoundPlay(1, Ending::kPromoted).Run(world));
  c.changes = world.fs().ops() - before;
  EXPECT_OK(RoundPlay(2, Ending::kPromoted).Run(world));
  c.first = RoundPlay::CandidateOf(world, 1);
  c.second = RoundPlay::CandidateOf(world, 2);
  return c;
}

void ExpectClear(const absl::Status& status) {
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("/data"),
                             testing::ContainsRegex("free (disk )?space")));
}

// False: the round came to its end before the k-th change.
bool FailAt(const Case& c, int64_t k, Trouble trouble) {
  SCOPED_TRACE(Cat("change ", k, " of ", c.changes, ", trouble ",
                   static_cast<int>(trouble)));
  EngineWorld world(c.image);
  RoundPlay play(1, Ending::kPromoted);
  const int64_t before = world.fs().ops();
  if (trouble == Trouble::kFull) {
    world.fs().FillUpAt(k);
  } else if (trouble == Trouble::kOneFull) {
    world.fs().FailAt(k, absl::ResourceExhaustedError("no space left"));
  } else {
    world.fs().FailAt(k, absl::UnavailableError("I/O error"));
  }
  absl::Status status = play.Run(world);
  const bool met = world.fs().ops() - before >= k;
  for (int tries = 0; !status.ok() && tries < 5; ++tries) {
    if (trouble == Trouble::kFull) ExpectClear(status);
    world.fs().CancelFaults();
    world.clock().Advance(kLater);
    // SQLite believes no file again whose sync has failed.
    if (trouble != Trouble::kFull && tries == 2) world.Down();
    status = play.Run(world);
  }
  EXPECT_OK(status);
  if (testing::Test::HasFailure()) return met;
  world.fs().CancelFaults();
  play.ExpectKept(world, c.first);
  if (k % 7 != 0) return met;
  if (trouble != Trouble::kFull) world.Down();  // as above
  EXPECT_OK(RoundPlay(2, Ending::kPromoted).Run(world));
  EXPECT_EQ(RoundPlay::CandidateOf(world, 2), c.second);
  return met;
}

TEST(EngineSpacePromiseTest, ARoundThatHasNoRoomForItsVersionDoesNotBegin) {
  EngineWorld world(EngineWorld::MakeImage(SmallLayout()));
  ASSERT_OK(world.Boot());
  const int64_t bytes = world.engine().current_version().value().blob_bytes;
  SpaceLedger& space = world.store().space();
  ASSERT_OK_AND_ASSIGN(const int64_t free, world.fs().FreeSpace("/data"));
  ASSERT_OK_AND_ASSIGN(SpaceReservation rest,
                       space.Reserve(free - bytes + 1, "test"));
  const auto start = [&] {
    return world.engine().StartRound("operator", {}, {}, "manual", "");
  };
  EXPECT_THAT(start(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::HasSubstr("the round's version needs")));
  rest.Use(1);
  EXPECT_OK(start().status());
}

TEST(EngineSpacePromiseTest, TheVersionsSpaceIsPromisedUntilItIsFolded) {
  EngineWorld world(EngineWorld::MakeImage(SmallLayout()));
  ASSERT_OK(world.Boot());
  const int64_t bytes = world.engine().current_version().value().blob_bytes;
  ASSERT_OK_AND_ASSIGN(
      const int64_t round,
      world.engine().StartRound("operator", {}, {}, "manual", ""));
  EXPECT_EQ(world.store().space().reserved_bytes(), bytes);
  world.Down();
  ASSERT_OK(world.Boot());
  EXPECT_EQ(world.store().space().reserved_bytes(), bytes);
  for (const char* name : {"bank-a", "bank-b"}) {
    FakeInstitution bank(
        {.name = name, .delta = 0.5f, .examples = 10, .groups = {"shared"}});
    ASSERT_OK(bank.Contribute(world, round));
  }
  for (;;) {
    const uint64_t rings = world.bell().rings();
    const auto live = world.engine().LiveRoundOf(round);
    ASSERT_TRUE(live.has_value());
    if (live->state.phase != RoundPhase::kAggregating) break;
    world.bell().WaitBeyond(rings);
  }
  EXPECT_EQ(world.store().space().reserved_bytes(), 0);
}

// Every change, in shards that can run beside each other.
constexpr int64_t kShards = 4;
class EngineSpaceTest : public testing::TestWithParam<int64_t> {};

TEST_P(EngineSpaceTest, ARoundGoesOnOnceAFullDiskHasSpaceAgain) {
  const Case c = UndisturbedCase();
  WalkSteps({.known = c.changes, .first = GetParam(), .stride = kShards},
            [&](int64_t k) { return FailAt(c, k, Trouble::kFull); });
}

TEST_P(EngineSpaceTest, ARoundOutlivesAStepThatFails) {
  const Case c = UndisturbedCase();
  WalkSteps({.known = c.changes, .first = GetParam(), .stride = kShards},
            [&](int64_t k) {
              return FailAt(c, k,
                            k % 8 < 4 ? Trouble::kOneFull : Trouble::kOneError);
            });
}

INSTANTIATE_TEST_SUITE_P(Shard, EngineSpaceTest,
                         testing::Range(int64_t{1}, kShards + 1));

}  // namespace
}  // namespace consilium

// Power is lost at every change of a file while two institutions take a round
// through the engine: store, SQLite, spools, blobs and round keys lie on one
// disk that drops, keeps or tears whatever was not synced.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/functional/function_ref.h"
#include "consilium/base/strings.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/round_play.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

enum class Loss {
  kPower,
  kPowerTwice,  // and once more soon after, which often is inside recovery
  kProcess,     // kill -9: what was written stays
  // kill -9, and the power after the next process has told its state, or
  // everything: what the dead one had not synced goes then.
  kProcessThenPowerSoon,
  kProcessThenPowerLate,
};

struct Case {
  DiskImage image;
  int64_t round = 1;
  Ending ending = Ending::kPromoted;
  std::optional<Sha256Digest> digest;
  // Changes of files: in all, and at two points of the round.
  int64_t changes = 0;
  int64_t contributed_at = 0;
  int64_t folded_at = 0;
};

// The first round of a federation, or the second one, which overwrites the
// files that the first one left.
Case UndisturbedCase(const Layout& layout, Ending ending, int64_t round = 1) {
  Case c;
  c.image = EngineWorld::MakeImage(layout);
  c.round = round;
  c.ending = ending;
  if (round == 2) {
    EngineWorld world(c.image);
    EXPECT_OK(RoundPlay(1, Ending::kPromoted).Run(world));
    world.Down();
    c.image = world.TakeImage();
  }
  EngineWorld world(c.image);
  const int64_t before = world.fs().ops();
  RoundPlay play(round, ending);
  EXPECT_OK(play.Run(world));
  c.digest = RoundPlay::CandidateOf(world, round);
  c.changes = world.fs().ops() - before;
  c.contributed_at = play.contributed_at() - before;
  c.folded_at = play.folded_at() - before;
  play.ExpectKept(world, c.digest);
  return c;
}

// How far the round was when the first loss came.
enum class Met { kNothing, kBeforeTheFold, kAfterTheFold };

// Cuts the power after the so many-th step that a player takes from now on.
class LaterCut {
 public:
  LaterCut(EngineWorld* world, RoundPlay* play) {
    play->OnStep([this, world] {
      if (steps_left_ > 0 && --steps_left_ == 0) world->fs().CrashAt(1);
    });
  }
  void Arm(int steps) { steps_left_ = steps; }

 private:
  int steps_left_ = 0;
};

Met LoseAt(const Case& c, int64_t k, Loss loss) {
  const uint64_t seed =
      static_cast<uint64_t>(k) * 3 + static_cast<uint64_t>(loss);
  SCOPED_TRACE(Cat("change ", k, " of ", c.changes, ", seed ", seed, ", loss ",
                   static_cast<int>(loss)));
  EngineWorld world(c.image);
  RoundPlay play(c.round, c.ending);
  LaterCut cut(&world, &play);
  world.fs().CrashAt(k);
  Met met = Met::kNothing;
  for (int losses = 0;; ++losses) {
    const absl::Status status = play.Run(world);
    if (!world.fs().crashed()) {
      EXPECT_OK(status);
      break;
    }
    if (losses == 0) {
      met = play.folded_at() > 0 ? Met::kAfterTheFold : Met::kBeforeTheFold;
    }
    world.Down();
    switch (loss) {
      case Loss::kPower:
        world.fs().Crash(seed);
        break;
      case Loss::kPowerTwice:
        world.fs().Crash(seed + static_cast<uint64_t>(losses));
        if (losses == 0)
          world.fs().CrashAt(1 + static_cast<int64_t>(seed % 23));
        break;
      case Loss::kProcess:
        world.fs().KillProcess();
        break;
      case Loss::kProcessThenPowerSoon:
      case Loss::kProcessThenPowerLate:
        if (losses > 0) {
          world.fs().CrashKeepingNothingUnsynced();
          break;
        }
        world.fs().KillProcess();
        cut.Arm(loss == Loss::kProcessThenPowerSoon ? 1 : RoundPlay::kSteps);
        break;
    }
  }
  if (!testing::Test::HasFailure()) play.ExpectKept(world, c.digest);
  return met;
}

// Every `stride`-th change from `first` on.
void Walk(const Case& c, int64_t first, int64_t stride,
          absl::FunctionRef<Loss(int64_t)> loss_at) {
  WalkSteps(
      {.known = c.changes, .first = first, .stride = stride},
      [&](int64_t k) { return LoseAt(c, k, loss_at(k)) != Met::kNothing; });
}

// Every change, in shards that can run beside each other.
constexpr int64_t kShards = 4;
class EnginePowerTest : public testing::TestWithParam<int64_t> {};

TEST_P(EnginePowerTest, APromotedRoundSurvivesTheLossOfPower) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted, 2);
  Walk(c, GetParam(), kShards, [](int64_t) { return Loss::kPower; });
}

TEST_P(EnginePowerTest, APromotedRoundSurvivesTwoLossesAndKilledProcesses) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted);
  Walk(c, GetParam(), kShards, [](int64_t k) {
    return k % 8 < 4 ? Loss::kPowerTwice : Loss::kProcess;
  });
}

// What a killed process had not synced is seen by the next one, which builds
// on it and tells of it; then the power fails.
TEST_P(EnginePowerTest, AProcessIsKilledAndThePowerFailsOnceTheNextHasLooked) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted);
  Walk(c, GetParam(), kShards,
       [](int64_t) { return Loss::kProcessThenPowerSoon; });
}

TEST_P(EnginePowerTest, AProcessIsKilledAndThePowerFailsAfterTheRound) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted);
  Walk(c, GetParam(), kShards,
       [](int64_t) { return Loss::kProcessThenPowerLate; });
}

TEST_P(EnginePowerTest, UploadsOfManyChunksSurviveTheLossOfPower) {
  const Case c = UndisturbedCase(LayoutOfTwoFrames(), Ending::kPromoted);
  WalkSteps({.known = c.folded_at,
             .first = c.contributed_at + GetParam(),
             .stride = kShards},
            [&](int64_t k) {
              const Met met = LoseAt(c, k, Loss::kPower);
              return met == Met::kBeforeTheFold ||
                     (met == Met::kAfterTheFold && k <= c.folded_at);
            });
}

INSTANTIATE_TEST_SUITE_P(Shard, EnginePowerTest,
                         testing::Range(int64_t{1}, kShards + 1));

// Up to bank-a's contribution these rounds are as those above.
class OtherEndingsTest : public testing::TestWithParam<Ending> {};

TEST_P(OtherEndingsTest, SurviveTheLossOfPower) {
  const Case c = UndisturbedCase(SmallLayout(), GetParam());
  Walk(c, c.contributed_at, 1, [](int64_t) { return Loss::kPower; });
}

INSTANTIATE_TEST_SUITE_P(Rounds, OtherEndingsTest,
                         testing::Values(Ending::kRejected, Ending::kFailed,
                                         Ending::kCancelled),
                         [](const auto& info) {
                           switch (info.param) {
                             case Ending::kRejected:
                               return "Rejected";
                             case Ending::kFailed:
                               return "Failed";
                             default:
                               return "Cancelled";
                           }
                         });

}  // namespace
}  // namespace consilium

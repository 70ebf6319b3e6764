// Power is lost at every change of a file while two institutions take a round
// through the engine: store, SQLite, spools, blobs and round keys lie on one
// disk that drops, keeps or tears whatever was not synced.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>

#include "consilium/base/strings.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/round_play.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

enum class Loss {
  kPower,
  kPowerTwice,  // and once more soon after, which often is inside recovery
  kProcess,     // kill -9: what was written stays
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

void LoseAt(const Case& c, int64_t k, Loss loss) {
  const uint64_t seed =
      static_cast<uint64_t>(k) * 3 + static_cast<uint64_t>(loss);
  SCOPED_TRACE(Cat("change ", k, " of ", c.changes, ", seed ", seed, ", loss ",
                   static_cast<int>(loss)));
  EngineWorld world(c.image);
  RoundPlay play(c.round, c.ending);
  world.fs().CrashAt(k);
  int losses = 0;
  for (;;) {
    const absl::Status status = play.Run(world);
    if (!world.fs().crashed()) {
      EXPECT_OK(status);
      break;
    }
    world.Down();
    if (loss == Loss::kProcess) {
      world.fs().KillProcess();
    } else {
      world.fs().Crash(seed + static_cast<uint64_t>(losses));
    }
    ++losses;
    if (loss == Loss::kPowerTwice && losses == 1) {
      world.fs().CrashAt(1 + static_cast<int64_t>(seed % 23));
    }
  }
  EXPECT_GT(losses, 0);
  if (!testing::Test::HasFailure()) play.ExpectKept(world, c.digest);
}

// Threads write beside each other, so that one run makes a few changes more
// than another: the last of them are left out.
constexpr int64_t kMargin = 3;

// Every change, in shards that can run beside each other.
constexpr int64_t kShards = 4;
class EnginePowerTest : public testing::TestWithParam<int64_t> {};

TEST_P(EnginePowerTest, APromotedRoundSurvivesTheLossOfPower) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted, 2);
  for (int64_t k = GetParam(); k <= c.changes - kMargin && !HasFailure();
       k += kShards) {
    LoseAt(c, k, Loss::kPower);
  }
}

TEST_P(EnginePowerTest, APromotedRoundSurvivesTwoLossesAndKilledProcesses) {
  const Case c = UndisturbedCase(SmallLayout(), Ending::kPromoted);
  for (int64_t k = GetParam(); k <= c.changes - kMargin && !HasFailure();
       k += kShards) {
    LoseAt(c, k, k % 8 < 4 ? Loss::kPowerTwice : Loss::kProcess);
  }
}

TEST_P(EnginePowerTest, UploadsOfManyChunksSurviveTheLossOfPower) {
  const Case c = UndisturbedCase(LayoutOfTwoFrames(), Ending::kPromoted);
  for (int64_t k = c.contributed_at + GetParam();
       k <= c.folded_at && !HasFailure(); k += kShards) {
    LoseAt(c, k, Loss::kPower);
  }
}

INSTANTIATE_TEST_SUITE_P(Shard, EnginePowerTest,
                         testing::Range(int64_t{1}, kShards + 1));

// Up to bank-a's contribution these rounds are as those above.
class OtherEndingsTest : public testing::TestWithParam<Ending> {};

TEST_P(OtherEndingsTest, SurviveTheLossOfPower) {
  const Case c = UndisturbedCase(SmallLayout(), GetParam());
  for (int64_t k = c.contributed_at; k <= c.changes - kMargin && !HasFailure();
       ++k) {
    LoseAt(c, k, Loss::kPower);
  }
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

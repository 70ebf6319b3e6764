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

constexpr int64_t kEndless = 5000;

enum class Loss {
  kPower,
  kPowerTwice,  // and once more soon after, which often is inside recovery
  kProcess,     // kill -9: what was written stays
};

struct Case {
  DiskImage image;
  Ending ending;
  std::optional<Sha256Digest> digest;
};

Case UndisturbedCase(const Layout& layout, Ending ending) {
  Case c{EngineWorld::MakeImage(layout), ending, std::nullopt};
  EngineWorld world(c.image);
  RoundPlay play(1, ending);
  EXPECT_OK(play.Run(world));
  c.digest = RoundPlay::CandidateOf(world, 1);
  std::printf("%lld changes of files\n",
              static_cast<long long>(world.fs().ops()));
  play.ExpectKept(world, c.digest);
  return c;
}

// Returns whether the k-th change came at all.
bool LoseAt(const Case& c, int64_t k, uint64_t seed, Loss loss) {
  SCOPED_TRACE(
      Cat("change ", k, ", seed ", seed, ", loss ", static_cast<int>(loss)));
  EngineWorld world(c.image);
  RoundPlay play(1, c.ending);
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
  if (!testing::Test::HasFailure()) play.ExpectKept(world, c.digest);
  return losses > 0;
}

void LoseEverywhere(const Case& c, const std::vector<Loss>& losses) {
  bool more = true;
  for (int64_t k = 1; more && k < kEndless; ++k) {
    uint64_t seed = static_cast<uint64_t>(k) * 7919;
    for (const Loss loss : losses) {
      more = LoseAt(c, k, ++seed, loss);
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_FALSE(more);
}

TEST(EnginePowerTest, APromotedRoundSurvivesTheLossOfPower) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kPromoted),
                 {Loss::kPower, Loss::kPower});
}

TEST(EnginePowerTest, APromotedRoundSurvivesTwoLossesOfPower) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kPromoted),
                 {Loss::kPowerTwice});
}

TEST(EnginePowerTest, APromotedRoundSurvivesAKilledProcess) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kPromoted),
                 {Loss::kProcess});
}

TEST(EnginePowerTest, AnUploadOfManyChunksSurvivesTheLossOfPower) {
  LoseEverywhere(UndisturbedCase(LayoutOfTwoFrames(), Ending::kPromoted),
                 {Loss::kPower});
}

TEST(EnginePowerTest, ARejectedRoundSurvivesTheLossOfPower) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kRejected),
                 {Loss::kPower});
}

TEST(EnginePowerTest, AFailedRoundSurvivesTheLossOfPower) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kFailed),
                 {Loss::kPower});
}

TEST(EnginePowerTest, ACancelledRoundSurvivesTheLossOfPower) {
  LoseEverywhere(UndisturbedCase(SmallLayout(), Ending::kCancelled),
                 {Loss::kPower});
}

}  // namespace
}  // namespace consilium

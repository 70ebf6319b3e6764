// The disk is full, or fails once, at every change of a file while two
// institutions take a round through the engine. Nobody restarts anything:
// callers get an error that says what is wrong, and once there is space again
// the round goes on by itself and ends as if nothing had been.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "consilium/base/strings.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/round_play.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr int64_t kEndless = 5000;
// Beyond every pause after which the engine tries again.
constexpr absl::Duration kLater = absl::Minutes(2);

enum class Trouble {
  kFull,     // until somebody makes room
  kOneFull,  // one step finds no space, the next one does
  kOneSync,  // one step fails for another reason
};

struct Case {
  DiskImage image;
  std::optional<Sha256Digest> first;
  std::optional<Sha256Digest> second;
};

Case UndisturbedCase() {
  Case c{EngineWorld::MakeImage(SmallLayout()), std::nullopt, std::nullopt};
  EngineWorld world(c.image);
  EXPECT_OK(RoundPlay(1, Ending::kPromoted).Run(world));
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

// Returns whether the k-th change came at all.
bool FailAt(const Case& c, int64_t k, Trouble trouble) {
  SCOPED_TRACE(Cat("change ", k, ", trouble ", static_cast<int>(trouble)));
  EngineWorld world(c.image);
  RoundPlay play(1, Ending::kPromoted);
  const int64_t before = world.fs().ops();
  if (trouble == Trouble::kFull) {
    world.fs().FillUpAt(k);
  } else {
    world.fs().FailAt(k, trouble == Trouble::kOneFull
                             ? absl::ResourceExhaustedError(
                                   "write /data/x: No space left on device; "
                                   "free space on that disk")
                             : absl::UnavailableError("I/O error"));
  }
  absl::Status status = play.Run(world);
  const bool came = world.fs().ops() >= before + k;
  for (int tries = 0; !status.ok() && tries < 5; ++tries) {
    if (trouble == Trouble::kFull) ExpectClear(status);
    world.fs().CancelFaults();
    world.clock().Advance(kLater);
    // SQLite believes no file again whose sync has failed.
    if (trouble != Trouble::kFull && tries == 2) world.Down();
    status = play.Run(world);
  }
  EXPECT_OK(status);
  if (testing::Test::HasFailure()) return came;
  world.fs().CancelFaults();
  play.ExpectKept(world, c.first);
  EXPECT_OK(RoundPlay(2, Ending::kPromoted).Run(world));
  EXPECT_EQ(RoundPlay::CandidateOf(world, 2), c.second);
  return came;
}

void FailEverywhere(Trouble trouble) {
  const Case c = UndisturbedCase();
  bool more = true;
  for (int64_t k = 1; more && k < kEndless; ++k) {
    more = FailAt(c, k, trouble);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_FALSE(more);
}

TEST(EngineSpaceTest, ARoundGoesOnOnceAFullDiskHasSpaceAgain) {
  FailEverywhere(Trouble::kFull);
}

TEST(EngineSpaceTest, ARoundOutlivesOneStepWithoutSpace) {
  FailEverywhere(Trouble::kOneFull);
}

TEST(EngineSpaceTest, ARoundOutlivesOneStepThatFails) {
  FailEverywhere(Trouble::kOneSync);
}

}  // namespace
}  // namespace consilium

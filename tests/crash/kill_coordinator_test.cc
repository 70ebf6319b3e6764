// A coordinator process is killed with SIGKILL before every change of a file
// and on both sides of every commit, in rounds of every ending, while two
// institutions on the real SDK take part over mutual TLS. They go on by
// themselves once it is back, train once, and the result is what it would have
// been.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/crash/coordinator_kill.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

using KillCoordinatorTest = CoordinatorKillTest;

using Labels = std::vector<std::string>;
// On the way to every end, from bank-b's act on; and that of a fold.
const Labels kFailSteps = {"commit failed", "after the commit failed"};
const Labels kFoldSteps = {
    "make ",         ".spool",        "sync ",
    "sync folder ",  "commit upload", "commit committed aggregating",
    ".blob-tmp",     "rename to ",    "/blobs/",
    "commit folded", "evaluating",    "after the commit folded"};

Labels With(Labels labels, const Labels& more) {
  labels.insert(labels.end(), more.begin(), more.end());
  return labels;
}

class KillInPromotedRoundTest : public CoordinatorKillTest,
                                public testing::WithParamInterface<int64_t> {};

// Shards run beside each other; each walks every fourth step.
constexpr int64_t kShards = 4;

TEST_P(KillInPromotedRoundTest, ARoundIsPromotedWhereverItWasKilled) {
  const auto run = [&](int64_t step) {
    StartRound(step);
    return !HasFailure() && EndsAs("promoted");
  };
  const int64_t known = StepsOf(
      [&] { run(0); },
      With(kFoldSteps,
           {"/round-keys/", "commit planned round.start", "commit open",
            "upload collecting", "commit committed collecting", "bank-a-",
            "bank-b-", "commit promoted", "after the commit promoted"}));
  WalkSteps({.known = known, .first = GetParam(), .stride = kShards}, run);
}

INSTANTIATE_TEST_SUITE_P(Shard, KillInPromotedRoundTest,
                         testing::Range(int64_t{1}, kShards + 1));

// The way to the other endings begins like the one above: here the kill comes
// at each step after the deciding act.
TEST_F(KillCoordinatorTest, ARoundIsRejectedWhereverItWasKilled) {
  a_->Behave(Conduct::kDeclineEvaluation);
  b_->Behave(Conduct::kDeclineEvaluation);
  const auto run = [&](int64_t step) {
    StartRoundUpToBankB(step);
    b_->Release();
    const bool killed = EndsAs("rejected");
    EXPECT_EQ(b_->SeenIn(round_).trainings, 1);
    return killed;
  };
  const Labels labels = With(kFoldSteps, {"commit rejected"});
  WalkToEach(StepsOf([&] { run(0); }, labels), labels, steps(), run);
}

TEST_F(KillCoordinatorTest, ARoundFailsWhereverItWasKilled) {
  b_->Behave(Conduct::kDeclineTraining);
  const auto run = [&](int64_t step) {
    StartRoundUpToBankB(step);
    b_->Release();
    return EndsAs("failed");
  };
  WalkToEach(StepsOf([&] { run(0); }, kFailSteps), kFailSteps, steps(), run);
}

TEST_F(KillCoordinatorTest, ARoundIsPromotedAlthoughRecoveryWasKilledToo) {
  const auto run = [&](int64_t step) {
    StartRound(step);
    return !HasFailure() && EndsAs("promoted");
  };
  const int64_t known = StepsOf([&] { run(0); }, kFoldSteps);
  kill_again_ = true;
  // Of the last steps the second kill would find none left.
  for (int64_t step = 3; step < known - 8 && !HasFailure(); step += 7) {
    const size_t before = killed_at().size();
    run(step);
    EXPECT_EQ(killed_at().size(), before + 2) << "step " << step;
  }
}

}  // namespace
}  // namespace consilium

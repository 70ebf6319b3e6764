// A coordinator process is killed with SIGKILL before every change of a file
// and on both sides of every commit, in rounds of every ending, while two
// institutions on the real SDK take part over mutual TLS. They go on by
// themselves once it is back, train once, and the result is what it would have
// been.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "consilium/base/strings.h"
#include "proto/wire/status.h"
#include "tests/crash/kill_fixture.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using Conduct = SdkInstitution::Conduct;

class KillCoordinatorTest : public KillTest {
 protected:
  void SetUp() override {
    KillTest::SetUp();
    if (HasFatalFailure()) return;
    a_ = StartInstitution("bank-a", kDeltaA, kExamplesA);
    b_ = StartInstitution("bank-b", kDeltaB, kExamplesB);
  }
  void TearDown() override {
    a_.reset();
    b_.reset();
    KillTest::TearDown();
  }

  // After a kill: the process is gone, a new one is up.
  void Revive() {
    ASSERT_EQ(federation_->coordinator().Wait(kKillTestTimeout), 128 + SIGKILL);
    ASSERT_TRUE(kill_->fired());
    labels_.push_back(kill_->label());
    // Beyond the end of recovery this meets the round that goes on.
    const bool again = kill_again_ && labels_.size() % 2 == 1;
    kill_->Arm(again ? 1 + static_cast<int64_t>(labels_.size() % 5) : 0);
    ASSERT_OK(federation_->StartCoordinator());
    if (!federation_->WaitUntilUp(kKillTestTimeout).ok()) Revive();
  }

  // Repeats an operator's call until it is answered; `done` says whether an
  // unanswered one was carried out.
  void Insist(const std::function<absl::Status()>& call,
              const std::function<bool()>& done) {
    absl::Status status = call();
    while (!status.ok() && kill_->fired() && !HasFatalFailure()) {
      Revive();
      status = done() ? absl::OkStatus() : call();
    }
    ASSERT_OK(status);
  }

  // Starts the round, with the kill at its `step`-th step; 0: none.
  void StartRound(int64_t step) {
    ++round_;
    kill_->Arm(step);
    Insist([&] { return federation_->StartRound().status(); },
           [&] { return Look(round_).ok(); });
  }

  absl::Status Cancel() {
    grpc::ClientContext context;
    v1::CancelRoundRequest request;
    request.set_round(round_);
    request.set_reason("wrong data");
    v1::RoundInfo info;
    return FromGrpc(federation_->admin().CancelRound(&context, request, &info));
  }

  // The round ends like this, revived as often as it takes. False: nothing was
  // killed.
  bool EndsAs(const std::string& phase) {
    absl::StatusOr<v1::RoundInfo> end;
    for (;;) {
      end = federation_->WatchRound(round_, nullptr, kKillTestTimeout);
      if (end.ok() && end->terminal()) break;
      if (kill_->fired()) {
        Revive();
      } else if (!end.ok() && !absl::IsUnavailable(end.status())) {
        ADD_FAILURE() << end.status();
      }
      if (HasFailure()) return false;
    }
    kill_->Arm(0);
    const bool killed = labels_.size() > kills_seen_;
    kills_seen_ = labels_.size();
    SCOPED_TRACE(Cat("round ", round_,
                     ", killed before: ", killed ? labels_.back() : "nothing"));
    ExpectEnd(*end, phase);
    EXPECT_EQ(a_->SeenIn(round_).trainings, 1);
    if (phase == "promoted") {
      for (SdkInstitution* const bank : {a_.get(), b_.get()}) {
        const SdkInstitution::Seen seen = bank->SeenIn(round_);
        EXPECT_EQ(seen.trainings, 1);
        EXPECT_EQ(seen.receipts, 1);
        EXPECT_EQ(seen.evaluations, 1);
      }
    }
    return killed && !HasFailure();
  }

  // Up to where bank-b decides what becomes of it; the kill comes after that.
  void StartRoundUpToBankB(int64_t step) {
    b_->Hold();
    StartRound(0);
    a_->AwaitOutcome(round_);
    kill_->Arm(step);
  }

  std::unique_ptr<SdkInstitution> a_;
  std::unique_ptr<SdkInstitution> b_;
  bool kill_again_ = false;
  std::vector<std::string> labels_;
  size_t kills_seen_ = 0;
  uint64_t round_ = 0;
};

class KillInPromotedRoundTest : public KillCoordinatorTest,
                                public testing::WithParamInterface<int64_t> {};

// Shards run beside each other; each walks every fourth step.
constexpr int64_t kShards = 4;

TEST_P(KillInPromotedRoundTest, ARoundIsPromotedWhereverItWasKilled) {
  bool killed = true;
  for (int64_t step = GetParam(); killed && !HasFailure(); step += kShards) {
    StartRound(step);
    killed = !HasFailure() && EndsAs("promoted");
  }
  EXPECT_GT(labels_.size(), 5u);
}

INSTANTIATE_TEST_SUITE_P(Shard, KillInPromotedRoundTest,
                         testing::Range(int64_t{1}, kShards + 1));

// The way to the other endings begins like the one above: here the kill comes
// at each step after the deciding act.
TEST_F(KillCoordinatorTest, ARoundIsRejectedWhereverItWasKilled) {
  a_->Behave(Conduct::kDeclineEvaluation);
  b_->Behave(Conduct::kDeclineEvaluation);
  bool killed = true;
  for (int64_t step = 1; killed && !HasFailure(); ++step) {
    StartRoundUpToBankB(step);
    b_->Release();
    killed = EndsAs("rejected");
    EXPECT_EQ(b_->SeenIn(round_).trainings, 1);
  }
  EXPECT_GT(labels_.size(), 12u);
}

TEST_F(KillCoordinatorTest, ARoundFailsWhereverItWasKilled) {
  b_->Behave(Conduct::kDeclineTraining);
  bool killed = true;
  for (int64_t step = 1; killed && !HasFailure(); ++step) {
    StartRoundUpToBankB(step);
    b_->Release();
    killed = EndsAs("failed");
  }
  EXPECT_GE(labels_.size(), 2u);
}

TEST_F(KillCoordinatorTest, ARoundIsCancelledWhereverItWasKilled) {
  bool killed = true;
  for (int64_t step = 1; killed && !HasFailure(); ++step) {
    StartRoundUpToBankB(step);
    Insist([&] { return Cancel(); },
           [&] {
             const auto info = Look(round_);
             return info.ok() && info->phase() == "cancelled";
           });
    b_->Release();
    killed = EndsAs("cancelled");
    EXPECT_EQ(b_->SeenIn(round_).trainings, 0);
  }
  EXPECT_GE(labels_.size(), 2u);
}

TEST_F(KillCoordinatorTest, ARoundIsPromotedAlthoughRecoveryWasKilledToo) {
  kill_again_ = true;
  for (int64_t step = 3; step < 45 && !HasFailure(); step += 7) {
    StartRound(step);
    if (!HasFailure()) EndsAs("promoted");
  }
}

}  // namespace
}  // namespace consilium

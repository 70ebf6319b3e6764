#include "tests/crash/coordinator_kill.h"

#include <algorithm>
#include <csignal>
#include <limits>
#include <thread>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {

void CoordinatorKillTest::SetUp() {
  KillTest::SetUp();
  if (HasFatalFailure()) return;
  a_ = StartInstitution("bank-a", kDeltaA, kExamplesA);
  b_ = StartInstitution("bank-b", kDeltaB, kExamplesB);
}

void CoordinatorKillTest::TearDown() {
  a_.reset();
  b_.reset();
  KillTest::TearDown();
}

void CoordinatorKillTest::Revive() {
  ASSERT_EQ(federation_->coordinator().Wait(kKillTestTimeout), 128 + SIGKILL);
  ASSERT_TRUE(kill_->fired());
  killed_at_.push_back(kill_->label());
  // Beyond the end of recovery this meets the round that goes on.
  const bool again = kill_again_ && killed_at_.size() % 2 == 1;
  kill_->Arm(again ? 1 + static_cast<int64_t>(killed_at_.size() % 5) : 0);
  ASSERT_OK(federation_->StartCoordinator());
  if (!federation_->WaitUntilUp(kKillTestTimeout).ok()) Revive();
}

void CoordinatorKillTest::Insist(const Call& call,
                                 const std::function<bool()>& done) {
  absl::Status status = call();
  while (!status.ok() && kill_->fired() && !HasFatalFailure()) {
    Revive();
    status = done() ? absl::OkStatus() : call();
  }
  ASSERT_OK(status);
}

void CoordinatorKillTest::StartRound(int64_t step) {
  ++round_;
  kill_->Arm(step);
  Insist([&] { return federation_->StartRound().status(); },
         [&] { return Look(round_).ok(); });
}

void CoordinatorKillTest::StartRoundUpToBankB(int64_t step) {
  b_->Hold();
  StartRound(0);
  a_->AwaitOutcome(round_);
  kill_->Arm(step);
}

bool CoordinatorKillTest::EndsAs(const std::string& phase, Folded folded) {
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
  const auto ends = [&](const std::string& step) {
    return step.starts_with("after the commit") &&
           step.find(phase) != std::string::npos;
  };
  // Who watches hears of the end a moment before its last step is noted.
  constexpr int kPatience = 1'000'000;
  auto end_step = steps_.end();
  for (int i = 0; i < kPatience; ++i, std::this_thread::yield()) {
    steps_ = kill_->Trace();
    end_step = std::find_if(steps_.begin(), steps_.end(), ends);
    if (end_step != steps_.end() || kill_->fired()) break;
  }
  // What members still say after the end may come or not.
  if (end_step != steps_.end()) steps_.erase(end_step + 1, steps_.end());
  // Its last steps are taken beside the answer.
  kill_->Disarm();
  if (kill_->fired()) Revive();
  const bool killed = killed_at_.size() > kills_seen_;
  kills_seen_ = killed_at_.size();
  SCOPED_TRACE(Cat("round ", round_, ", killed before: ",
                   killed ? killed_at_.back() : "nothing"));
  ExpectEnd(*end, phase, folded);
  const bool promoted = phase == "promoted";
  for (SdkInstitution* const bank : {a_.get(), b_.get()}) {
    const bool counts =
        bank == a_.get() ? folded != Folded::kOnlyB : folded != Folded::kOnlyA;
    const SdkInstitution::Seen seen = bank->SeenIn(round_);
    if (bank == a_.get() || (promoted && counts)) {
      EXPECT_EQ(seen.trainings, 1);
    }
    if (promoted && counts) {
      EXPECT_EQ(seen.receipts, 1);
      EXPECT_EQ(seen.evaluations, 1);
    }
  }
  return killed && !HasFailure();
}

void CoordinatorKillTest::WalkToEach(int64_t known,
                                     const std::vector<std::string>& labels,
                                     const std::vector<std::string>& steps,
                                     absl::FunctionRef<bool(int64_t)> run) {
  constexpr int64_t kTries = 40;
  const auto before = static_cast<ptrdiff_t>(killed_at_.size());
  const std::vector<std::string> trace = steps;  // each run leaves another one
  WalkSteps({.known = known}, run);
  if (HasFailure()) return;
  for (const std::string& label : labels) {
    const auto has = [&label](const std::string& step) {
      return step.find(label) != std::string::npos;
    };
    const auto place =
        std::find_if(trace.begin(), trace.end(), has) - trace.begin();
    for (int64_t i = 0; i < kTries && !HasFailure(); ++i) {
      if (std::any_of(killed_at_.begin() + before, killed_at_.end(), has)) {
        break;
      }
      // At its place, one after it, one before it, and so on.
      const int64_t off = (i % 5 + 1) / 2 * (i % 2 == 0 ? -1 : 1);
      run(std::clamp<int64_t>(place + 1 + off, 1, known));
    }
  }
  if (HasFailure()) return;
  ExpectSteps({killed_at_.begin() + before, killed_at_.end()}, labels);
}

int64_t CoordinatorKillTest::StepsOf(const std::function<void()>& round,
                                     const std::vector<std::string>& labels) {
  // Twice, since one of them may write down who was seen, too.
  int64_t fewest = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < 2 && !HasFailure(); ++i) {
    round();
    ExpectSteps(steps_, labels);
    fewest = std::min(fewest, static_cast<int64_t>(steps_.size()));
  }
  EXPECT_TRUE(killed_at_.empty());
  return fewest;
}

}  // namespace consilium

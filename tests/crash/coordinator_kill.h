// A federation whose coordinator a test kills again and again, while two
// institutions on the real SDK take part. They go on by themselves once it is
// back.

#ifndef CONSILIUM_TESTS_CRASH_COORDINATOR_KILL_H_
#define CONSILIUM_TESTS_CRASH_COORDINATOR_KILL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "tests/crash/kill_fixture.h"
#include "tests/crash/sdk_institution.h"

namespace consilium {

class CoordinatorKillTest : public KillTest {
 protected:
  using Conduct = SdkInstitution::Conduct;
  using Call = std::function<absl::Status()>;

  void SetUp() override;
  void TearDown() override;

  // After a kill: the process is gone, a new one is up.
  void Revive();
  // Repeats an operator's call until it is answered; `done` says whether an
  // unanswered one was carried out.
  void Insist(const Call& call, const std::function<bool()>& done);

  // Starts the next round, with the kill at its `step`-th step; 0: none.
  void StartRound(int64_t step);
  // Up to where bank-b decides what becomes of it; the kill comes after that.
  void StartRoundUpToBankB(int64_t step);
  // The round ends like this, revived as often as it takes. False: nothing was
  // killed.
  bool EndsAs(const std::string& phase, Folded folded = Folded::kBoth);

  // The fewest steps of runs of `round` in which nothing is killed, and which
  // end with EndsAs(). Each of `labels` is part of one of these steps.
  // Walks through the steps that `known` counts, and further, until it was
  // killed at a step of each label. Threads take steps beside each other, so
  // that the k-th is not the same in every run: one that slipped by is sought
  // near its place in `steps`, those of a run that was not disturbed.
  void WalkToEach(int64_t known, const std::vector<std::string>& labels,
                  const std::vector<std::string>& steps,
                  absl::FunctionRef<bool(int64_t)> run);
  int64_t StepsOf(const std::function<void()>& round,
                  const std::vector<std::string>& labels);
  // Of the last run that was not disturbed.
  const std::vector<std::string>& steps() const { return steps_; }
  // Where the process died, in order.
  const std::vector<std::string>& killed_at() const { return killed_at_; }

  std::unique_ptr<SdkInstitution> a_;
  std::unique_ptr<SdkInstitution> b_;
  bool kill_again_ = false;  // also a few steps after each new start
  uint64_t round_ = 0;

 private:
  std::vector<std::string> killed_at_;
  size_t kills_seen_ = 0;
  std::vector<std::string> steps_;  // of the last round that nothing killed
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_COORDINATOR_KILL_H_

// One round of two institutions, from its start to its retention, that can be
// taken up again wherever it broke off.

#ifndef CONSILIUM_TESTS_CRASH_ROUND_PLAY_H_
#define CONSILIUM_TESTS_CRASH_ROUND_PLAY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/digest.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"

namespace consilium {

enum class Ending {
  kPromoted,
  kRejected,   // nobody evaluates
  kFailed,     // bank-b declines, so the quorum is out of reach
  kCancelled,  // by the operator, while bank-b uploads
};

class RoundPlay {
 public:
  RoundPlay(int64_t round, Ending ending);

  // Called after each of the kSteps steps of Run(), the last of which ends with
  // everything promised and nothing past its retention.
  static constexpr int kSteps = 5;
  void OnStep(std::function<void()> hook) { hook_ = std::move(hook); }

  // Does what is left to do. OK: the round has ended as it should and its
  // files are past their retention. Else the world died, or refused; call it
  // again once it is up. Begins with Boot() where the world is down, and
  // restarts the coordinator in the middle, once.
  absl::Status Run(EngineWorld& world);

  // Changes of files that the world had seen when bank-a was done, and when the
  // fold was; of an undisturbed run.
  int64_t contributed_at() const { return contributed_at_; }
  int64_t folded_at() const { return folded_at_; }

  // Every promise was kept, nothing counts twice, the store is clean.
  // `digest`: of the version that the round makes when nothing goes wrong.
  void ExpectKept(EngineWorld& world,
                  const std::optional<Sha256Digest>& digest);

  // Of the version that the round made.
  static std::optional<Sha256Digest> CandidateOf(EngineWorld& world,
                                                 int64_t round);

 private:
  absl::Status Start(EngineWorld& world);
  absl::Status Restart(EngineWorld& world);
  absl::Status Collect(EngineWorld& world);
  absl::Status AwaitFold(EngineWorld& world);
  absl::Status Evaluate(EngineWorld& world);
  absl::Status CheckEnd(EngineWorld& world);
  absl::Status Retain(EngineWorld& world);
  void ExpectRows(ReadTx& tx, const std::optional<Sha256Digest>& digest);
  void ExpectContributions(ReadTx& tx);

  const int64_t round_;
  const Ending ending_;
  std::function<void()> hook_ = [] {};
  FakeInstitution a_;
  FakeInstitution b_;
  bool restarted_ = false;
  bool told_started_ = false;
  bool told_declined_ = false;
  bool told_cancelled_ = false;
  bool told_ended_ = false;
  int64_t contributed_at_ = 0;
  int64_t folded_at_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_ROUND_PLAY_H_

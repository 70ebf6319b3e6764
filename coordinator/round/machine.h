// The transition under construction. Internal to coordinator/round; the rules
// are documented in round_machine.h. One file per concern: round_machine.cc
// dispatches, machine_collect.cc, machine_fold.cc and machine_evaluate.cc
// handle the phases.

#ifndef CONSILIUM_COORDINATOR_ROUND_MACHINE_H_
#define CONSILIUM_COORDINATOR_ROUND_MACHINE_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/round/round_machine.h"

namespace consilium::round_internal {

// Rounded down; times in a state are whole microseconds, as the store keeps
// them.
absl::Time WholeMicros(absl::Time time);

// From when uploads may no longer begin.
absl::Time EffectiveDeadline(const RoundState& state);

class Machine {
 public:
  // Takes the clock forward to `now`, or the pending times back with it.
  Machine(const RoundState& state, absl::Time now);

  // Lets happen what is due: closes, fails, folds again, gives the verdict.
  void Settle();

  // One handler per event; the phase is legal for it (see the table).
  absl::Status On(const Start& event);
  absl::Status On(const ProgressReported& event);
  absl::Status On(const UploadBegan& event);
  absl::Status On(const UploadLost& event);
  absl::Status On(const ContributionCommitted& event);
  absl::Status On(const ContributionQuarantined& event);
  absl::Status On(const ContributionReleased& event);
  absl::Status On(const Declined& event);
  absl::Status On(const MemberRemoved& event);
  absl::Status On(const MemberRestored& event);
  absl::Status On(const Tick& event);
  absl::Status On(const Extend& event);
  absl::Status On(const CloseNow& event);
  absl::Status On(const Cancel& event);
  absl::Status On(const FoldFinished& event);
  absl::Status On(const FoldFailed& event);
  absl::Status On(const PublishFailed& event);
  absl::Status On(const EvaluationReported& event);
  absl::Status On(const EvaluationDeclined& event);
  absl::Status On(const BaseAbandoned& event);
  absl::Status On(const Restarted& event);

  // The event came after what it belongs to was over.
  void AnswerLate();
  void AnswerUnchanged() { answer_ = Answer::kUnchanged; }

  const RoundState& state() const { return s_; }
  RoundPhase phase() const { return s_.phase; }

  // `before`: the state that Apply() was given. A wake is asked for when the
  // next due time changed, or, with `always`, when there is one.
  Transition Finish(const RoundState& before, bool always) &&;

 private:
  absl::StatusOr<RoundMember*> Member(std::string_view institution);
  bool InWindow() const { return now_ < EffectiveDeadline(s_); }
  bool FoldRunning() const;
  std::vector<std::string> Names(bool (*wanted)(const RoundMember&)) const;
  std::string Name() const;  // "round 12"

  void Touch(RoundMember& m) { m.updated_at = now_; }
  // Takes an upload under way off the member and its stream off the wire.
  void StopUpload(RoundMember& m, std::string_view why);
  void Refuse(std::string text);
  template <typename Effect>
  void Emit(Effect effect) {
    effects_.push_back(std::move(effect));
  }

  // Collecting (machine_collect.cc).
  void SettleCollection();
  // Everybody who has not resolved becomes missing, because of `why`.
  void CloseWindow(std::string_view why);
  void Close(std::string_view why);
  void FailForWantOfQuorum(std::string_view why);
  void FinishAs(RoundPhase phase, std::string reason);

  // Aggregating (machine_fold.cc).
  void SettleFold();
  void BeginNextFold();
  void StopFold();
  // A committed contribution was taken away while aggregating.
  void FoldWithout();
  void FoldGoesWrong(std::string reason, bool retryable, bool no_space);
  void RetryFold(std::string reason, int64_t tries, absl::Duration longest);
  bool StaleRun(int64_t run);

  // Evaluating (machine_evaluate.cc).
  void BeginEvaluation();
  void SettleEvaluation();
  void Verdict();
  void AcceptCandidate(std::string note);
  void RefuseCandidate(std::string reason);
  void MissEvaluationQuorum(std::string reason);

  RoundState s_;
  const absl::Time now_;
  std::vector<RoundEffect> effects_;
  Answer answer_ = Answer::kAccepted;
  std::string text_;
};

}  // namespace consilium::round_internal

#endif  // CONSILIUM_COORDINATOR_ROUND_MACHINE_H_

// Phase aggregating: one fold at a time, begun again when it goes wrong.

#include <algorithm>
#include <utility>

#include "consilium/base/strings.h"
#include "coordinator/round/machine.h"
#include "coordinator/round/round_text.h"

namespace consilium::round_internal {
namespace {

// Between two looks whether the disk has room again.
constexpr absl::Duration kLongestSpacePause = absl::Minutes(1);

}  // namespace

bool Machine::FoldRunning() const {
  return s_.phase == RoundPhase::kAggregating && s_.fold_until.has_value();
}

void Machine::SettleFold() {
  if (s_.fold_retry_at.has_value() && now_ >= *s_.fold_retry_at) {
    BeginNextFold();
  } else if (s_.fold_until.has_value() && now_ >= *s_.fold_until) {
    StopFold();
    FinishAs(RoundPhase::kFailed,
             Cat("the fold did not finish within ",
                 FormatDuration(s_.config.fold_timeout),
                 " (rounds.fold_timeout); the contributions are kept"));
  }
}

void Machine::BeginNextFold() {
  ++s_.fold_run;
  s_.fold_until = now_ + s_.config.fold_timeout;
  s_.fold_retry_at.reset();
  Emit(BeginFold{s_.fold_run, Names([](const RoundMember& m) {
                   return m.state == MemberState::kCommitted;
                 })});
}

void Machine::StopFold() {
  if (FoldRunning()) Emit(AbortFold{s_.fold_run});
  s_.fold_until.reset();
  s_.fold_retry_at.reset();
}

void Machine::FoldWithout() {
  const bool pending = s_.fold_retry_at.has_value();
  if (CountMembers(s_).committed < s_.config.quorum) {
    StopFold();
    FailForWantOfQuorum("the round failed");
  } else if (!pending) {
    StopFold();
    BeginNextFold();
  }
}

bool Machine::StaleRun(int64_t run) {
  if (run == s_.fold_run && FoldRunning()) return false;
  AnswerUnchanged();
  return true;
}

absl::Status Machine::On(const FoldFinished& event) {
  if (event.run > s_.fold_run || event.candidate < 1) {
    return absl::InvalidArgumentError(
        Cat("fold ", event.run, " with version ", event.candidate, " of ",
            Name(), ", whose last fold is ", s_.fold_run));
  }
  if (StaleRun(event.run)) return absl::OkStatus();
  s_.fold_until.reset();
  s_.candidate = event.candidate;
  s_.held_groups = event.held_groups;
  const auto held = static_cast<int64_t>(event.held_groups.size());
  if (event.groups > 0 && held >= event.groups) {
    RefuseCandidate(Cat("all ", event.groups,
                        " release groups were held: none had ",
                        s_.config.minimum_group_contributors, " contributors"));
  } else if (!s_.config.evaluation.enabled) {
    AcceptCandidate("");
  } else {
    BeginEvaluation();
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const FoldFailed& event) {
  if (!StaleRun(event.run)) {
    FoldGoesWrong(
        Cat("the fold failed: ", CleanText(event.reason, kMaxReasonBytes)),
        event.retryable, event.no_space);
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const PublishFailed& event) {
  if (!StaleRun(event.run)) {
    FoldGoesWrong(Cat("the new version could not be written: ",
                      CleanText(event.reason, kMaxReasonBytes)),
                  /*retryable=*/true, event.no_space);
  }
  return absl::OkStatus();
}

void Machine::FoldGoesWrong(std::string reason, bool retryable, bool no_space) {
  s_.fold_until.reset();
  if (no_space) {
    const absl::Time until =
        s_.closed_at.value_or(now_) + s_.config.fold_timeout;
    if (now_ >= until) {
      return FinishAs(
          RoundPhase::kFailed,
          Cat(reason, " for ", FormatDuration(s_.config.fold_timeout),
              " (rounds.fold_timeout); the contributions "
              "are kept"));
    }
    return RetryFold(std::move(reason), s_.fold_run, kLongestSpacePause);
  }
  ++s_.fold_failures;
  if (!retryable || s_.fold_failures >= s_.config.fold_attempts) {
    return FinishAs(
        RoundPhase::kFailed,
        Cat(reason, " (attempt ", s_.fold_failures, " of ",
            s_.config.fold_attempts, "); the contributions are kept"));
  }
  RetryFold(std::move(reason), s_.fold_failures, absl::Hours(1));
}

void Machine::RetryFold(std::string reason, int64_t tries,
                        absl::Duration longest) {
  const int64_t doublings = std::min<int64_t>(tries - 1, 20);
  const absl::Duration delay =
      s_.config.fold_retry_delay * (int64_t{1} << doublings);
  s_.fold_retry_at = now_ + std::min(delay, longest);
  Emit(Alert{Cat(Name(), ": ", reason, "; trying again in ",
                 FormatDuration(*s_.fold_retry_at - now_))});
}

}  // namespace consilium::round_internal

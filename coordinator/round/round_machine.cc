#include "coordinator/round/round_machine.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/machine.h"
#include "coordinator/round/round_text.h"

namespace consilium {
namespace {

using round_internal::EffectiveDeadline;
using round_internal::Machine;
using round_internal::WholeMicros;

enum class Handling { kHandle, kLate, kSame, kForbid };
constexpr Handling H = Handling::kHandle;
constexpr Handling L = Handling::kLate;
constexpr Handling S = Handling::kSame;
constexpr Handling F = Handling::kForbid;

struct EventRow {
  std::string_view name;
  // planned, open, collecting, aggregating, evaluating, final
  std::array<Handling, 6> by_phase;
};

// In the order of RoundEvent; the table of round_machine.h.
constexpr std::array<EventRow, std::variant_size_v<RoundEvent>> kEvents = {{
    {"Start", {H, F, F, F, F, F}},
    {"ProgressReported", {F, H, H, L, H, L}},
    {"UploadBegan", {F, H, H, L, L, L}},
    {"UploadLost", {F, S, H, S, S, S}},
    {"ContributionCommitted", {F, F, H, L, L, L}},
    {"ContributionQuarantined", {F, F, H, H, H, H}},
    {"ContributionReleased", {F, F, H, F, F, F}},
    {"Declined", {F, H, H, L, L, L}},
    {"MemberRemoved", {H, H, H, H, H, S}},
    {"MemberRestored", {H, H, H, H, H, S}},
    {"Tick", {S, H, H, H, H, S}},
    {"Extend", {F, H, H, F, H, F}},
    {"CloseNow", {F, H, H, F, H, F}},
    {"Cancel", {H, H, H, H, H, F}},
    {"FoldFinished", {F, F, F, H, S, S}},
    {"FoldFailed", {F, F, F, H, S, S}},
    {"PublishFailed", {F, F, F, H, S, S}},
    {"EvaluationReported", {F, F, F, F, H, L}},
    {"EvaluationDeclined", {F, F, F, F, H, L}},
    {"BaseAbandoned", {H, H, H, H, H, S}},
    {"Restarted", {S, H, H, H, H, S}},
}};

constexpr std::array<std::string_view, std::variant_size_v<RoundEffect>>
    kEffectNames = {"ScheduleWake", "CancelUploads", "QuarantineContribution",
                    "BeginFold",    "AbortFold",     "Promote",
                    "Reject",       "RollBack",      "Abandon",
                    "TaintVersion", "Alert"};

constexpr std::array<std::string_view, 4> kAnswerNames = {
    "accepted", "unchanged", "late", "refused"};

Handling HandlingOf(const RoundEvent& event, RoundPhase phase) {
  const size_t column =
      std::min(static_cast<size_t>(phase), static_cast<size_t>(5));
  return kEvents[event.index()].by_phase[column];
}

bool IsInstitutionName(std::string_view name) {
  const auto word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 63 && word(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return word(c) || c == '-'; });
}

absl::Status CheckPlan(const RoundPlan& plan) {
  if (plan.id < 1 || plan.attempt < 1 || plan.base_version < 0) {
    return absl::InvalidArgumentError(Cat(
        "round ", plan.id, " attempt ", plan.attempt, " on version ",
        plan.base_version, ": ids and attempts count from 1, versions from 0"));
  }
  CONSILIUM_RETURN_IF_ERROR(ValidateRoundConfig(plan.config));
  for (size_t i = 0; i < plan.members.size(); ++i) {
    const std::string& name = plan.members[i];
    if (!IsInstitutionName(name)) {
      return absl::InvalidArgumentError(
          Cat("institution name ", Quoted(name),
              " must be 1 to 63 of a-z, 0-9 and '-', not '-' first"));
    }
    if (i > 0 && plan.members[i - 1] == name) {
      return absl::InvalidArgumentError(
          Cat("institution ", name, " is twice in the cohort"));
    }
  }
  const auto size = static_cast<int64_t>(plan.members.size());
  if (size < plan.config.quorum) {
    return absl::FailedPreconditionError(
        Cat("round ", plan.id, " needs ", plan.config.quorum,
            " institutions for its quorum, ", size,
            " are active; invite more or lower the quorum"));
  }
  const EvaluationConfig& evaluation = plan.config.evaluation;
  if (evaluation.enabled && size < evaluation.quorum) {
    return absl::FailedPreconditionError(
        Cat("round ", plan.id, " needs ", evaluation.quorum,
            " institutions for its evaluation quorum, ", size,
            " are active; invite more or lower evaluation.quorum"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view RoundEventName(const RoundEvent& event) {
  return kEvents[event.index()].name;
}
std::string_view RoundEffectName(const RoundEffect& effect) {
  return kEffectNames[effect.index()];
}
std::string_view AnswerName(Answer answer) {
  return kAnswerNames[static_cast<size_t>(answer)];
}

absl::StatusOr<RoundState> PlanRound(RoundPlan plan, absl::Time now) {
  std::sort(plan.members.begin(), plan.members.end());
  CONSILIUM_RETURN_IF_ERROR(CheckPlan(plan));
  RoundState s;
  s.id = plan.id;
  s.attempt = plan.attempt;
  s.base_version = plan.base_version;
  s.config = std::move(plan.config);
  s.weighting = plan.weighting;
  s.elements_per_frame = plan.elements_per_frame;
  s.training = std::move(plan.training);
  s.planned_at = s.clock = WholeMicros(now);
  s.members.reserve(plan.members.size());
  for (std::string& institution : plan.members) {
    RoundMember m;
    m.institution = std::move(institution);
    m.updated_at = s.clock;
    s.members.push_back(std::move(m));
  }
  return s;
}

absl::StatusOr<Transition> Apply(const RoundState& state,
                                 const RoundEvent& event, absl::Time now) {
  Machine machine(state, now);
  const bool restarted = std::holds_alternative<Restarted>(event);
  const bool tick = std::holds_alternative<Tick>(event);
  // A restart first tops up what ran out while nobody could be heard; a tick
  // is nothing but the settling below.
  if (!restarted && !tick) machine.Settle();
  switch (HandlingOf(event, machine.phase())) {
    case Handling::kHandle:
      CONSILIUM_RETURN_IF_ERROR(
          std::visit([&](const auto& e) { return machine.On(e); }, event));
      machine.Settle();
      break;
    case Handling::kLate:
      machine.AnswerLate();
      break;
    case Handling::kSame:
      machine.AnswerUnchanged();
      break;
    case Handling::kForbid:
      return absl::FailedPreconditionError(
          Cat("round ", state.id, " is ", RoundPhaseName(machine.phase()), ": ",
              RoundEventName(event), " is not possible"));
  }
  return std::move(machine).Finish(state, restarted || tick);
}

bool AllowsNextRound(const RoundState& state) {
  return IsTerminal(state.phase) ||
         (state.phase == RoundPhase::kEvaluating && state.promoted_early);
}

bool TakesUploads(const RoundState& state, absl::Time now) {
  return (state.phase == RoundPhase::kOpen ||
          state.phase == RoundPhase::kCollecting) &&
         std::max(now, state.clock) < EffectiveDeadline(state);
}

std::optional<absl::Time> WaitsUntil(const RoundState& state) {
  switch (state.phase) {
    case RoundPhase::kOpen:
    case RoundPhase::kCollecting:
      return EffectiveDeadline(state);
    case RoundPhase::kEvaluating:
      return state.evaluation_deadline;
    default:
      return std::nullopt;
  }
}

std::optional<absl::Time> NextWake(const RoundState& state) {
  switch (state.phase) {
    case RoundPhase::kOpen:
    case RoundPhase::kCollecting: {
      const absl::Time deadline = EffectiveDeadline(state);
      return state.clock < deadline ? deadline : deadline + state.config.grace;
    }
    case RoundPhase::kAggregating:
      return state.fold_retry_at.has_value() ? state.fold_retry_at
                                             : state.fold_until;
    case RoundPhase::kEvaluating:
      return state.evaluation_deadline;
    default:
      return std::nullopt;
  }
}

namespace round_internal {

absl::Time EffectiveDeadline(const RoundState& state) {
  const absl::Time deadline = state.deadline.value_or(absl::InfiniteFuture());
  if (state.extended || !state.quorum_at.has_value()) return deadline;
  return std::min(deadline, *state.quorum_at + state.config.wait_after_quorum);
}

absl::Time WholeMicros(absl::Time time) {
  return absl::FromUnixMicros(absl::ToUnixMicros(time));
}

Machine::Machine(const RoundState& state, absl::Time now)
    : s_(state),
      now_(now < state.clock && now >= state.clock - kClockTolerance
               ? state.clock
               : WholeMicros(now)) {
  if (now_ < s_.clock && !IsTerminal(s_.phase)) {
    const absl::Duration back = s_.clock - now_;
    for (std::optional<absl::Time>* pending :
         {&s_.deadline, &s_.quorum_at, &s_.evaluation_deadline, &s_.fold_until,
          &s_.fold_retry_at}) {
      if (pending->has_value()) **pending -= back;
    }
  }
  s_.clock = now_;
}

void Machine::Settle() {
  switch (s_.phase) {
    case RoundPhase::kOpen:
    case RoundPhase::kCollecting:
      return SettleCollection();
    case RoundPhase::kAggregating:
      return SettleFold();
    case RoundPhase::kEvaluating:
      return SettleEvaluation();
    default:
      return;
  }
}

absl::Status Machine::On(const Start&) {
  s_.phase = RoundPhase::kOpen;
  s_.opened_at = now_;
  s_.deadline = now_ + s_.config.deadline;
  return absl::OkStatus();
}

absl::Status Machine::On(const Tick&) { return absl::OkStatus(); }

absl::Status Machine::On(const Extend& event) {
  const bool evaluating = s_.phase == RoundPhase::kEvaluating;
  const absl::Time current = *WaitsUntil(s_);
  if (WholeMicros(event.deadline) <= std::max(now_, current)) {
    return absl::InvalidArgumentError(
        Cat(Name(), " already waits until ", FormatTime(current),
            ", the new deadline ", FormatTime(event.deadline),
            " is not later; close-now ends the wait"));
  }
  if (event.deadline > now_ + RoundLimits().max_wait) {
    return absl::InvalidArgumentError(
        Cat("the new deadline ", FormatTime(event.deadline), " is more than ",
            FormatDuration(RoundLimits().max_wait), " away"));
  }
  if (evaluating) {
    s_.evaluation_deadline = WholeMicros(event.deadline);
  } else {
    s_.deadline = WholeMicros(event.deadline);
    s_.extended = true;
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const Cancel& event) {
  if (s_.promoted_early) {
    return absl::FailedPreconditionError(
        Cat(Name(), " has already promoted version ", s_.candidate.value_or(0),
            ": Cancel is not possible while evaluating; roll the version "
            "back instead"));
  }
  std::string reason = CleanText(event.reason, kMaxReasonBytes);
  if (reason.empty()) reason = "cancelled by an operator";
  StopFold();
  CloseWindow("the round was cancelled");
  Emit(Abandon{reason, s_.candidate});
  FinishAs(RoundPhase::kCancelled, std::move(reason));
  return absl::OkStatus();
}

absl::Status Machine::On(const BaseAbandoned& event) {
  const bool candidate = s_.promoted_early && s_.candidate == event.version;
  if (event.version != s_.base_version && !candidate) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  std::string reason =
      Cat(candidate ? "version " : "base version ", event.version,
          " was abandoned: ", CleanText(event.reason, kMaxReasonBytes));
  StopFold();
  CloseWindow("the round was cancelled");
  // Whoever abandoned a version already in use has settled its state.
  Emit(Abandon{reason, s_.promoted_early ? std::nullopt : s_.candidate});
  FinishAs(s_.promoted_early ? RoundPhase::kRejected : RoundPhase::kCancelled,
           std::move(reason));
  return absl::OkStatus();
}

absl::Status Machine::On(const Restarted&) {
  const absl::Time least = now_ + s_.config.grace;
  switch (s_.phase) {
    case RoundPhase::kOpen:
    case RoundPhase::kCollecting:
      for (RoundMember& m : s_.members) {
        if (m.state == MemberState::kUploading) m.interrupted = true;
      }
      s_.deadline = std::max(*s_.deadline, least);
      if (s_.quorum_at.has_value()) {
        s_.quorum_at =
            std::max(*s_.quorum_at, least - s_.config.wait_after_quorum);
      }
      break;
    case RoundPhase::kAggregating:
      // The running fold went down with the process; a pending one stays due.
      if (FoldRunning()) BeginNextFold();
      break;
    case RoundPhase::kEvaluating:
      s_.evaluation_deadline = std::max(*s_.evaluation_deadline, least);
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

void Machine::AnswerLate() {
  answer_ = Answer::kLate;
  text_ = Cat(Name(), " closed to contributions",
              s_.closed_at.has_value() ? Cat(" at ", FormatTime(*s_.closed_at))
                                       : std::string(),
              " and is ", RoundPhaseName(s_.phase));
}

void Machine::Refuse(std::string text) {
  answer_ = Answer::kRefused;
  text_ = std::move(text);
}

Transition Machine::Finish(const RoundState& before, bool always) && {
  const std::optional<absl::Time> next = NextWake(s_);
  if (next.has_value() && (always || next != NextWake(before))) {
    Emit(ScheduleWake{*next});
  }
  return {std::move(s_), std::move(effects_), answer_, std::move(text_)};
}

absl::StatusOr<RoundMember*> Machine::Member(std::string_view institution) {
  const RoundMember* found = FindMember(s_, institution);
  if (found == nullptr) {
    return absl::NotFoundError(Cat("institution ", Quoted(institution),
                                   " is not in the cohort of ", Name()));
  }
  return &s_.members[static_cast<size_t>(found - s_.members.data())];
}

std::vector<std::string> Machine::Names(
    bool (*wanted)(const RoundMember&)) const {
  std::vector<std::string> names;
  for (const RoundMember& m : s_.members) {
    if (wanted(m)) names.push_back(m.institution);
  }
  return names;
}

std::string Machine::Name() const {
  return s_.attempt == 1 ? Cat("round ", s_.id)
                         : Cat("round ", s_.id, " attempt ", s_.attempt);
}

void Machine::FinishAs(RoundPhase phase, std::string reason) {
  s_.phase = phase;
  s_.reason = std::move(reason);
  s_.finished_at = now_;
}

}  // namespace round_internal
}  // namespace consilium

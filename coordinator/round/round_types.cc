#include "coordinator/round/round_types.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::array<std::string_view, 9> kPhaseNames = {
    "planned",  "open",     "collecting", "aggregating", "evaluating",
    "promoted", "rejected", "failed",     "cancelled"};
constexpr std::array<std::string_view, 8> kMemberNames = {
    "invited",  "training", "uploading", "committed",
    "declined", "failed",   "missing",   "removed"};
constexpr std::array<std::string_view, 4> kEvaluationNames = {
    "none", "asked", "reported", "declined"};
constexpr std::array<std::string_view, 2> kPromotionNames = {"after_evaluation",
                                                             "immediate"};
constexpr std::array<std::string_view, 2> kRegressionNames = {"alert",
                                                              "roll_back"};
constexpr std::array<std::string_view, 2> kWithoutQuorumNames = {"reject",
                                                                 "promote"};

template <typename Enum, size_t N>
absl::StatusOr<Enum> Parse(const std::array<std::string_view, N>& names,
                           std::string_view what, std::string_view name) {
  for (size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  std::string legal;
  for (const std::string_view n : names) {
    CatInto(legal, legal.empty() ? "" : ", ", n);
  }
  return absl::InvalidArgumentError(
      Cat(what, " is ", Quoted(name), ", must be one of ", legal));
}

template <typename Enum, size_t N>
std::string_view Name(const std::array<std::string_view, N>& names, Enum e) {
  return names[static_cast<size_t>(e)];
}

absl::Status CheckCount(std::string_view field, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat(field, " is ", value, ", must be between ", low, " and ", high));
}

absl::Status CheckDuration(std::string_view field, absl::Duration value,
                           absl::Duration low, absl::Duration high) {
  if (value != absl::Trunc(value, absl::Microseconds(1))) {
    return absl::InvalidArgumentError(Cat(field, " is ",
                                          absl::FormatDuration(value),
                                          ", must be whole microseconds"));
  }
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat(field, " is ", FormatDuration(value), ", must be between ",
          FormatDuration(low), " and ", FormatDuration(high)));
}

absl::Status CheckNumber(std::string_view field, double value, double low,
                         double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat(field, " is ", value, ", must be between ", low, " and ", high));
}

}  // namespace

std::string_view RoundPhaseName(RoundPhase phase) {
  return Name(kPhaseNames, phase);
}
std::string_view MemberStateName(MemberState state) {
  return Name(kMemberNames, state);
}
std::string_view EvaluationStateName(EvaluationState state) {
  return Name(kEvaluationNames, state);
}
std::string_view PromotionName(Promotion promotion) {
  return Name(kPromotionNames, promotion);
}
std::string_view OnRegressionName(OnRegression action) {
  return Name(kRegressionNames, action);
}
std::string_view WithoutQuorumName(WithoutQuorum action) {
  return Name(kWithoutQuorumNames, action);
}

absl::StatusOr<RoundPhase> ParseRoundPhase(std::string_view name) {
  return Parse<RoundPhase>(kPhaseNames, "phase", name);
}
absl::StatusOr<MemberState> ParseMemberState(std::string_view name) {
  return Parse<MemberState>(kMemberNames, "member state", name);
}
absl::StatusOr<EvaluationState> ParseEvaluationState(std::string_view name) {
  return Parse<EvaluationState>(kEvaluationNames, "evaluation state", name);
}
absl::StatusOr<Promotion> ParsePromotion(std::string_view name) {
  return Parse<Promotion>(kPromotionNames, "promotion", name);
}
absl::StatusOr<OnRegression> ParseOnRegression(std::string_view name) {
  return Parse<OnRegression>(kRegressionNames, "on_regression", name);
}
absl::StatusOr<WithoutQuorum> ParseWithoutQuorum(std::string_view name) {
  return Parse<WithoutQuorum>(kWithoutQuorumNames, "without_quorum", name);
}

bool IsTerminal(RoundPhase phase) { return phase >= RoundPhase::kPromoted; }

absl::Status ValidateRoundConfig(const RoundConfig& c) {
  const RoundLimits limits;
  const absl::Duration second = absl::Seconds(1);
  CONSILIUM_RETURN_IF_ERROR(
      CheckCount("quorum", c.quorum, 1, limits.max_members));
  CONSILIUM_RETURN_IF_ERROR(
      CheckCount("target", c.target, 0, limits.max_members));
  if (c.target != 0 && c.target < c.quorum) {
    return absl::InvalidArgumentError(
        Cat("target is ", c.target, ", must be 0 (everybody) or at least the ",
            "quorum of ", c.quorum));
  }
  CONSILIUM_RETURN_IF_ERROR(
      CheckCount("over_selection", c.over_selection, 0, limits.max_members));
  CONSILIUM_RETURN_IF_ERROR(
      CheckDuration("deadline", c.deadline, second, limits.max_wait));
  CONSILIUM_RETURN_IF_ERROR(
      CheckDuration("grace", c.grace, absl::ZeroDuration(), limits.max_wait));
  if (c.wait_after_quorum != absl::InfiniteDuration()) {
    CONSILIUM_RETURN_IF_ERROR(
        CheckDuration("wait_after_quorum", c.wait_after_quorum,
                      absl::ZeroDuration(), limits.max_wait));
  }
  CONSILIUM_RETURN_IF_ERROR(CheckCount("minimum_examples", c.minimum_examples,
                                       1, limits.max_examples));
  CONSILIUM_RETURN_IF_ERROR(CheckCount("minimum_group_contributors",
                                       c.minimum_group_contributors, 1,
                                       limits.max_members));
  CONSILIUM_RETURN_IF_ERROR(
      CheckNumber("maximum_weight", c.maximum_weight, 1.0,
                  static_cast<double>(limits.max_examples)));
  CONSILIUM_RETURN_IF_ERROR(
      CheckNumber("maximum_norm", c.maximum_norm, 0.0, 1e30));
  CONSILIUM_RETURN_IF_ERROR(
      CheckDuration("fold_timeout", c.fold_timeout, second, limits.max_wait));
  CONSILIUM_RETURN_IF_ERROR(
      CheckCount("fold_attempts", c.fold_attempts, 1, 100));
  CONSILIUM_RETURN_IF_ERROR(
      CheckDuration("fold_retry_delay", c.fold_retry_delay,
                    absl::Milliseconds(1), absl::Hours(1)));
  const EvaluationConfig& e = c.evaluation;
  CONSILIUM_RETURN_IF_ERROR(
      CheckCount("evaluation.quorum", e.quorum, 1, limits.max_members));
  CONSILIUM_RETURN_IF_ERROR(CheckDuration("evaluation.deadline", e.deadline,
                                          second, limits.max_wait));
  CONSILIUM_RETURN_IF_ERROR(
      CheckNumber("evaluation.rule.tolerance", e.rule.tolerance, 0.0, 1e30));
  if (!e.rule.metric.empty()) {
    CONSILIUM_RETURN_IF_ERROR(
        Annotate(ValidateMetricName(e.rule.metric), "evaluation.rule.metric"));
  }
  return absl::OkStatus();
}

absl::Status ValidateMetricName(std::string_view name) {
  const bool printable = std::all_of(
      name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (!name.empty() && name.size() <= 128 && printable) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      Cat("metric name ", Quoted(name),
          " must be 1 to 128 printable ASCII characters without spaces"));
}

RoundCounts CountMembers(const RoundState& state) {
  RoundCounts n;
  n.cohort = static_cast<int64_t>(state.members.size());
  for (const RoundMember& m : state.members) {
    switch (m.state) {
      case MemberState::kInvited:
        ++n.invited;
        break;
      case MemberState::kTraining:
        ++n.training;
        break;
      case MemberState::kUploading:
        ++n.uploading;
        break;
      case MemberState::kCommitted:
        ++n.committed;
        break;
      case MemberState::kDeclined:
        ++n.declined;
        break;
      case MemberState::kFailed:
        ++n.failed;
        break;
      case MemberState::kMissing:
        ++n.missing;
        break;
      case MemberState::kRemoved:
        ++n.removed;
        break;
    }
  }
  return n;
}

const RoundMember* FindMember(const RoundState& state,
                              std::string_view institution) {
  const auto it =
      std::lower_bound(state.members.begin(), state.members.end(), institution,
                       [](const RoundMember& m, std::string_view name) {
                         return m.institution < name;
                       });
  if (it == state.members.end() || it->institution != institution) {
    return nullptr;
  }
  return &*it;
}

}  // namespace consilium

// Phase evaluating: reports about the candidate, and the verdict.

#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/machine.h"
#include "coordinator/round/round_text.h"

namespace consilium::round_internal {
namespace {

constexpr size_t kMaxMetrics = 256;

bool Asked(const RoundMember& m) {
  return m.evaluation == EvaluationState::kAsked;
}

absl::Status CheckMetrics(std::string_view what,
                          const std::map<std::string, double>& metrics) {
  if (metrics.size() > kMaxMetrics) {
    return absl::InvalidArgumentError(
        Cat(what, " has ", metrics.size(), " metrics, at most ", kMaxMetrics));
  }
  for (const auto& [name, value] : metrics) {
    CONSILIUM_RETURN_IF_ERROR(Annotate(ValidateMetricName(name), what));
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          Cat(what, ": metric ", name, " is ", value,
              ", must be finite; decline the evaluation with a reason"));
    }
  }
  return absl::OkStatus();
}

struct Means {
  double candidate = 0.0;
  double base = 0.0;
  double examples = 0.0;
  int64_t institutions = 0;  // that know both values
  int64_t reporting = 0;     // that know the candidate's
};

// Each institution is compared with itself, on its own validation data.
Means WeightedMeans(const RoundState& state) {
  const std::string& metric = state.config.evaluation.rule.metric;
  Means sum;
  for (const RoundMember& m : state.members) {
    if (m.evaluation != EvaluationState::kReported) continue;
    const auto candidate = m.metrics.find(metric);
    if (candidate == m.metrics.end()) continue;
    ++sum.reporting;
    const auto base = m.base_metrics.find(metric);
    if (base == m.base_metrics.end()) continue;
    const auto examples = static_cast<double>(m.evaluation_examples);
    ++sum.institutions;
    sum.examples += examples;
    const double share = examples / sum.examples;  // running: sums stay small
    sum.candidate += (candidate->second - sum.candidate) * share;
    sum.base += (base->second - sum.base) * share;
  }
  return sum;
}

}  // namespace

void Machine::BeginEvaluation() {
  s_.phase = RoundPhase::kEvaluating;
  s_.evaluation_deadline = now_ + s_.config.evaluation.deadline;
  for (RoundMember& m : s_.members) {
    if (m.state == MemberState::kRemoved || m.suspended || m.quarantined) {
      continue;
    }
    m.evaluation = EvaluationState::kAsked;
    m.progress.reset();
    m.progress_text.clear();
  }
  if (s_.config.promotion == Promotion::kImmediate) {
    s_.promoted_early = true;
    Emit(Promote{*s_.candidate});
  }
}

absl::Status Machine::On(const EvaluationReported& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  const std::string what = Cat("evaluation by ", event.institution);
  if (event.examples < 1 || event.examples > RoundLimits().max_examples) {
    return absl::InvalidArgumentError(Cat(what, " rests on ", event.examples,
                                          " examples, must be between 1 and ",
                                          RoundLimits().max_examples));
  }
  CONSILIUM_RETURN_IF_ERROR(CheckMetrics(what, event.metrics));
  CONSILIUM_RETURN_IF_ERROR(CheckMetrics(what, event.base_metrics));
  if (m->state == MemberState::kRemoved || m->suspended || m->quarantined) {
    Refuse(Cat(event.institution, " may not evaluate in ", Name(), ": ",
               m->evaluation_reason.empty() ? DescribeMember(*m)
                                            : m->evaluation_reason));
    return absl::OkStatus();
  }
  if (m->evaluation == EvaluationState::kReported) {
    AnswerUnchanged();  // the first report counts
    return absl::OkStatus();
  }
  m->evaluation = EvaluationState::kReported;
  m->evaluation_reason.clear();
  m->evaluation_examples = event.examples;
  m->metrics = event.metrics;
  m->base_metrics = event.base_metrics;
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const EvaluationDeclined& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (m->evaluation != EvaluationState::kAsked) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  m->evaluation = EvaluationState::kDeclined;
  m->evaluation_reason = CleanText(event.reason, kMaxReasonBytes);
  Touch(*m);
  return absl::OkStatus();
}

void Machine::SettleEvaluation() {
  int64_t reported = 0;
  int64_t asked = 0;
  bool contributors_out = false;
  for (const RoundMember& m : s_.members) {
    if (m.evaluation == EvaluationState::kReported) ++reported;
    if (!Asked(m)) continue;
    ++asked;
    // Whoever did not contribute may be gone; nobody waits for it.
    contributors_out |= m.state == MemberState::kCommitted;
  }
  const int64_t quorum = s_.config.evaluation.quorum;
  const bool due = now_ >= *s_.evaluation_deadline;
  if (reported >= quorum) {
    if (due || !contributors_out) Verdict();
    return;
  }
  if (!due && reported + asked >= quorum) return;
  std::vector<std::string> silent;
  for (const RoundMember& m : s_.members) {
    if (Asked(m)) silent.push_back(Cat(m.institution, " did not report"));
    if (m.evaluation == EvaluationState::kDeclined) {
      silent.push_back(
          Cat(m.institution, " declined (", m.evaluation_reason, ")"));
    }
  }
  MissEvaluationQuorum(
      Cat(reported, " of ", quorum, " evaluations needed; ", JoinSome(silent)));
}

void Machine::Verdict() {
  const EvaluationRule& rule = s_.config.evaluation.rule;
  if (rule.metric.empty()) return AcceptCandidate("");
  const Means mean = WeightedMeans(s_);
  if (mean.reporting == 0) {
    return MissEvaluationQuorum(Cat("no evaluation contains the metric ",
                                    rule.metric, " (evaluation.rule.metric)"));
  }
  if (mean.institutions == 0) {
    return AcceptCandidate(Cat("no value of ", rule.metric,
                               " for the base version to compare with"));
  }
  const double worse = rule.higher_is_better ? mean.base - mean.candidate
                                             : mean.candidate - mean.base;
  if (worse <= rule.tolerance) return AcceptCandidate("");
  RefuseCandidate(absl::StrFormat(
      "%s went from %.6g to %.6g, worse by %.6g with a tolerance of %.6g "
      "(mean of %d institutions, %.0f examples)",
      rule.metric, mean.base, mean.candidate, worse, rule.tolerance,
      mean.institutions, mean.examples));
}

void Machine::AcceptCandidate(std::string note) {
  if (!s_.promoted_early) Emit(Promote{*s_.candidate});
  if (!note.empty()) Emit(Alert{Cat(Name(), ": ", note)});
  FinishAs(RoundPhase::kPromoted, std::move(note));
}

void Machine::RefuseCandidate(std::string reason) {
  if (!s_.promoted_early) {
    Emit(Reject{*s_.candidate, reason});
    return FinishAs(RoundPhase::kRejected, std::move(reason));
  }
  Emit(Alert{Cat(Name(), ": ", reason)});
  if (s_.config.evaluation.on_regression == OnRegression::kAlert) {
    return FinishAs(RoundPhase::kPromoted, std::move(reason));
  }
  Emit(RollBack{*s_.candidate, reason});
  FinishAs(RoundPhase::kRejected, std::move(reason));
}

void Machine::MissEvaluationQuorum(std::string reason) {
  if (s_.promoted_early ||
      s_.config.evaluation.without_quorum == WithoutQuorum::kPromote) {
    // Silence is no evidence against a version already in use.
    return AcceptCandidate(std::move(reason));
  }
  RefuseCandidate(std::move(reason));
}

}  // namespace consilium::round_internal

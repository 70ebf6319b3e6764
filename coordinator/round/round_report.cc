#include "coordinator/round/round_report.h"

#include <algorithm>
#include <utility>

#include "consilium/base/strings.h"
#include "coordinator/round/machine.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/round/round_text.h"

namespace consilium {
namespace {

std::string WaitingFor(const WaitReport& report) {
  std::vector<std::string> items;
  items.reserve(report.waiting_for.size());
  for (const MemberWait& wait : report.waiting_for) {
    items.push_back(Cat(wait.institution, ": ", wait.doing));
  }
  return items.empty() ? "waiting" : Cat("waiting for ", JoinSome(items, 5));
}

std::string AtTheLatest(const WaitReport& report, absl::Time now) {
  if (!report.until.has_value()) return "";
  if (*report.until <= now) return " now";
  return Cat(" at the latest in ", FormatDuration(*report.until - now));
}

std::string QuorumText(const WaitReport& report, int64_t of) {
  return report.have >= report.quorum
             ? Cat("quorum ", report.quorum, " of ", of, " reached with ",
                   report.have)
             : Cat(report.have, " of the quorum of ", report.quorum);
}

void ReportCollection(const RoundState& s, absl::Time now, WaitReport& report) {
  const bool past = now >= round_internal::EffectiveDeadline(s);
  report.reason = past ? WaitReason::kGrace : WaitReason::kContributions;
  report.have = report.counts.committed;
  report.quorum = s.config.quorum;
  for (const RoundMember& m : s.members) {
    const bool uploading = m.state == MemberState::kUploading;
    const bool early =
        m.state == MemberState::kInvited || m.state == MemberState::kTraining;
    if (!uploading && !(early && !past)) continue;
    report.waiting_for.push_back({m.institution, m.state, DescribeMember(m)});
  }
  const bool quorum = report.have >= report.quorum;
  report.sentence =
      Cat(WaitingFor(report), "; ", QuorumText(report, report.counts.cohort),
          quorum ? ", closes" : ", closes or fails", AtTheLatest(report, now),
          past ? " (grace after the deadline)" : "");
}

void ReportEvaluation(const RoundState& s, absl::Time now, WaitReport& report) {
  report.reason = WaitReason::kEvaluations;
  report.quorum = s.config.evaluation.quorum;
  int64_t asked = 0;
  for (const RoundMember& m : s.members) {
    if (m.evaluation != EvaluationState::kNone) ++asked;
    if (m.evaluation == EvaluationState::kReported) ++report.have;
    if (m.evaluation != EvaluationState::kAsked) continue;
    std::string doing = "evaluating";
    if (m.progress.has_value()) {
      CatInto(doing, " ", static_cast<int>(*m.progress * 100.0), " %");
    }
    report.waiting_for.push_back({m.institution, m.state, std::move(doing)});
  }
  report.sentence = Cat(WaitingFor(report), "; ", QuorumText(report, asked),
                        ", verdict", AtTheLatest(report, now));
}

std::string Final(const RoundState& s) {
  return Cat(RoundPhaseName(s.phase), s.reason.empty() ? "" : ": ", s.reason);
}

}  // namespace

WaitReport WhyWaiting(const RoundState& state, absl::Time now) {
  now = std::max(now, state.clock);
  WaitReport report;
  report.counts = CountMembers(state);
  report.until = NextWake(state);
  switch (state.phase) {
    case RoundPhase::kPlanned:
      report.reason = WaitReason::kStart;
      report.quorum = state.config.quorum;
      report.sentence = "planned; waiting for its start";
      break;
    case RoundPhase::kOpen:
    case RoundPhase::kCollecting:
      ReportCollection(state, now, report);
      break;
    case RoundPhase::kAggregating: {
      const bool retry = state.fold_retry_at.has_value();
      report.reason = retry ? WaitReason::kFoldRetry : WaitReason::kFold;
      report.have = report.counts.committed;
      report.quorum = state.config.quorum;
      report.sentence = Cat(retry ? "the fold failed and begins again"
                                  : Cat("folding ", report.counts.committed,
                                        " contributions; ends"),
                            AtTheLatest(report, now));
      break;
    }
    case RoundPhase::kEvaluating:
      ReportEvaluation(state, now, report);
      break;
    default:
      report.sentence = Final(state);
      break;
  }
  return report;
}

}  // namespace consilium

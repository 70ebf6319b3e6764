// Phases open and collecting: members come, go and commit; the window closes.

#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/machine.h"
#include "coordinator/round/round_text.h"

namespace consilium::round_internal {
namespace {

bool Unresolved(const RoundMember& m) {
  return m.state == MemberState::kInvited ||
         m.state == MemberState::kTraining ||
         m.state == MemberState::kUploading;
}

std::string OutOfRound(const RoundMember& m) {
  return Cat(m.institution, " is out of this round: ", DescribeMember(m));
}

// May do no more in this round. A suspended member keeps what it has begun.
bool IsOut(const RoundMember& m) {
  return m.state == MemberState::kRemoved || m.quarantined ||
         (m.suspended && m.state != MemberState::kUploading &&
          m.state != MemberState::kCommitted);
}

}  // namespace

void Machine::SettleCollection() {
  const RoundCounts n = CountMembers(s_);
  const RoundConfig& c = s_.config;
  const bool quorum = n.committed >= c.quorum;
  if (!quorum) {
    s_.quorum_at.reset();
  } else if (!s_.quorum_at.has_value()) {
    s_.quorum_at = now_;
  }
  if (c.target > 0 && n.committed >= c.target) {
    return Close(
        Cat("the round closed at its target of ", c.target, " contributions"));
  }
  const absl::Time deadline = EffectiveDeadline(s_);
  const bool past = now_ >= deadline;
  const bool grace_over = past && now_ >= deadline + c.grace;
  const int64_t may_commit =
      grace_over ? 0 : n.uploading + (past ? 0 : n.invited + n.training);
  constexpr std::string_view kDeadline = "the deadline passed";
  if (quorum) {
    if (may_commit == 0) Close(kDeadline);
  } else if (n.committed + may_commit < c.quorum) {
    FailForWantOfQuorum(past ? kDeadline : "the round failed");
  }
}

absl::Status Machine::On(const ProgressReported& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (event.fraction.has_value() &&
      !(*event.fraction >= 0.0 && *event.fraction <= 1.0)) {
    return absl::InvalidArgumentError(Cat("progress of ", event.institution,
                                          " is ", *event.fraction,
                                          ", must be between 0 and 1"));
  }
  if (IsOut(*m)) {
    Refuse(OutOfRound(*m));
    return absl::OkStatus();
  }
  const bool evaluating = s_.phase == RoundPhase::kEvaluating;
  if (!evaluating) {
    if (m->state == MemberState::kCommitted) {
      AnswerUnchanged();
      return absl::OkStatus();
    }
    if (m->state != MemberState::kUploading) {
      if (!InWindow()) {
        AnswerLate();
        return absl::OkStatus();
      }
      m->state = MemberState::kTraining;
      m->reason.clear();
    }
  }
  m->progress = event.fraction;
  m->progress_text = CleanText(event.text, kMaxReasonBytes);
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const UploadBegan& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (IsOut(*m)) {
    Refuse(OutOfRound(*m));
    return absl::OkStatus();
  }
  if (m->state == MemberState::kCommitted) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  if (m->state != MemberState::kUploading) {
    if (!InWindow()) {
      answer_ = Answer::kLate;
      text_ = Cat(Name(), " took new uploads until ",
                  FormatTime(EffectiveDeadline(s_)));
      return absl::OkStatus();
    }
    m->state = MemberState::kUploading;
    m->progress.reset();
    m->progress_text.clear();
  } else if (!m->interrupted) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  m->interrupted = false;
  m->reason.clear();
  s_.phase = RoundPhase::kCollecting;
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const UploadLost& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (m->state != MemberState::kUploading || m->interrupted) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  m->interrupted = true;
  m->reason = CleanText(event.reason, kMaxReasonBytes);
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const ContributionCommitted& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (IsOut(*m)) {
    Refuse(OutOfRound(*m));
    return absl::OkStatus();
  }
  if (m->state == MemberState::kCommitted) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  if (m->state != MemberState::kUploading) {
    return absl::FailedPreconditionError(Cat(
        event.institution, " has no upload in ", Name(), ", which is ",
        RoundPhaseName(s_.phase), ": ContributionCommitted is not possible"));
  }
  Touch(*m);
  m->interrupted = false;
  m->progress.reset();
  m->progress_text.clear();
  if (event.examples < s_.config.minimum_examples) {
    m->state = MemberState::kFailed;
    m->reason =
        Cat(event.examples, " examples, at least ", s_.config.minimum_examples,
            " are required (rounds.minimum_examples)");
    Refuse(OutOfRound(*m));
    return absl::OkStatus();
  }
  m->state = MemberState::kCommitted;
  m->examples = event.examples;
  m->reason.clear();
  return absl::OkStatus();
}

absl::Status Machine::On(const ContributionQuarantined& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (m->quarantined) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  const bool uploading = m->state == MemberState::kUploading;
  if (m->state != MemberState::kCommitted && !uploading) {
    return absl::FailedPreconditionError(Cat(
        event.institution, " has no contribution in ", Name(), ", which is ",
        RoundPhaseName(s_.phase), ": ContributionQuarantined is not possible"));
  }
  Touch(*m);
  m->quarantined = true;
  m->reason = CleanText(event.reason, kMaxReasonBytes);
  switch (s_.phase) {
    case RoundPhase::kCollecting:
    case RoundPhase::kAggregating:
      if (uploading) StopUpload(*m, Cat("quarantined: ", m->reason));
      m->state = MemberState::kFailed;
      if (s_.phase == RoundPhase::kAggregating) FoldWithout();
      break;
    default:
      // It is part of the version already; the member stays committed.
      if (m->evaluation != EvaluationState::kNone) {
        m->evaluation = EvaluationState::kDeclined;
        m->evaluation_reason = "quarantined";
      }
      if (!s_.candidate.has_value()) break;
      if (s_.phase == RoundPhase::kEvaluating && !s_.promoted_early) {
        RefuseCandidate(Cat("the contribution of ", m->institution,
                            " was quarantined after the fold: ", m->reason));
      } else {
        Emit(TaintVersion{*s_.candidate, m->institution, m->reason});
      }
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const ContributionReleased& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (!m->quarantined || m->examples == 0) {
    return absl::FailedPreconditionError(
        Cat(event.institution, " has no committed contribution in quarantine",
            " in ", Name(), ", which is ", RoundPhaseName(s_.phase),
            ": ContributionReleased is not possible"));
  }
  if (m->state == MemberState::kRemoved && !m->suspended) {
    return absl::FailedPreconditionError(
        Cat(event.institution, " was revoked, which is final: its ",
            "contribution to ", Name(), " counts no more (", m->reason, ")"));
  }
  m->quarantined = false;
  m->state = MemberState::kCommitted;
  m->reason.clear();
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const Declined& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (IsOut(*m) || m->state == MemberState::kDeclined) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  if (m->state == MemberState::kCommitted) {
    Refuse(Cat(event.institution, " has already contributed to ", Name()));
    return absl::OkStatus();
  }
  StopUpload(*m, Cat(event.institution, " gave up"));
  m->state = MemberState::kDeclined;
  m->reason = CleanText(event.reason, kMaxReasonBytes);
  Touch(*m);
  return absl::OkStatus();
}

absl::Status Machine::On(const MemberRemoved& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  const bool revoked = event.removal == Removal::kRevoked;
  const std::string reason =
      Cat(revoked ? "revoked" : "suspended", event.reason.empty() ? "" : ": ",
          CleanText(event.reason, kMaxReasonBytes));
  if (m->state == MemberState::kRemoved || (!revoked && m->suspended)) {
    if (!revoked || !m->suspended) {
      AnswerUnchanged();
    } else {
      m->suspended = false;  // revoked for good
      m->reason = reason;
      Touch(*m);
    }
    return absl::OkStatus();
  }
  m->suspended = true;
  Touch(*m);
  if (m->evaluation == EvaluationState::kAsked ||
      (revoked && m->evaluation == EvaluationState::kReported)) {
    m->evaluation = EvaluationState::kDeclined;
    m->evaluation_reason = reason;
  }
  const bool committed = m->state == MemberState::kCommitted;
  const bool begun =
      m->state != MemberState::kInvited && m->state != MemberState::kTraining;
  // Its state says how it stands; removed would make it invited later.
  if (!revoked && begun) return absl::OkStatus();
  if (committed && s_.phase == RoundPhase::kEvaluating) return absl::OkStatus();
  StopUpload(*m, reason);
  m->state = MemberState::kRemoved;
  m->suspended = !revoked;
  m->reason = reason;
  if (committed) {
    Emit(QuarantineContribution{m->institution, reason});
    if (s_.phase == RoundPhase::kAggregating) FoldWithout();
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const MemberRestored& event) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundMember * m, Member(event.institution));
  if (!m->suspended) {
    AnswerUnchanged();
    return absl::OkStatus();
  }
  m->suspended = false;
  Touch(*m);
  const bool waits = s_.phase == RoundPhase::kPlanned ||
                     s_.phase == RoundPhase::kOpen ||
                     s_.phase == RoundPhase::kCollecting;
  const bool takes = s_.phase == RoundPhase::kPlanned || InWindow();
  if (m->state == MemberState::kRemoved && waits && takes) {
    m->state = MemberState::kInvited;
    m->reason.clear();
  }
  return absl::OkStatus();
}

absl::Status Machine::On(const CloseNow&) {
  const RoundCounts n = CountMembers(s_);
  if (s_.phase == RoundPhase::kEvaluating) {
    const auto reported = static_cast<int64_t>(
        Names([](const RoundMember& m) {
          return m.evaluation == EvaluationState::kReported;
        }).size());
    if (reported < s_.config.evaluation.quorum) {
      return absl::FailedPreconditionError(
          Cat(Name(), " is evaluating with ", reported, " of ",
              s_.config.evaluation.quorum,
              " reports: CloseNow is not possible without the quorum"));
    }
    Verdict();
    return absl::OkStatus();
  }
  if (n.committed < s_.config.quorum) {
    return absl::FailedPreconditionError(
        Cat(Name(), " is ", RoundPhaseName(s_.phase), " with ", n.committed,
            " of ", s_.config.quorum,
            " contributions: CloseNow is not possible without the quorum; "
            "extend or cancel the round"));
  }
  Close("an operator closed the round");
  return absl::OkStatus();
}

void Machine::StopUpload(RoundMember& m, std::string_view why) {
  if (m.state == MemberState::kUploading) {
    Emit(CancelUploads{{m.institution}, std::string(why)});
  }
  m.interrupted = false;
  m.progress.reset();
  m.progress_text.clear();
}

void Machine::CloseWindow(std::string_view why) {
  if (s_.closed_at.has_value()) return;
  s_.closed_at = now_;
  CancelUploads cut;
  cut.reason = std::string(why);
  for (RoundMember& m : s_.members) {
    if (!Unresolved(m)) continue;
    const std::string was = DescribeMember(m);
    if (m.state == MemberState::kUploading) {
      cut.institutions.push_back(m.institution);
    }
    m.state = MemberState::kMissing;
    m.reason = CleanText(Cat(why, "; ", was), kMaxReasonBytes);
    m.interrupted = false;
    m.progress.reset();
    m.progress_text.clear();
    Touch(m);
  }
  if (!cut.institutions.empty()) Emit(std::move(cut));
}

void Machine::Close(std::string_view why) {
  CloseWindow(why);
  s_.phase = RoundPhase::kAggregating;
  BeginNextFold();
}

void Machine::FailForWantOfQuorum(std::string_view why) {
  CloseWindow(why);
  const RoundCounts n = CountMembers(s_);
  std::vector<std::string> others;
  for (const RoundMember& m : s_.members) {
    if (m.state == MemberState::kCommitted) continue;
    others.push_back(Cat(m.institution, " ", DescribeMember(m)));
  }
  FinishAs(RoundPhase::kFailed,
           Cat(n.committed, " of ", s_.config.quorum, " contributions needed; ",
               JoinSome(others)));
}

}  // namespace consilium::round_internal

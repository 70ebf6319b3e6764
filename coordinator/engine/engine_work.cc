// What institutions do: work, progress, uploads, evaluation.

#include <algorithm>
#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/contribution_stats.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

// Equal work, equal revision, also over a restart: FNV-1a of what it is.
uint64_t Revision(std::string_view kind, int64_t round, int64_t attempt,
                  int64_t version) {
  uint64_t hash = 14695981039346656037u;
  const std::string text = Cat(kind, "/", round, "/", attempt, "/", version);
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }
  return hash == 0 ? 1 : hash;  // 0 means "nothing known"
}

SignedVersionRef RefOf(const VersionRow& row) {
  return {static_cast<uint64_t>(row.number), row.digest,
          static_cast<uint64_t>(row.blob_bytes)};
}

bool MayContribute(const RoundMember& member) {
  return member.state == MemberState::kInvited ||
         member.state == MemberState::kTraining ||
         member.state == MemberState::kUploading;
}

Refused Late(const RoundState& state, std::string_view text) {
  return Refused{RefusalCode::kLate,
                 text.empty() ? Cat("round ", state.id, " is ",
                                    RoundPhaseName(state.phase),
                                    " and takes no more contributions")
                              : std::string(text)};
}

// Of a refused member. Only of a suspended one is the work worth keeping.
RefusalCode CodeOf(const RoundState& state, const std::string& institution) {
  const RoundMember* const member = FindMember(state, institution);
  if (member == nullptr || member->quarantined ||
      member->state == MemberState::kFailed) {
    return RefusalCode::kQuarantined;
  }
  return member->suspended || member->state == MemberState::kRemoved
             ? RefusalCode::kSuspended
             : RefusalCode::kLate;
}

std::optional<Refused> RefusalOf(const Transition& t,
                                 const std::string& institution) {
  switch (t.answer) {
    case Answer::kAccepted:
    case Answer::kUnchanged:
      return std::nullopt;
    case Answer::kLate:
      return Late(t.state, t.text);
    case Answer::kRefused:
      return Refused{CodeOf(t.state, institution), t.text};
  }
  return std::nullopt;
}

// What an institution reported of a version.
absl::StatusOr<std::map<std::string, double>> EvaluationBy(
    ReadTx& tx, const VersionRow& version, int64_t institution_id) {
  std::map<std::string, double> metrics;
  if (!version.round.has_value()) return metrics;
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::vector<MetricRow> rows,
      ListMetrics(tx, *version.round, MetricPhase::kEvaluate));
  for (const MetricRow& row : rows) {
    if (row.institution_id == institution_id && row.version == version.number) {
      metrics[row.name] = row.value;
    }
  }
  return metrics;
}

}  // namespace

Refused Engine::NotLive(int64_t round) {
  std::optional<RoundRow> row;
  const absl::Status read =
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, FindRound(tx, round));
        return absl::OkStatus();
      });
  if (!read.ok() || !row.has_value()) {
    return Refused{
        RefusalCode::kRoundNotOpen,
        Cat("round ", round, " is not under way; wait for work again")};
  }
  return Refused{RefusalCode::kLate,
                 Cat("round ", round, " is over: ", row->state,
                     row->reason.empty() ? "" : ": ", row->reason)};
}

void Engine::Touch(PeerState& peer) {
  peer.last_seen_ns.store(absl::ToInt64Nanoseconds(deps_.clock->Monotonic()));
}

bool Engine::Connected(const PeerState& peer) {
  if (peer.streams.load() > 0 || peer.waits.load() > 0) return true;
  const int64_t seen = peer.last_seen_ns.load();
  return seen != 0 && deps_.clock->Monotonic() - absl::Nanoseconds(seen) <
                          options_.connected_for;
}

std::optional<absl::Time> Engine::LastSeen(const PeerState& peer) {
  const int64_t seen = peer.last_seen_ns.load();
  if (seen == 0) return std::nullopt;
  return deps_.clock->Now() -
         (deps_.clock->Monotonic() - absl::Nanoseconds(seen));
}

std::shared_ptr<const RoundContext> Engine::ContextOf(LiveRound& live) {
  const std::optional<absl::Time>& deadline = live.state.deadline;
  if (!deadline.has_value() || live.context->statement.deadline == *deadline) {
    return live.context;
  }
  const auto announce = [&]() -> absl::Status {
    std::optional<X25519PrivateKey> key;
    if (live.context->sealing_key.has_value()) {
      CONSILIUM_ASSIGN_OR_RETURN(
          key, X25519PrivateKey::FromSecret(
                   live.context->sealing_key->secret().Clone()));
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        live.context, MakeContext(live.state, live.base, std::move(key)));
    return absl::OkStatus();
  };
  const absl::Status announced = announce();
  if (!announced.ok()) {
    Log("error", live.state.id, "",
        Cat("the new deadline is not told: ", StdView(announced.message())));
  }
  return live.context;
}

Work Engine::WorkFor(const PeerState& peer) {
  MutexLock lock(&mu_);
  return WorkLocked(peer, /*describe=*/true);
}

Work Engine::WorkLocked(const PeerState& peer, bool describe) {
  const int64_t version = current_.has_value() ? current_->number : -1;
  IdleWork idle;
  if (current_.has_value()) idle.current = RefOf(*current_);
  if (peer.suspended.load()) {
    idle.reason = "this institution is suspended; the operator can resume it";
    return {Revision("suspended", 0, 0, version), std::move(idle)};
  }
  // A candidate to judge comes before a round to train for: others wait for it.
  for (const auto& [id, live] : rounds_) {
    const RoundState& state = live->state;
    const RoundMember* const member = FindMember(state, peer.name);
    if (state.phase != RoundPhase::kEvaluating || member == nullptr ||
        member->evaluation != EvaluationState::kAsked || !live->candidate) {
      continue;
    }
    EvaluateWork work;
    work.round = id;
    work.attempt = state.attempt;
    work.candidate = RefOf(*live->candidate);
    const auto signature = Signature::FromBytes(live->candidate->signature);
    if (!signature.ok()) continue;
    work.signature = *signature;
    work.deadline = state.evaluation_deadline.value_or(absl::InfiniteFuture());
    return {Revision("evaluate", id, state.attempt, live->candidate->number),
            std::move(work)};
  }
  // While one round is judged, the next one may train.
  for (const auto& [id, live] : rounds_) {
    const RoundState& state = live->state;
    const RoundMember* const member = FindMember(state, peer.name);
    const bool collecting = state.phase == RoundPhase::kOpen ||
                            state.phase == RoundPhase::kCollecting;
    if (collecting && member != nullptr && MayContribute(*member)) {
      TrainWork work;
      if (describe) {
        work.context = ContextOf(*live);
        work.parameters = state.training;
      }
      return {Revision("train", id, state.attempt,
                       static_cast<int64_t>(live->base.number)),
              std::move(work)};
    }
  }
  for (auto it = rounds_.rbegin(); it != rounds_.rend(); ++it) {
    const RoundState& state = it->second->state;
    if (IsTerminal(state.phase)) continue;
    const RoundMember* const member = FindMember(state, peer.name);
    if (describe) {
      idle.reason = Cat("round ", state.id, ": ",
                        WhyWaiting(state, deps_.clock->Now()).sentence);
    }
    const std::string_view kind =
        member == nullptr ? "outside" : MemberStateName(member->state);
    return {Revision(kind, state.id, state.attempt, version), std::move(idle)};
  }
  if (!current_.has_value()) {
    idle.reason = "the federation has no version yet";
  } else if (schedule_.paused) {
    idle.reason = "rounds are paused by the operator";
  } else if (schedule_.next_at.has_value()) {
    idle.reason = "waiting for the next scheduled round";
    idle.next_round_at = schedule_.next_at;
  } else {
    idle.reason = "waiting for the operator to start a round";
  }
  // Whoever waits hears of another reason, and of another time.
  const int64_t next =
      absl::ToUnixMicros(idle.next_round_at.value_or(absl::UnixEpoch()));
  return {Revision(idle.reason, next, 0, version), std::move(idle)};
}

void Engine::WakeBoard() {
  for (const std::string& name : board_.Waiting()) {
    const std::shared_ptr<PeerState> peer = peers_.Find(name);
    if (peer == nullptr || peer->revoked.load()) {
      board_.WakeAll(name);
    } else {
      board_.Wake(name, WorkLocked(*peer, /*describe=*/false).revision);
    }
  }
}

absl::StatusOr<ProgressAnswer> Engine::ReportProgress(
    const Caller& caller, int64_t round, std::optional<double> fraction,
    std::string text) {
  Touch(*caller.peer);
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr) {
    return ProgressAnswer{false, NotLive(round).message, deps_.clock->Now()};
  }
  const RoundEvent event =
      ProgressReported{caller.name(), fraction, std::move(text)};
  const RoundMember* const before = FindMember(live->state, caller.name());
  Transition t;
  if (before != nullptr && before->state != MemberState::kInvited) {
    // Only the figure on the screen changes: no need to wait for the disk.
    CONSILIUM_ASSIGN_OR_RETURN(t,
                               Apply(live->state, event, deps_.clock->Now()));
    if (t.effects.empty() && t.state.phase == live->state.phase) {
      live->state = t.state;
      TellWatchers(round);
    } else {
      CONSILIUM_ASSIGN_OR_RETURN(t, Step(*live, event));
    }
  } else {
    CONSILIUM_ASSIGN_OR_RETURN(t, Step(*live, event));
  }
  ProgressAnswer answer;
  answer.go_on =
      t.answer == Answer::kAccepted || t.answer == Answer::kUnchanged;
  answer.reason = t.text;
  answer.deadline = live->state.deadline.value_or(deps_.clock->Now());
  return answer;
}

absl::StatusOr<std::optional<Refused>> Engine::Decline(const Caller& caller,
                                                       int64_t round,
                                                       std::string reason,
                                                       bool evaluation) {
  Touch(*caller.peer);
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr) return std::optional<Refused>(NotLive(round));
  const RoundEvent event =
      evaluation ? RoundEvent(EvaluationDeclined{caller.name(), reason})
                 : RoundEvent(Declined{caller.name(), reason});
  CONSILIUM_ASSIGN_OR_RETURN(const Transition t, Step(*live, event));
  return RefusalOf(t, caller.name());
}

absl::StatusOr<std::optional<Refused>> Engine::ReportEvaluation(
    const Caller& caller, int64_t round, const Sha256Digest& candidate,
    int64_t examples, std::map<std::string, double> metrics) {
  Touch(*caller.peer);
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr || !live->candidate.has_value()) {
    return std::optional<Refused>(NotLive(round));
  }
  if (live->candidate->digest != candidate) {
    return std::optional<Refused>(
        Refused{RefusalCode::kWrongBase,
                Cat("the candidate of round ", round, " is ",
                    live->candidate->digest.Hex(), ", the report is about ",
                    candidate.Hex())});
  }
  EvaluationReported event;
  event.institution = caller.name();
  event.examples = examples;
  event.metrics = metrics;
  // Read now, not when the round began: with immediate promotion the base was
  // still being judged then.
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(event.base_metrics,
                                   EvaluationBy(tx, live->base, caller.id()));
        return absl::OkStatus();
      }));
  const int64_t attempt = live->state.attempt;
  const int64_t version = live->candidate->number;
  const absl::Time now = deps_.clock->Now();
  CONSILIUM_ASSIGN_OR_RETURN(
      const Transition t,
      Step(
          *live,
          [&](WriteTx&) -> absl::StatusOr<RoundEvent> {
            return RoundEvent(event);
          },
          [&](WriteTx& tx, const Transition& done) -> absl::Status {
            if (done.answer != Answer::kAccepted) return absl::OkStatus();
            for (const auto& [name, value] : metrics) {
              MetricRow row;
              row.round = round;
              row.attempt = attempt;
              row.version = version;
              row.institution_id = caller.id();
              row.phase = MetricPhase::kEvaluate;
              row.name = name;
              row.value = value;
              row.examples = examples;
              row.at = now;
              CONSILIUM_RETURN_IF_ERROR(InsertMetric(tx, row).status());
            }
            return absl::OkStatus();
          }));
  return RefusalOf(t, caller.name());
}

std::variant<std::shared_ptr<const RoundContext>, Refused> Engine::AdmitUpload(
    const Caller& caller, int64_t round, int64_t attempt) {
  Touch(*caller.peer);
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr || IsTerminal(live->state.phase)) return NotLive(round);
  const RoundState& state = live->state;
  if (state.attempt != attempt) {
    return Refused{RefusalCode::kRoundNotOpen,
                   Cat("round ", round, " is in attempt ", state.attempt,
                       ", the upload is for attempt ", attempt)};
  }
  const RoundMember* const member = FindMember(state, caller.name());
  if (member == nullptr) {
    return Refused{RefusalCode::kNotInCohort,
                   Cat(caller.name(), " was not invited to round ", round)};
  }
  // The machine takes nothing more from it: no need for a spool to hear that.
  if (member->quarantined) {
    return Refused{RefusalCode::kQuarantined,
                   Cat(caller.name(), " is out of round ", round,
                       ", as its contribution is quarantined: ", member->reason,
                       "; wait for work again")};
  }
  const bool resuming = member->state == MemberState::kUploading;
  if (!resuming && caller.peer->suspended.load()) {
    return Refused{RefusalCode::kSuspended,
                   Cat(caller.name(),
                       " is suspended; the operator can resume "
                       "it")};
  }
  if (!resuming && !TakesUploads(state, deps_.clock->Now())) {
    return Late(state, "");
  }
  if (!MayContribute(*member)) {
    return Refused{
        RefusalCode::kRoundNotOpen,
        Cat(caller.name(), " is out of round ", round, ", as ",
            MemberStateName(member->state), member->reason.empty() ? "" : ": ",
            member->reason, "; wait for work again")};
  }
  return live->context;
}

std::variant<absl::Status, Refused> Engine::UploadBegan(
    const Caller& caller, const ContributionRow& row,
    const std::string& superseded) {
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(row.round);
  if (live == nullptr) return NotLive(row.round);
  std::optional<Refused> refused;
  const auto t = Step(
      *live,
      [&](WriteTx&) -> absl::StatusOr<RoundEvent> {
        return RoundEvent(consilium::UploadBegan{caller.name()});
      },
      [&](WriteTx& tx, const Transition& done) -> absl::Status {
        refused = RefusalOf(done, caller.name());
        if (refused.has_value()) return absl::OkStatus();
        if (!superseded.empty()) {
          CONSILIUM_RETURN_IF_ERROR(SetContributionState(
              tx, superseded, ContributionState::kSuperseded,
              Cat("replaced by upload ", row.id)));
        }
        return InsertContribution(tx, row);
      });
  if (!t.ok()) return t.status();
  if (refused.has_value()) return *refused;
  return absl::OkStatus();
}

void Engine::UploadResumed(const Caller& caller, int64_t round) {
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr) return;
  Step(*live, consilium::UploadBegan{caller.name()}).status().IgnoreError();
}

void Engine::UploadLost(const Caller& caller, int64_t round,
                        const std::string& reason) {
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (live == nullptr || stopping_) return;
  Log("info", round, caller.name(), Cat("upload interrupted: ", reason));
  Step(*live, consilium::UploadLost{caller.name(), reason})
      .status()
      .IgnoreError();
}

absl::StatusOr<CommitOutcome> Engine::CommitContribution(
    const Caller& caller, const ContributionRow& row,
    const UploadResult& result) {
  Touch(*caller.peer);
  const absl::Time now = deps_.clock->Now();
  const int64_t examples = static_cast<int64_t>(result.stats.metadata.examples);
  SignedReceipt receipt;
  receipt.statement.federation = options_.federation;
  receipt.statement.round = static_cast<uint64_t>(row.round);
  receipt.statement.attempt = static_cast<uint32_t>(row.attempt);
  receipt.statement.institution = caller.name();
  CONSILIUM_ASSIGN_OR_RETURN(const UploadManifest manifest,
                             UploadManifest::Decode(row.manifest));
  receipt.statement.upload_id = std::string(AsChars(manifest.upload_id));
  receipt.statement.payload_digest = result.payload_digest;
  receipt.statement.payload_bytes = static_cast<uint64_t>(row.payload_bytes);
  receipt.statement.committed_at =
      absl::FromUnixMicros(absl::ToUnixMicros(now));
  CONSILIUM_ASSIGN_OR_RETURN(
      receipt.signature, SignStatement(*deps_.signing_key, receipt.statement));

  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(row.round);
  if (live == nullptr) return CommitOutcome(NotLive(row.round));
  std::optional<Refused> refused;
  CONSILIUM_ASSIGN_OR_RETURN(
      const Transition t,
      Step(
          *live,
          [&](WriteTx&) -> absl::StatusOr<RoundEvent> {
            return RoundEvent(ContributionCommitted{caller.name(), examples});
          },
          [&](WriteTx& tx, const Transition& done) -> absl::Status {
            refused = RefusalOf(done, caller.name());
            if (done.answer == Answer::kRefused) {
              // Too few examples, say; nobody waits for it any more.
              return SetContributionState(
                  tx, row.id, ContributionState::kQuarantined, done.text);
            }
            if (refused.has_value()) return absl::OkStatus();
            ContributionRow committed = row;
            committed.state = ContributionState::kCommitted;
            committed.examples = examples;
            committed.norm = result.stats.norm;
            committed.stats_json = ContributionStatsToJson(result.stats);
            committed.receipt = receipt.Encode();
            committed.committed_at = now;
            CONSILIUM_RETURN_IF_ERROR(UpdateContribution(tx, committed));
            for (const NamedMetric& metric : result.stats.metadata.metrics) {
              MetricRow m;
              m.round = row.round;
              m.attempt = row.attempt;
              m.institution_id = caller.id();
              m.phase = MetricPhase::kTrain;
              m.name = metric.name;
              m.value = metric.value;
              m.examples = examples;
              m.at = now;
              CONSILIUM_RETURN_IF_ERROR(InsertMetric(tx, m).status());
            }
            return absl::OkStatus();
          }));
  if (refused.has_value()) return CommitOutcome(*std::move(refused));
  Log("info", row.round, caller.name(),
      Cat("contribution ", row.id,
          " committed: ", FormatBytes(static_cast<uint64_t>(row.payload_bytes)),
          ", ", examples, " examples"));
  return CommitOutcome(std::move(receipt));
}

absl::Status Engine::QuarantineUpload(const Caller& caller, int64_t round,
                                      const std::string& id,
                                      const std::string& reason) {
  MutexLock lock(&mu_);
  deps_.listener->OnQuarantine();
  Log("warn", round, caller.name(),
      Cat("contribution ", id, " quarantined: ", reason));
  const auto mark = [&](WriteTx& tx) {
    return SetContributionState(tx, id, ContributionState::kQuarantined,
                                reason);
  };
  LiveRound* const live = FindLive(round);
  if (live == nullptr) return deps_.store->history().Write(mark);
  return Step(
             *live,
             [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
               CONSILIUM_RETURN_IF_ERROR(mark(tx));
               return RoundEvent(
                   ContributionQuarantined{caller.name(), reason});
             },
             [](WriteTx&, const Transition&) { return absl::OkStatus(); })
      .status();
}

}  // namespace consilium

// One transition of a round: stored in one transaction, then carried out.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/group_report.h"
#include "coordinator/engine/lineage.h"
#include "coordinator/store/round_state.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

absl::StatusOr<int64_t> InstitutionId(ReadTx& tx, std::string_view name) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<InstitutionRow> row,
                             FindInstitution(tx, name));
  if (!row.has_value()) {
    return absl::NotFoundError(
        Cat("institution ", Quoted(name), " is not known"));
  }
  return row->id;
}

absl::StatusOr<std::optional<ContributionRow>> Committed(
    ReadTx& tx, const RoundState& state, std::string_view institution) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t id, InstitutionId(tx, institution));
  return FindLiveContribution(tx, state.id, state.attempt, id);
}

// What an effect means for the database.
absl::Status StoreEffect(WriteTx& tx, const RoundState& state,
                         const RoundEffect& effect) {
  const absl::Time now = state.clock;
  return std::visit(
      Overloaded{
          [&](const Promote& e) -> absl::Status {
            CONSILIUM_RETURN_IF_ERROR(SetVersionState(
                tx, e.candidate, VersionState::kPromoted, "", now));
            return SetCurrentVersion(tx, e.candidate);
          },
          [&](const Reject& e) -> absl::Status {
            return SetVersionState(tx, e.candidate, VersionState::kRejected,
                                   e.reason, now);
          },
          [&](const RollBack& e) -> absl::Status {
            return RollBackCandidate(tx, e.candidate, state.base_version,
                                     e.reason, now);
          },
          [&](const Abandon& e) -> absl::Status {
            if (!e.candidate.has_value()) return absl::OkStatus();
            return SetVersionState(tx, *e.candidate, VersionState::kRejected,
                                   e.reason, now);
          },
          [&](const TaintVersion& e) -> absl::Status {
            return TaintVersions(
                       tx, e.version,
                       Cat("contribution of ", e.institution, ": ", e.reason))
                .status();
          },
          [&](const consilium::QuarantineContribution& e) -> absl::Status {
            CONSILIUM_ASSIGN_OR_RETURN(const std::optional<ContributionRow> row,
                                       Committed(tx, state, e.institution));
            if (!row.has_value()) return absl::OkStatus();
            return SetContributionState(
                tx, row->id, ContributionState::kQuarantined, e.reason);
          },
          [&](const Alert& e) -> absl::Status {
            return AppendRoundNote(tx, state, now, "alert", "", e.reason);
          },
          [](const auto&) -> absl::Status { return absl::OkStatus(); }},
      effect);
}

// Uploads that did not make it before the end.
absl::Status ExpireUploads(WriteTx& tx, const RoundState& state) {
  ContributionQuery query;
  query.round = state.id;
  query.state = ContributionState::kUploading;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<ContributionRow> rows,
                             ListContributions(tx, query));
  const std::string why =
      IsTerminal(state.phase)
          ? Cat("round ", state.id,
                " was over before the upload was "
                "committed: ",
                RoundPhaseName(state.phase), state.reason.empty() ? "" : ", ",
                state.reason)
          : Cat("round ", state.id, " closed before the upload was committed");
  for (const ContributionRow& row : rows) {
    CONSILIUM_RETURN_IF_ERROR(
        SetContributionState(tx, row.id, ContributionState::kExpired, why));
  }
  return absl::OkStatus();
}

// Why the round takes no more of this member's upload.
RefusalCode CutCode(const RoundState& state, std::string_view institution) {
  const RoundMember* const member = FindMember(state, institution);
  if (member == nullptr) return RefusalCode::kLate;
  if (member->quarantined) return RefusalCode::kQuarantined;
  return member->state == MemberState::kRemoved ? RefusalCode::kSuspended
                                                : RefusalCode::kLate;
}

// A spool that cannot be read may be the disk's fault, which may pass; at the
// last attempt it costs one contribution and not the round. Only one: a disk
// that fails must not take one institution after the other.
bool BlamesMember(const RoundState& state, bool blamed_before,
                  const FoldJobFailure& failure) {
  if (!failure.member.has_value()) return false;
  return !failure.retryable ||
         (!failure.no_space() && !blamed_before &&
          state.fold_failures + 1 >= state.config.fold_attempts);
}

}  // namespace

absl::StatusOr<Transition> Engine::StoreStep(WriteTx& tx,
                                             const RoundState& before,
                                             const RoundEvent& event,
                                             absl::Time now, AlsoFn also) {
  CONSILIUM_ASSIGN_OR_RETURN(Transition t, Apply(before, event, now));
  CONSILIUM_RETURN_IF_ERROR(also(tx, t));
  if (t.state != before) {
    CONSILIUM_RETURN_IF_ERROR(StoreRoundState(tx, before, t.state));
  }
  for (const RoundEffect& effect : t.effects) {
    CONSILIUM_RETURN_IF_ERROR(StoreEffect(tx, t.state, effect));
  }
  if (t.state.phase != before.phase &&
      (IsTerminal(t.state.phase) ||
       t.state.phase == RoundPhase::kAggregating)) {
    CONSILIUM_RETURN_IF_ERROR(ExpireUploads(tx, t.state));
  }
  return t;
}

absl::StatusOr<Transition> Engine::Step(LiveRound& live, EventFn make,
                                        AlsoFn also) {
  const absl::Time now = deps_.clock->Now();
  const RoundState& before = live.state;
  Stepped step{&live, {}};
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const RoundEvent event, make(tx));
        CONSILIUM_ASSIGN_OR_RETURN(step.transition,
                                   StoreStep(tx, before, event, now, also));
        return absl::OkStatus();
      }));
  CarryOut(std::span(&step, 1));
  return std::move(step.transition);
}

absl::StatusOr<Transition> Engine::Step(LiveRound& live,
                                        const RoundEvent& event) {
  return Step(
      live, [&](WriteTx&) -> absl::StatusOr<RoundEvent> { return event; },
      [](WriteTx&, const Transition&) { return absl::OkStatus(); });
}

absl::StatusOr<Transition> Engine::StepAs(LiveRound& live,
                                          const RoundEvent& event,
                                          const std::string& actor,
                                          const std::string& action,
                                          const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  const std::string object = Cat("round ", live.state.id);
  return Step(
      live, [&](WriteTx&) -> absl::StatusOr<RoundEvent> { return event; },
      [&](WriteTx& tx, const Transition&) -> absl::Status {
        return AppendAudit(tx, NewAudit(now, actor, action, object, reason))
            .status();
      });
}

void Engine::CarryOut(std::span<const Stepped> steps) {
  std::string fallen;
  for (const Stepped& step : steps) {
    std::string why = TakeState(*step.live, step.transition);
    if (!why.empty()) fallen = std::move(why);
  }
  // Last: it may end other rounds, which are carried out in the same way.
  if (!fallen.empty()) ServeStoredVersion(fallen);
  for (const Stepped& step : steps) AfterChange(step.live->state.id);
}

std::string Engine::TakeState(LiveRound& live, const Transition& t) {
  const int64_t id = live.state.id;
  const RoundPhase before = live.state.phase;
  const bool moved = t.state.phase != before;
  live.state = t.state;
  live.trouble.clear();
  if (moved) {
    Log("info", id, "",
        Cat("round is ", RoundPhaseName(live.state.phase),
            live.state.reason.empty() ? "" : ": ", live.state.reason));
  } else {
    const RoundCounts n = CountMembers(live.state);
    Log("debug", id, "",
        Cat("step in ", RoundPhaseName(before), ": ", n.committed, " of ",
            n.cohort, " committed, ", n.uploading, " uploading, ", n.training,
            " training"));
  }
  std::string fallen;
  for (const RoundEffect& effect : t.effects) {
    // Not std::visit: the lock analysis does not see into its lambdas.
    if (const auto* wake = std::get_if<ScheduleWake>(&effect)) {
      live.wake = wake->at;
    } else if (const auto* uploads = std::get_if<CancelUploads>(&effect)) {
      for (const std::string& name : uploads->institutions) {
        hub_.CloseUploads(id, {name},
                          Refused{CutCode(t.state, name), uploads->reason});
      }
    } else if (const auto* fold = std::get_if<BeginFold>(&effect)) {
      StartFold(live, *fold);
    } else if (std::holds_alternative<AbortFold>(effect)) {
      if (live.fold_cancel) live.fold_cancel->Cancel("the round ended");
    } else if (const auto* promoted = std::get_if<Promote>(&effect)) {
      if (live.candidate && live.candidate->number == promoted->candidate) {
        live.candidate->state = VersionState::kPromoted;
        live.candidate->promoted_at = live.state.clock;
        current_ = live.candidate;
      }
    } else if (const auto* back = std::get_if<RollBack>(&effect)) {
      fallen =
          Cat("version ", back->candidate, " was rolled back: ", back->reason);
    } else if (std::holds_alternative<consilium::QuarantineContribution>(
                   effect)) {
      deps_.listener->OnQuarantine();
    } else if (const auto* alert = std::get_if<Alert>(&effect)) {
      deps_.listener->OnAlert();
      Log("warn", id, "", alert->reason);
    }
  }
  if (id == newest_round_) {
    deps_.listener->OnRound(id, live.state.phase, CountMembers(live.state));
  }
  if (moved && IsTerminal(live.state.phase)) {
    round_failed_ = live.state.phase == RoundPhase::kFailed;
    deps_.listener->OnRoundFinished(
        live.state.phase, live.state.opened_at && live.state.finished_at
                              ? *live.state.finished_at - *live.state.opened_at
                              : absl::ZeroDuration());
    live.wake.reset();
  }
  return fallen;
}

void Engine::StartFold(LiveRound& live, const BeginFold& fold) {
  // The next start asks for it again.
  if (stopping_) return;
  FoldJobInput input;
  input.context = live.context;
  input.base = live.base;
  input.min_contributors = live.state.config.minimum_group_contributors;
  input.threads = options_.fold_threads;
  input.clock = deps_.clock;
  live.fold_cancel = std::make_shared<CancelSource>();
  input.cancel = live.fold_cancel->token();
  PromiseResult(live);
  input.space = std::exchange(live.result_space, nullptr);
  const RoundState& state = live.state;
  const absl::Status listed =
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        for (const std::string& name : fold.institutions) {
          CONSILIUM_ASSIGN_OR_RETURN(const std::optional<ContributionRow> row,
                                     Committed(tx, state, name));
          if (!row.has_value()) {
            return absl::DataLossError(
                Cat("no committed contribution of ", name));
          }
          input.members.push_back({name, row->id, row->spool_path});
        }
        return absl::OkStatus();
      });
  const int64_t round = live.state.id;
  const int64_t run = fold.run;
  if (!listed.ok()) {
    fold_pool_->Schedule([this, round, run, input, listed] {
      FoldJobFailure failure;
      failure.status = listed;
      failure.retryable = !absl::IsDataLoss(listed);
      FoldDone(round, run, input, listed, failure);
    });
    return;
  }
  fold_pool_->Schedule([this, round, run, input = std::move(input)]() mutable {
    RunFold(round, run, std::move(input));
  });
}

void Engine::PromiseResult(LiveRound& live) {
  if (live.result_space != nullptr) return;
  auto space = deps_.store->space().Reserve(
      live.base.blob_bytes,
      Cat("the version of round ", live.context->statement.round),
      SpaceUse::kVersion);
  // Asked for in vain after a start or a failed fold: the fold may still find
  // the space, or say what it lacks.
  if (!space.ok()) return;
  live.result_space = std::make_shared<SpaceReservation>(*std::move(space));
}

void Engine::RunFold(int64_t round, int64_t run, FoldJobInput input) {
  FoldJobFailure failure;
  const absl::StatusOr<FoldJobResult> result =
      RunFoldJob(input, *deps_.store, /*publish=*/true, &failure);
  FoldDone(round, run, input, result, failure);
}

void Engine::FoldDone(int64_t round, int64_t run, const FoldJobInput& input,
                      const absl::StatusOr<FoldJobResult>& result,
                      const FoldJobFailure& failure) {
  MutexLock lock(&mu_);
  LiveRound* const live = FindLive(round);
  if (stopping_ || live == nullptr) {
    if (result.ok()) deps_.store->blobs().Release(result->digest);
    return;
  }
  absl::Status stepped;
  if (result.ok()) {
    const FoldJobResult& fold = *result;
    VersionRow inserted;
    bool fresh = false;
    const auto make = [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
      VersionRow row;
      row.digest = fold.digest;
      row.blob_bytes = fold.bytes;
      row.parent = input.base.number;
      row.round = round;
      row.attempt = input.context->attempt();
      row.state = VersionState::kCandidate;
      row.report_json = GroupReportToJson(fold.groups);
      row.created_at = deps_.clock->Now();
      CONSILIUM_ASSIGN_OR_RETURN(const VersionRow parent,
                                 GetVersion(tx, input.base.number));
      row.tainted = parent.tainted;
      if (parent.tainted) row.reason = parent.reason;
      CONSILIUM_ASSIGN_OR_RETURN(
          const InsertedVersion version,
          InsertVersion(
              tx, row,
              [this](
                  const VersionRow& complete) -> absl::StatusOr<std::string> {
                std::string signature;
                CONSILIUM_RETURN_IF_ERROR(SignVersion(complete, &signature));
                return signature;
              }));
      inserted = version.row;
      fresh = version.inserted;
      FoldFinished event;
      event.run = run;
      event.candidate = inserted.number;
      event.groups = static_cast<int64_t>(fold.groups.size());
      event.held_groups = fold.held_groups;
      return RoundEvent(std::move(event));
    };
    const auto also = [&](WriteTx& tx, const Transition& t) -> absl::Status {
      if (t.answer != Answer::kAccepted) {
        // A later fold took over; nothing will ever promote this one.
        if (!fresh) return absl::OkStatus();
        return SetVersionState(tx, inserted.number, VersionState::kRejected,
                               "superseded by a later fold", t.state.clock);
      }
      for (const FoldJobInput::Member& member : input.members) {
        CONSILIUM_RETURN_IF_ERROR(SetContributionState(
            tx, member.contribution_id, ContributionState::kFolded, ""));
        CONSILIUM_RETURN_IF_ERROR(AddVersionContribution(
            tx, inserted.number, member.contribution_id));
      }
      const auto metric = [&](std::string name, double value) {
        MetricRow row;
        row.round = round;
        row.attempt = input.context->attempt();
        row.version = inserted.number;
        row.phase = MetricPhase::kAggregate;
        row.name = std::move(name);
        row.value = value;
        row.at = deps_.clock->Now();
        return InsertMetric(tx, row).status();
      };
      CONSILIUM_RETURN_IF_ERROR(
          metric("fold_seconds", absl::ToDoubleSeconds(fold.fold_time)));
      CONSILIUM_RETURN_IF_ERROR(
          metric("publish_seconds", absl::ToDoubleSeconds(fold.publish_time)));
      return metric("held_groups",
                    static_cast<double>(fold.held_groups.size()));
    };
    const std::optional<VersionRow> before = live->candidate;
    // CarryOut promotes live->candidate, so it is set before.
    const auto make_and_note = [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
      CONSILIUM_ASSIGN_OR_RETURN(RoundEvent event, make(tx));
      live->candidate = inserted;
      return event;
    };
    const absl::StatusOr<Transition> t = Step(*live, make_and_note, also);
    stepped = t.status();
    if (!t.ok() || t->answer != Answer::kAccepted) live->candidate = before;
    // Not stored: the next fold publishes the same bytes again.
    deps_.store->blobs().Release(fold.digest);
    if (stepped.ok()) {
      deps_.listener->OnFold(fold.fold_time, fold.elements_read * 4,
                             static_cast<int64_t>(fold.held_groups.size()));
      deps_.listener->OnPublish(fold.publish_time, fold.bytes);
    }
  } else if (BlamesMember(live->state, live->blamed_unread, failure)) {
    live->blamed_unread |= failure.retryable;
    const FoldJobInput::Member& member = input.members[*failure.member];
    const std::string reason(failure.status.message());
    stepped = Step(
                  *live,
                  [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
                    CONSILIUM_RETURN_IF_ERROR(SetContributionState(
                        tx, member.contribution_id,
                        ContributionState::kQuarantined, reason));
                    return RoundEvent(
                        ContributionQuarantined{member.institution, reason});
                  },
                  [](WriteTx&, const Transition&) { return absl::OkStatus(); })
                  .status();
    deps_.listener->OnQuarantine();
    Log("error", round, member.institution,
        Cat("contribution quarantined in the fold: ", reason));
  } else {
    const std::string reason(failure.status.message());
    const RoundEvent event =
        failure.publishing
            ? RoundEvent(PublishFailed{run, reason, failure.no_space()})
            : RoundEvent(FoldFailed{run, reason, failure.retryable,
                                    failure.no_space()});
    stepped = Step(*live, event).status();
    Log("error", round, "", Cat("fold failed: ", reason));
  }
  if (!stepped.ok()) {
    // No fold runs any more and the round does not know: tell it, now or when
    // the store takes it.
    const RoundEvent failed = PublishFailed{run, std::string(stepped.message()),
                                            IsNoSpaceError(stepped)};
    const absl::Status told = Step(*live, failed).status();
    if (!told.ok()) Owe(*live, failed, told);
  }
}

}  // namespace consilium

// Planning and opening rounds, recovery, time.

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/codec.h"
#include "consilium/base/bytes.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/cohort.h"
#include "coordinator/round/round_json.h"
#include "coordinator/round/schedule.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

// A call costs no transaction; all of a minute cost one.
constexpr absl::Duration kSeenPeriod = absl::Minutes(1);

}  // namespace

Engine::Engine(EngineOptions options, EngineDeps deps)
    : options_(std::move(options)),
      deps_(std::move(deps)),
      started_at_(deps_.clock->Now()),
      peers_(options_.federation),
      hub_(deps_.store, this, deps_.listener, deps_.clock, deps_.ingest,
           HubOptions()),
      fold_pool_(std::make_unique<ThreadPool>(1)) {}

Engine::~Engine() { Stop(); }

void Engine::Log(std::string_view level, int64_t round,
                 std::string_view institution, std::string_view text) {
  if (deps_.log) deps_.log(level, round, institution, text);
}

absl::Status Engine::StartForTest() { return Recover(); }

absl::Status Engine::Start() {
  CONSILIUM_RETURN_IF_ERROR(Recover());
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void Engine::Stop() {
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    stopping_ = true;
    stopping_seen_.store(true);
    kicked_ = true;
    for (auto& [id, live] : rounds_) {
      if (live->fold_cancel) live->fold_cancel->Cancel("shutting down");
    }
    kick_.SignalAll();
  }
  stop_.Cancel("the coordinator is shutting down");
  TellWatchers(0);
  board_.CloseAll();
  hub_.CloseAll(Refused{RefusalCode::kBusy,
                        "the coordinator is shutting down; resume later",
                        absl::Seconds(1)});
  if (thread_.joinable()) thread_.join();
  StoreSeen();
  std::unique_ptr<ThreadPool> folds;
  {
    MutexLock lock(&mu_);
    folds = std::move(fold_pool_);
  }
  // Not under the lock, which the end of a fold takes.
  folds.reset();
}

void Engine::Kick() {
  kicked_ = true;
  kick_.Signal();
}

void Engine::Loop() {
  for (;;) {
    const absl::Duration next = Poll();
    MutexLock lock(&mu_);
    while (!kicked_) {
      const absl::Duration wait = next - deps_.clock->Monotonic();
      if (wait <= absl::ZeroDuration()) break;
      kick_.WaitFor(&mu_, std::min(wait, absl::Seconds(60)));
      if (next <= deps_.clock->Monotonic()) break;
    }
    kicked_ = false;
    if (stopping_) return;
  }
}

absl::Duration Engine::Poll() {
  const absl::Duration mono = deps_.clock->Monotonic();
  next_turn_ = mono;
  absl::Duration next = std::min(board_.Expire(mono), hub_.ExpireIdle(mono));
  bool retain = false;
  bool gauges = false;
  bool seen = false;
  bool moved = false;
  {
    MutexLock lock(&mu_);
    if (stopping_) return mono + absl::Seconds(60);
    const absl::Time now = deps_.clock->Now();
    RunDue(now);
    for (auto it = rounds_.begin(); it != rounds_.end();) {
      it = IsTerminal(it->second->state.phase) ? rounds_.erase(it)
                                               : std::next(it);
    }
    RunSchedule();
    if (unserved_.has_value()) {
      next = std::min(next, mono + (unserved_->again_at - now));
    }
    for (const auto& [id, live] : rounds_) {
      if (live->wake.has_value()) {
        next = std::min(next, mono + (*live->wake - now));
      }
      if (live->owed.has_value()) {
        next = std::min(next, mono + (live->owed->again_at - now));
      }
    }
    // One that is overdue waits for a round's end, which kicks.
    const absl::Time fires_from = ScheduleNow();
    if (schedule_.next_at.value_or(fires_from) > fires_from &&
        !schedule_.paused) {
      next = std::min(next, mono + (*schedule_.next_at - fires_from));
    }
    moved = UploadsMoved(mono);
    if (hub_.active()) next = std::min(next, next_progress_);
    if (mono >= next_gauges_) {
      next_gauges_ = mono + absl::Seconds(5);
      gauges = true;
      seen = mono >= next_seen_;
      if (seen) next_seen_ = mono + kSeenPeriod;
    }
    next = std::min(next, next_gauges_);
    retain = mono >= next_retention_;
    if (retain) next_retention_ = mono + options_.retention_interval;
    next = std::min(next, next_retention_);
  }
  if (retain) {
    const auto report =
        deps_.store->ApplyRetention(options_.retention, deps_.clock->Now());
    if (!report.ok()) {
      Log("warn", 0, "",
          Cat("retention: ", StdView(report.status().message())));
    }
  }
  if (gauges) UpdateGauges();
  if (seen) StoreSeen();
  if (seen && deps_.each_minute) deps_.each_minute();
  if (moved) TellWatchers(0);
  // Never spin, whatever is overdue.
  next = std::max(next, mono + absl::Milliseconds(1));
  next_turn_ = next;
  return next;
}

Engine::LiveRound* Engine::FindLive(int64_t round) {
  const auto it = rounds_.find(round);
  return it == rounds_.end() ? nullptr : it->second.get();
}

absl::StatusOr<Engine::LiveRound*> Engine::GetLive(int64_t round) {
  LiveRound* const live = FindLive(round);
  if (live == nullptr || IsTerminal(live->state.phase)) {
    return absl::FailedPreconditionError(
        Cat("round ", round, " is not under way; see `consilium round list`"));
  }
  return live;
}

absl::Status Engine::SignVersion(const VersionRow& row,
                                 std::string* signature) {
  VersionStatement statement;
  statement.federation = options_.federation;
  statement.version = {static_cast<uint64_t>(row.number), row.digest,
                       static_cast<uint64_t>(row.blob_bytes)};
  const std::shared_ptr<const FederationLayout> federation_layout = layout();
  statement.layout_digest = federation_layout->id;
  CONSILIUM_ASSIGN_OR_RETURN(const Signature signed_version,
                             SignStatement(*deps_.signing_key, statement));
  *signature = signed_version.ToString();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const RoundContext>> Engine::MakeContext(
    const RoundState& state, const VersionRow& base,
    std::optional<X25519PrivateKey> key) {
  auto context = std::make_shared<RoundContext>();
  context->layout = layout();
  RoundStatement& s = context->statement;
  s.federation = options_.federation;
  s.round = static_cast<uint64_t>(state.id);
  s.attempt = static_cast<uint32_t>(state.attempt);
  s.base = {static_cast<uint64_t>(base.number), base.digest,
            static_cast<uint64_t>(base.blob_bytes)};
  s.layout_digest = context->layout->id;
  if (key.has_value()) s.sealing_public_key = key->public_key();
  for (const CodecId codec : kRoundCodecs) {
    CONSILIUM_RETURN_IF_ERROR(
        Annotate(FindCodec(codec, state.elements_per_frame).status(),
                 Cat("round ", state.id)));
    s.codecs.push_back(static_cast<uint32_t>(codec));
  }
  s.elements_per_frame = static_cast<uint32_t>(state.elements_per_frame);
  s.max_update_bytes = static_cast<uint64_t>(options_.max_update_bytes);
  s.weight_max = state.config.maximum_weight;
  s.min_examples = static_cast<uint64_t>(state.config.minimum_examples);
  s.max_norm = state.config.maximum_norm;
  s.deadline = state.deadline.value_or(state.clock + state.config.deadline);
  CONSILIUM_ASSIGN_OR_RETURN(context->signature,
                             SignStatement(*deps_.signing_key, s));
  context->sealing_key = std::move(key);
  context->limits.max_examples =
      static_cast<uint64_t>(state.config.maximum_weight);
  context->limits.max_tokens =
      static_cast<uint64_t>(state.weighting.maximum_tokens);
  context->limits.max_norm = state.config.maximum_norm;
  context->limits.metadata = options_.metadata;
  context->weights.max_examples = state.config.maximum_weight;
  context->weights.max_tokens = state.weighting.maximum_tokens;
  context->weights.router = state.weighting.router_by_examples
                                ? RouterPolicy::kExamples
                                : RouterPolicy::kFrozen;
  return std::shared_ptr<const RoundContext>(std::move(context));
}

absl::StatusOr<std::optional<X25519PrivateKey>> Engine::LoadRoundKey(
    int64_t round, int64_t attempt) {
  CONSILIUM_ASSIGN_OR_RETURN(const RoundKeyRecord record,
                             deps_.store->round_keys().Load(round, attempt));
  const std::string purpose =
      RoundKeyPurpose(options_.federation, static_cast<uint64_t>(round),
                      static_cast<uint32_t>(attempt));
  CONSILIUM_ASSIGN_OR_RETURN(
      SecretBytes secret,
      deps_.storage_key->UnwrapSecret(AsBytes(purpose),
                                      AsBytes(record.wrapped_private_key)));
  CONSILIUM_ASSIGN_OR_RETURN(X25519PrivateKey key,
                             X25519PrivateKey::FromSecret(std::move(secret)));
  return std::optional<X25519PrivateKey>(std::move(key));
}

absl::StatusOr<RoundPlanView> Engine::PlanNextRound(
    const Settings& overrides, const std::vector<std::string>& cohort) {
  MutexLock lock(&mu_);
  return PlanLocked(overrides, cohort);
}

absl::StatusOr<RoundPlanView> Engine::PlanLocked(
    const Settings& overrides, const std::vector<std::string>& cohort) {
  RoundPlanView plan;
  std::vector<InstitutionRow> institutions;
  std::map<int64_t, int64_t> last_invited;
  FederationPolicy policy;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(institutions, ListInstitutions(tx));
        CONSILIUM_ASSIGN_OR_RETURN(const std::optional<RoundRow> latest,
                                   FindLatestRound(tx));
        plan.round = latest.has_value() ? latest->id + 1 : 1;
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        CONSILIUM_ASSIGN_OR_RETURN(
            policy, FederationPolicy::FromJson(row.policy_json,
                                               options_.round_defaults));
        CONSILIUM_ASSIGN_OR_RETURN(last_invited, LastInvitations(tx));
        return absl::OkStatus();
      }));
  CONSILIUM_ASSIGN_OR_RETURN(plan.config,
                             ApplyOverrides(policy.rounds, overrides));
  plan.router = policy.router;
  plan.training = policy.training;
  plan.base = current_;
  if (!current_.has_value()) {
    plan.problems.push_back(
        "there is no version yet; import one with `consilium version import`");
  } else {
    plan.upload_bytes_each = current_->blob_bytes;
    const absl::Status room =
        deps_.store->space()
            .Reserve(current_->blob_bytes, "the round's version",
                     SpaceUse::kVersion)
            .status();
    if (!room.ok()) plan.problems.emplace_back(room.message());
  }
  for (const auto& [id, live] : rounds_) {
    if (!AllowsNextRound(live->state)) {
      plan.problems.push_back(Cat("round ", id, " is ",
                                  RoundPhaseName(live->state.phase),
                                  "; wait for its end, or cancel it"));
    }
  }
  const std::set<std::string> wanted(cohort.begin(), cohort.end());
  std::set<std::string> found;
  std::vector<CohortCandidate> candidates;
  for (const InstitutionRow& row : institutions) {
    if (!wanted.empty() && !wanted.contains(row.name)) continue;
    if (row.role == PeerRoleName(PeerRole::kOperator)) continue;
    found.insert(row.name);
    if (row.state != InstitutionState::kActive) {
      plan.left_out.push_back(Cat(row.name, ": ", ToString(row.state)));
      continue;
    }
    if (row.role == PeerRoleName(PeerRole::kAuditor)) {
      plan.left_out.push_back(Cat(row.name, ": an auditor, who only reads"));
      continue;
    }
    const auto last = last_invited.find(row.id);
    candidates.push_back(
        {row.name, last == last_invited.end() ? 0 : last->second});
  }
  for (const std::string& name : wanted) {
    if (!found.contains(name)) {
      plan.problems.push_back(Cat("there is no institution ", Quoted(name)));
    }
  }
  RoundConfig selection = plan.config;
  if (!wanted.empty()) selection.target = 0;  // named ones are all invited
  plan.cohort = SelectCohort(std::move(candidates), selection);
  for (const std::string& name : found) {
    const bool in = std::find(plan.cohort.begin(), plan.cohort.end(), name) !=
                    plan.cohort.end();
    const bool said = std::any_of(
        plan.left_out.begin(), plan.left_out.end(), [&](const std::string& s) {
          return s.size() > name.size() &&
                 s.compare(0, name.size(), name) == 0 && s[name.size()] == ':';
        });
    if (!in && !said) {
      plan.left_out.push_back(Cat(name, ": its turn comes in a later round"));
    }
  }
  if (static_cast<int64_t>(plan.cohort.size()) < plan.config.quorum) {
    plan.problems.push_back(
        Cat("the quorum is ", plan.config.quorum, ", only ", plan.cohort.size(),
            " institutions can take part; invite more or "
            "lower it with `consilium federation set quorum=N`"));
  }
  constexpr int64_t kMost = RoundLimits().max_members;
  static_assert(kMost <= kMaxContributions);
  if (plan.config.target == 0 &&
      static_cast<int64_t>(plan.cohort.size()) > kMost) {
    plan.problems.push_back(Cat(
        "the cohort has ", plan.cohort.size(),
        " institutions, a round takes the contributions of ", kMost,
        " at most; set a target with `consilium federation set target=", kMost,
        "`"));
  }
  const EvaluationConfig& evaluation = plan.config.evaluation;
  if (evaluation.enabled &&
      static_cast<int64_t>(plan.cohort.size()) < evaluation.quorum) {
    plan.problems.push_back(Cat(
        "the evaluation quorum is ", evaluation.quorum, ", only ",
        plan.cohort.size(),
        " institutions can take part; invite more or lower it with `consilium "
        "federation set evaluation.quorum=N`"));
  }
  return plan;
}

absl::StatusOr<int64_t> Engine::StartRound(
    const std::string& actor, const Settings& overrides,
    const std::vector<std::string>& cohort, const std::string& trigger,
    const std::string& reason) {
  MutexLock lock(&mu_);
  return StartLocked(actor, overrides, cohort, trigger, reason);
}

absl::StatusOr<int64_t> Engine::StartLocked(
    const std::string& actor, const Settings& overrides,
    const std::vector<std::string>& cohort, const std::string& trigger,
    const std::string& reason, const ScheduleRow* schedule) {
  CONSILIUM_ASSIGN_OR_RETURN(const RoundPlanView view,
                             PlanLocked(overrides, cohort));
  if (!view.problems.empty()) {
    std::string all;
    for (const std::string& problem : view.problems) {
      CatInto(all, all.empty() ? "" : "; ", problem);
    }
    return absl::FailedPreconditionError(all);
  }
  const absl::Time now = deps_.clock->Now();
  RoundPlan plan;
  plan.id = view.round;
  plan.base_version = view.base->number;
  plan.config = view.config;
  std::map<std::string, int64_t> ids;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListInstitutions(tx));
        for (const InstitutionRow& row : rows) ids[row.name] = row.id;
        for (const std::string& name : view.cohort) {
          plan.members.push_back(name);
        }
        return absl::OkStatus();
      }));
  plan.training = view.training;
  plan.weighting = {
      .router_by_examples = view.router == RouterPolicy::kExamples,
      .maximum_tokens = options_.max_tokens};
  plan.elements_per_frame = FrameSizeFor(
      static_cast<int64_t>(plan.members.size()), options_.frame_memory);
  CONSILIUM_ASSIGN_OR_RETURN(RoundState state, PlanRound(std::move(plan), now));

  std::optional<X25519PrivateKey> key;
  std::string public_key;
  if (options_.sealing) {
    CONSILIUM_ASSIGN_OR_RETURN(X25519PrivateKey made,
                               X25519PrivateKey::Generate(*deps_.random));
    const std::string purpose =
        RoundKeyPurpose(options_.federation, static_cast<uint64_t>(state.id),
                        static_cast<uint32_t>(state.attempt));
    RoundKeyRecord record;
    record.round = state.id;
    record.attempt = state.attempt;
    record.public_key = made.public_key().bytes;
    CONSILIUM_ASSIGN_OR_RETURN(
        record.wrapped_private_key,
        deps_.storage_key->WrapSecret(AsBytes(purpose), made.secret(),
                                      *deps_.random));
    // One that a crash or an error left before its row was written.
    CONSILIUM_RETURN_IF_ERROR(
        deps_.store->round_keys().Destroy(state.id, state.attempt));
    CONSILIUM_RETURN_IF_ERROR(deps_.store->round_keys().Create(record));
    public_key = std::string(AsChars(made.public_key().bytes));
    key.emplace(std::move(made));
  }

  RoundRow row;
  row.id = state.id;
  row.attempt = state.attempt;
  row.state = std::string(RoundPhaseName(state.phase));
  row.base_version = state.base_version;
  row.config_json = RoundConfigToJson(state.config);
  row.state_json = RoundStateToJson(state);
  row.planned_at = state.planned_at;
  row.round_public_key = public_key;
  row.round_key_state =
      key.has_value() ? RoundKeyState::kLive : RoundKeyState::kNone;
  row.trigger = trigger;
  auto live = std::make_unique<LiveRound>();
  CONSILIUM_ASSIGN_OR_RETURN(live->context,
                             MakeContext(state, *view.base, std::move(key)));
  live->base = *view.base;
  live->trigger = trigger;
  live->public_key = public_key;
  PromiseResult(*live);
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, row).status());
        for (const RoundMember& member : state.members) {
          CohortMemberRow m;
          m.round = state.id;
          m.attempt = state.attempt;
          m.institution_id = ids.at(member.institution);
          m.state = std::string(MemberStateName(member.state));
          m.updated_at = member.updated_at;
          CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, m));
        }
        RoundEventRow event;
        event.round = state.id;
        event.attempt = state.attempt;
        event.at = now;
        event.kind = "planned";
        event.detail = Cat("by ", actor, reason.empty() ? "" : ": ", reason);
        CONSILIUM_RETURN_IF_ERROR(AppendRoundEvent(tx, event).status());
        // A crash does not start it a second time for the same fire.
        if (schedule != nullptr) {
          CONSILIUM_RETURN_IF_ERROR(consilium::SetSchedule(tx, *schedule));
        }
        return AppendAudit(tx, NewAudit(now, actor, "round.start",
                                        Cat("round ", state.id), reason))
            .status();
      }));
  if (schedule != nullptr) schedule_ = *schedule;
  const int64_t id = state.id;
  live->state = std::move(state);
  LiveRound& placed = *(rounds_[id] = std::move(live));
  newest_round_ = id;
  const absl::Status opened = Step(placed, consilium::Start{}).status();
  if (!opened.ok()) {
    Owe(placed, consilium::Start{}, opened);
    return Annotate(opened, Cat("round ", id,
                                " is planned and opens once it can be stored"));
  }
  return id;
}

absl::Status Engine::Recover() {
  const absl::Time now = deps_.clock->Now();
  if (!deps_.store->read_only()) {
    CONSILIUM_ASSIGN_OR_RETURN(const RecoveryReport report,
                               deps_.store->Recover(now));
    for (const ContributionRow& row : report.lost) {
      Log("error", row.round, "",
          Cat("contribution ", row.id,
              " was acknowledged, its spool is gone: "
              "the disk lost data"));
    }
  }
  // Expired serials too: a clock that is ahead now may be set back later.
  CONSILIUM_RETURN_IF_ERROR(
      peers_.Load(deps_.store->history(), absl::InfinitePast()));
  CONSILIUM_RETURN_IF_ERROR(ShowStored());
  std::vector<RoundRow> open;
  std::map<int64_t, VersionRow> versions;
  ScheduleRow schedule;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(LoadCurrent(tx));
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        // No round could begin on a policy that cannot be read.
        CONSILIUM_RETURN_IF_ERROR(
            FederationPolicy::FromJson(row.policy_json, options_.round_defaults)
                .status());
        CONSILIUM_ASSIGN_OR_RETURN(open, ListOpenRounds(tx));
        for (const RoundRow& row : open) {
          CONSILIUM_ASSIGN_OR_RETURN(versions[row.base_version],
                                     GetVersion(tx, row.base_version));
          if (row.candidate_version.has_value()) {
            CONSILIUM_ASSIGN_OR_RETURN(versions[*row.candidate_version],
                                       GetVersion(tx, *row.candidate_version));
          }
        }
        CONSILIUM_ASSIGN_OR_RETURN(schedule, GetSchedule(tx));
        return absl::OkStatus();
      }));
  MutexLock lock(&mu_);
  schedule_ = std::move(schedule);
  started_ = true;
  for (const RoundRow& row : open) {
    auto live = std::make_unique<LiveRound>();
    CONSILIUM_ASSIGN_OR_RETURN(live->state, RoundStateFromJson(row.state_json));
    live->base = versions.at(row.base_version);
    if (row.candidate_version.has_value()) {
      live->candidate = versions.at(*row.candidate_version);
    }
    live->trigger = row.trigger;
    live->public_key = row.round_public_key;
    std::optional<X25519PrivateKey> key;
    std::string no_key;
    if (row.round_key_state != RoundKeyState::kNone) {
      auto loaded = LoadRoundKey(row.id, row.attempt);
      if (loaded.ok()) {
        key = *std::move(loaded);
      } else if (IsLocalError(loaded.status()) &&
                 !absl::IsNotFound(loaded.status())) {
        // Perhaps it can be read at the next start.
        return Annotate(loaded.status(), Cat("round ", row.id));
      } else {
        no_key = std::string(loaded.status().message());
      }
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        live->context, MakeContext(live->state, live->base, std::move(key)));
    const int64_t id = row.id;
    LiveRound& placed = *(rounds_[id] = std::move(live));
    if (placed.state.phase < RoundPhase::kEvaluating) PromiseResult(placed);
    absl::Status stepped;
    if (!no_key.empty() && placed.state.phase < RoundPhase::kEvaluating) {
      stepped = Step(placed, consilium::Cancel{Cat(
                                 "the round's key cannot be read: ", no_key)})
                    .status();
    } else if (placed.state.phase == RoundPhase::kPlanned) {
      stepped = Step(placed, consilium::Start{}).status();
    } else {
      stepped = Step(placed, Restarted{}).status();
    }
    CONSILIUM_RETURN_IF_ERROR(stepped);
    if (!placed.wake.has_value()) placed.wake = NextWake(placed.state);
    Log("info", id, "",
        Cat("resumed in phase ", RoundPhaseName(placed.state.phase)));
  }
  // A crash may have come between a rollback and the rounds that it ends.
  ServeStoredVersion("another version was chosen before the restart");
  return absl::OkStatus();
}

std::shared_ptr<const FederationLayout> Engine::layout() const {
  return layout_.load();
}

std::optional<VersionRow> Engine::current_version() const {
  MutexLock lock(&mu_);
  return current_;
}

}  // namespace consilium

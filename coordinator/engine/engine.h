// The engine: drives rounds, owns what runs, keeps memory and store together.

#ifndef CONSILIUM_COORDINATOR_ENGINE_ENGINE_H_
#define CONSILIUM_COORDINATOR_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "consilium/base/random.h"
#include "consilium/base/threads.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/storage_key.h"
#include "coordinator/engine/fold_job.h"
#include "coordinator/engine/live.h"
#include "coordinator/engine/peer_registry.h"
#include "coordinator/engine/refusal.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/engine/upload_hub.h"
#include "coordinator/engine/work_board.h"
#include "coordinator/metrics/listener.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/round/round_report.h"
#include "coordinator/store/store.h"

namespace consilium {

// What is Live may change while the engine runs, see Engine::SetLimits.
struct EngineOptions {
  std::string federation;
  bool sealing = true;
  RoundConfig round_defaults;  // where the federation's policy says nothing
  Live<int64_t> max_update_bytes = int64_t{4} << 30;
  Live<int64_t> max_spool_bytes = 0;  // of all spools together; 0: the disk
  Live<int64_t> max_uploads = 256;
  Live<absl::Duration> upload_idle_timeout = absl::Minutes(2);
  Live<absl::Duration> upload_slot_timeout = absl::Minutes(10);
  Live<int64_t> max_resumes = 2;
  Live<int64_t> max_superseded_uploads = 16;
  // For a frame of each institution of a round; see FrameSizeFor().
  Live<int64_t> frame_memory = int64_t{2} << 20;
  double max_tokens = 1e9;
  MetadataLimits metadata;
  LayoutLimits layout;
  int fold_threads = 2;
  Live<absl::Duration> long_poll = absl::Seconds(25);
  Live<absl::Duration> progress_period = absl::Seconds(2);
  // Since its last call, an institution without a stream counts as connected.
  Live<absl::Duration> connected_for = absl::Seconds(60);
  Live<absl::Duration> token_lifetime = absl::Hours(72);
  absl::Duration institution_lifetime = kPeerLifetime;
  absl::Duration operator_lifetime = absl::Hours(24 * 365);
  // Before its end, but never more than a third of its life.
  absl::Duration renew_before = absl::Hours(24 * 30);
  // After a failed round, before a continuous schedule tries again.
  Live<absl::Duration> failure_pause = absl::Seconds(30);
  RetentionPolicy retention;
  absl::Duration retention_interval = absl::Hours(1);
};

// Not owned; all outlive the engine.
struct EngineDeps {
  Store* store = nullptr;
  // Waits and deadlines: a clock that nobody sets, see AnchoredClock.
  Clock* clock = nullptr;
  // The machine's, for what others compare with theirs: certificates, and the
  // time of day of a cron schedule. Null: `clock`.
  Clock* wall = nullptr;
  RandomSource* random = nullptr;
  // Reads uploads again that are resumed; runs nothing once the engine is gone.
  Executor* ingest = nullptr;
  CoordinatorListener* listener = nullptr;
  const SigningKey* signing_key = nullptr;
  const StorageKey* storage_key = nullptr;
  const LiveIssuingCa* ca = nullptr;
  // Called by Poll once a minute, without a lock.
  std::function<void()> each_minute;
  // One line for the log; round 0 and an empty institution mean "none".
  std::function<void(std::string_view level, int64_t round,
                     std::string_view institution, std::string_view text)>
      log;
};

using Settings = std::map<std::string, std::string>;

// --- what institutions get --------------------------------------------------

struct TrainWork {
  std::shared_ptr<const RoundContext> context;
  Settings parameters;
};
struct EvaluateWork {
  int64_t round = 0;
  int64_t attempt = 1;
  SignedVersionRef candidate;
  Signature signature;
  absl::Time deadline;
};
struct IdleWork {
  std::string reason;
  std::optional<absl::Time> next_round_at;
  std::optional<SignedVersionRef> current;
};
struct Work {
  uint64_t revision = 0;  // equal revisions: the same work
  std::variant<IdleWork, TrainWork, EvaluateWork> what;
};

struct ProgressAnswer {
  bool go_on = true;
  std::string reason;
  absl::Time deadline;
};

struct EnrollResult {
  PeerName peer;
  std::string chain_pem;
  absl::Time not_after;
};

// --- what operators get -----------------------------------------------------

// A live round as memory has it.
struct LiveRoundView {
  RoundState state;
  WaitReport wait;
  // What the store refused last (a full disk, say) and is tried again; empty
  // when all is well. Part of wait.sentence too.
  std::string trouble;
  std::map<std::string, UploadHub::Progress> uploads;
};

struct RoundPlanView {
  int64_t round = 0;
  std::optional<VersionRow> base;
  RoundConfig config;
  RouterPolicy router = RouterPolicy::kFrozen;
  Settings training;
  std::vector<std::string> cohort;
  std::vector<std::string> left_out;  // "bank-d: suspended"
  std::vector<std::string> problems;
  int64_t upload_bytes_each = 0;
};

struct ReplayView {
  Sha256Digest recorded;
  Sha256Digest replayed;
  std::optional<VersionRow> candidate;
  std::vector<std::string> contributions;
  absl::Duration took;
};

// Thread-safe. Every method that changes something returns after the change is
// durable, so none of them is for a thread of the RPC library. One lock, mu_,
// guards the live rounds and is held across the (short) database commit of a
// transition: memory never shows what the store has not. Folds run on their
// own thread without it.
//
// Recovery, at Start(): 1. store agrees with its files (Store::Recover);
// 2. institutions and deny list into memory; 3. layout and current version;
// 4. every unfinished round gets its key and the event Restarted, which asks
// again for fold, evaluation and wake-up; 5. the schedule.
class Engine final : public UploadHost {
 public:
  Engine(EngineOptions options, EngineDeps deps);
  ~Engine() override;

  absl::Status Start();
  // Ends long polls and streams, waits for the running fold's next block.
  // Rounds stay open in the store. Idempotent.
  void Stop();

  // Does what is due and returns when to call again (monotonic). Start()'s
  // thread calls it; tests with a fake clock call it themselves.
  absl::Duration Poll();
  // Start() without the thread.
  absl::Status StartForTest();

  PeerRegistry& peers() { return peers_; }
  UploadHub& uploads() { return hub_; }
  WorkBoard& board() { return board_; }
  Store& store() { return *deps_.store; }
  const EngineOptions& options() const { return options_; }
  // Takes what is Live of `fresh`, from the next use on; the rest stays.
  void SetLimits(const EngineOptions& fresh);
  // For how long the engine's thread has been late for what it has to do;
  // zero: it is not.
  absl::Duration Overdue();
  const SigningKey& signing_key() const { return *deps_.signing_key; }
  absl::Time Now() { return deps_.clock->Now(); }
  absl::Time WallNow() {
    return (deps_.wall != nullptr ? deps_.wall : deps_.clock)->Now();
  }
  absl::Duration Monotonic() { return deps_.clock->Monotonic(); }
  absl::Time started_at() const { return started_at_; }
  CoordinatorListener& listener() { return *deps_.listener; }
  // Null before a first version was imported.
  std::shared_ptr<const FederationLayout> layout() const;
  std::optional<VersionRow> current_version() const;

  // --- institutions -------------------------------------------------------
  void Touch(PeerState& peer);
  // A greeting: what it runs goes to the log and is kept for operators.
  // Errors: FAILED_PRECONDITION it names codecs, and rounds accept none of
  // them.
  absl::Status Greeted(PeerState& peer, std::string_view software,
                       std::span<const uint32_t> codecs);
  bool Connected(const PeerState& peer);
  // nullopt: not since this process started.
  std::optional<absl::Time> LastSeen(const PeerState& peer);
  Work WorkFor(const PeerState& peer);
  absl::StatusOr<ProgressAnswer> ReportProgress(const Caller& caller,
                                                int64_t round,
                                                std::optional<double> fraction,
                                                std::string text);
  // nullopt: noted.
  absl::StatusOr<std::optional<Refused>> Decline(const Caller& caller,
                                                 int64_t round,
                                                 std::string reason,
                                                 bool evaluation);
  absl::StatusOr<std::optional<Refused>> ReportEvaluation(
      const Caller& caller, int64_t round, const Sha256Digest& candidate,
      int64_t examples, std::map<std::string, double> metrics);
  // The key that used a token gets the same certificate again, until the token
  // expires. Errors: UNAUTHENTICATED for a token that is wrong, used by another
  // key or expired.
  absl::StatusOr<EnrollResult> Enroll(std::string_view token,
                                      std::string_view csr_pem);
  // Of any role; the lifetime is that of the role.
  absl::StatusOr<EnrollResult> Renew(const PeerName& peer,
                                     std::string_view csr_pem);

  // One line for the log; round 0 and an empty institution mean "none".
  void Log(std::string_view level, int64_t round, std::string_view institution,
           std::string_view text);

  // --- operators; `actor` is the caller's URI, for the audit log ------------
  struct Invitation {
    SecretBytes token;
    absl::Time expires_at;
  };
  absl::StatusOr<Invitation> Invite(const std::string& actor,
                                    const std::string& name, PeerRole role,
                                    absl::Duration lifetime,
                                    const Settings& labels);
  absl::Status SetInstitution(const std::string& actor, const std::string& name,
                              InstitutionState state,
                              const std::string& reason);
  // An operator or an auditor, for good: its streams end with their next
  // message. Errors: NOT_FOUND; FAILED_PRECONDITION for the last operator.
  absl::Status RevokeStaff(const std::string& actor, const std::string& name,
                           const std::string& reason);
  absl::Status SetPolicy(const std::string& actor, const Settings& changes,
                         const std::string& reason);
  absl::StatusOr<Settings> Policy();
  absl::StatusOr<RoundPlanView> PlanNextRound(
      const Settings& overrides, const std::vector<std::string>& cohort);
  absl::StatusOr<int64_t> StartRound(const std::string& actor,
                                     const Settings& overrides,
                                     const std::vector<std::string>& cohort,
                                     const std::string& trigger,
                                     const std::string& reason);
  absl::Status ExtendRound(const std::string& actor, int64_t round,
                           absl::Duration by, const std::string& reason);
  absl::Status CloseRound(const std::string& actor, int64_t round,
                          const std::string& reason);
  absl::Status CancelRound(const std::string& actor, int64_t round,
                           const std::string& reason);
  absl::StatusOr<ReplayView> ReplayRound(
      const std::string& actor, int64_t round,
      const std::vector<std::string>& exclude, const std::string& reason);
  absl::Status QuarantineContribution(const std::string& actor,
                                      const std::string& id,
                                      const std::string& reason);
  absl::Status ReleaseContribution(const std::string& actor,
                                   const std::string& id,
                                   const std::string& reason);
  // Findings; none means that all is well.
  absl::StatusOr<std::vector<std::string>> VerifyContribution(
      const std::string& id, int64_t* chunks);
  absl::Status PromoteVersion(const std::string& actor, int64_t number,
                              const std::string& reason);
  absl::Status RollbackVersion(const std::string& actor, int64_t number,
                               const std::string& reason);
  // The blob is in the store (or nothing changes). The layout must be the
  // federation's, or the first one.
  absl::StatusOr<VersionRow> ImportVersion(
      const std::string& actor, const std::string& layout_text, BlobWriter blob,
      const Sha256Digest& digest, int64_t bytes, const std::string& reason);
  absl::Status SetSchedule(const std::string& actor, const ScheduleRow& row,
                           const std::string& reason);
  absl::Status PauseSchedule(const std::string& actor, bool paused,
                             const std::string& reason);
  absl::Status Audit(const std::string& actor, const std::string& action,
                     const std::string& object, const std::string& detail);

  // Live state of an unfinished round; nullopt when it has ended (see store).
  std::optional<LiveRoundView> LiveRoundOf(int64_t round);
  std::vector<int64_t> LiveRounds();

  // Called after every change of any round, with its number (0: not of one in
  // particular), as uploads go on, and once when the engine stops; must not
  // block.
  uint64_t Subscribe(std::function<void(int64_t round)> callback);
  void Unsubscribe(uint64_t id);
  bool stopping() const { return stopping_seen_.load(); }
  // Cancelled by Stop(): for what operators wait for long.
  CancelToken stop_token() const { return stop_.token(); }

  // --- UploadHost -----------------------------------------------------------
  std::variant<std::shared_ptr<const RoundContext>, Refused> AdmitUpload(
      const Caller& caller, int64_t round, int64_t attempt) override;
  std::variant<absl::Status, Refused> UploadBegan(
      const Caller& caller, const ContributionRow& row,
      const std::string& superseded) override;
  void UploadResumed(const Caller& caller, int64_t round) override;
  void UploadLost(const Caller& caller, int64_t round,
                  const std::string& reason) override;
  absl::StatusOr<CommitOutcome> CommitContribution(
      const Caller& caller, const ContributionRow& row,
      const UploadResult& result) override;
  absl::Status QuarantineUpload(const Caller& caller, int64_t round,
                                const std::string& id,
                                const std::string& reason) override;

 private:
  struct LiveRound {
    RoundState state;
    std::shared_ptr<const RoundContext> context;
    VersionRow base;
    std::optional<VersionRow> candidate;
    std::string trigger;
    std::string public_key;  // raw; empty when not sealed
    std::optional<absl::Time> wake;
    std::shared_ptr<CancelSource> fold_cancel;
    // A member was put out because its spool could not be read.
    bool blamed_unread = false;
    // For the version it will make, until a fold takes it.
    std::shared_ptr<SpaceReservation> result_space;
    // An event that could not be stored and that nobody will send again.
    struct Owed {
      RoundEvent event;
      absl::Time again_at;
    };
    std::optional<Owed> owed;
    std::string trouble;
  };
  using EventFn = absl::FunctionRef<absl::StatusOr<RoundEvent>(WriteTx&)>;
  using AlsoFn = absl::FunctionRef<absl::Status(WriteTx&, const Transition&)>;

  // engine_step.cc: one transition, stored and carried out.
  absl::StatusOr<Transition> Step(LiveRound& live, EventFn make, AlsoFn also)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Transition> Step(LiveRound& live, const RoundEvent& event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Transition> StepAs(LiveRound& live, const RoundEvent& event,
                                    const std::string& actor,
                                    const std::string& action,
                                    const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For steps of several rounds in one transaction: what Step() stores, and,
  // once that is committed, what it does.
  struct Stepped {
    LiveRound* live;
    Transition transition;
  };
  absl::StatusOr<Transition> StoreStep(WriteTx& tx, const RoundState& before,
                                       const RoundEvent& event, absl::Time now,
                                       AlsoFn also);
  void CarryOut(std::span<const Stepped> steps)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Returns why the version served fell, if it did.
  std::string TakeState(LiveRound& live, const Transition& transition)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartFold(LiveRound& live, const BeginFold& fold)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PromiseResult(LiveRound& live) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RunFold(int64_t round, int64_t run, FoldJobInput input);
  void FoldDone(int64_t round, int64_t run, const FoldJobInput& input,
                const absl::StatusOr<FoldJobResult>& result,
                const FoldJobFailure& failure);
  void AfterChange(int64_t round) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // engine_rounds.cc
  absl::StatusOr<RoundPlanView> PlanLocked(
      const Settings& overrides, const std::vector<std::string>& cohort)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `schedule`: what began it, as it goes on; stored with the round.
  absl::StatusOr<int64_t> StartLocked(const std::string& actor,
                                      const Settings& overrides,
                                      const std::vector<std::string>& cohort,
                                      const std::string& trigger,
                                      const std::string& reason,
                                      const ScheduleRow* schedule = nullptr)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<const RoundContext>> MakeContext(
      const RoundState& state, const VersionRow& base,
      std::optional<X25519PrivateKey> key);
  // The round's context with the deadline that it has now.
  std::shared_ptr<const RoundContext> ContextOf(LiveRound& live)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::optional<X25519PrivateKey>> LoadRoundKey(int64_t round,
                                                               int64_t attempt);
  LiveRound* FindLive(int64_t round) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<LiveRound*> GetLive(int64_t round)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Recover() ABSL_LOCKS_EXCLUDED(mu_);

  // engine_schedule.cc
  void RunDue(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The store did not take `event`: Poll sends it again, until it does.
  void Owe(LiveRound& live, RoundEvent event, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // By the clock that a schedule of this kind goes by.
  absl::Time NowFor(const ScheduleRow& schedule);
  absl::Time ScheduleNow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RunSchedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StoreNextFire(std::optional<absl::Time> next_at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status LoadCurrent(ReadTx& tx);
  // engine_lineage.cc: makes `change`, serves the version and ends the rounds
  // that this leaves without a line, all or nothing.
  absl::Status Serve(int64_t number, const std::string& why,
                     absl::FunctionRef<absl::Status(WriteTx&)> change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes the version that the store serves, and ends the rounds that it leaves
  // without a line, now or as soon as the store can.
  void ServeStoredVersion(const std::string& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SignVersion(const VersionRow& row, std::string* signature);
  // engine_versions.cc: the files of an import are in the store.
  absl::StatusOr<VersionRow> AddImported(
      const std::string& actor,
      const std::shared_ptr<const FederationLayout>& layout,
      const Sha256Digest& digest, int64_t bytes, const std::string& reason)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckImport(const FederationLayout& layout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What it is, and, with `describe`, all that the institution is told.
  Work WorkLocked(const PeerState& peer, bool describe)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WakeBoard() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Why a round that is not live takes nothing from an institution.
  Refused NotLive(int64_t round);

  absl::Duration LifetimeOf(PeerRole role) const;

  // engine_watch.cc
  void TellWatchers(int64_t round);
  bool UploadsMoved(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status ShowStored();
  void Loop();
  void UpdateGauges();
  // When everybody was last seen, for those who read a stopped store.
  void StoreSeen();
  UploadHub::Options HubOptions() const;
  void Kick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  EngineOptions options_;  // only what is Live changes
  const EngineDeps deps_;
  const absl::Time started_at_;
  PeerRegistry peers_;
  WorkBoard board_;
  UploadHub hub_;

  std::atomic<std::shared_ptr<const FederationLayout>> layout_;

  mutable Mutex mu_;
  std::map<int64_t, std::unique_ptr<LiveRound>> rounds_ ABSL_GUARDED_BY(mu_);
  std::optional<VersionRow> current_ ABSL_GUARDED_BY(mu_);
  // The store could not say which version it serves: Poll asks again.
  struct Unserved {
    std::string why;
    absl::Time again_at;
  };
  std::optional<Unserved> unserved_ ABSL_GUARDED_BY(mu_);
  ScheduleRow schedule_ ABSL_GUARDED_BY(mu_);
  bool round_failed_ ABSL_GUARDED_BY(mu_) = false;  // the last one to end
  int64_t newest_round_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration next_retention_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  absl::Duration next_gauges_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  absl::Duration next_seen_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  absl::Duration next_progress_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  int64_t seen_upload_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // When the thread is to turn next, or began to; see Overdue().
  Live<absl::Duration> next_turn_ = absl::InfiniteDuration();
  std::atomic<bool> stopping_seen_{false};  // stopping_, for those without mu_
  CancelSource stop_;
  CondVar kick_;
  bool kicked_ ABSL_GUARDED_BY(mu_) = false;

  Mutex watch_mu_;
  uint64_t next_watch_ ABSL_GUARDED_BY(watch_mu_) = 1;
  std::map<uint64_t, std::function<void(int64_t)>> watchers_
      ABSL_GUARDED_BY(watch_mu_);

  std::thread thread_;
  // Last: its destructor runs what is queued while the rest is alive.
  // Null once stopped.
  std::unique_ptr<ThreadPool> fold_pool_ ABSL_GUARDED_BY(mu_);
};

// An entry for AppendAudit(), which chains it.
AuditEntry NewAudit(absl::Time at, std::string actor, std::string action,
                    std::string object, std::string detail);

// Settings by dotted key over JSON, shared by policy and round overrides.
// Errors: INVALID_ARGUMENT naming the key, the value and what is allowed.
absl::StatusOr<RoundConfig> ApplyOverrides(const RoundConfig& base,
                                           const Settings& overrides);
Settings SettingsOf(const RoundConfig& config, const Settings& training = {});

// The federation's policy as its row keeps it.
struct FederationPolicy {
  RoundConfig rounds;                // the defaults with what was set
  std::string round_changes = "{}";  // only what was set: JSON, as it is stored
  RouterPolicy router = RouterPolicy::kFrozen;
  Settings training;  // told to institutions with every task

  std::string ToJson() const;
  static absl::StatusOr<FederationPolicy> FromJson(std::string_view json,
                                                   const RoundConfig& defaults);
  // Keys: those of RoundConfig, "router", "training.<name>".
  Settings ToSettings() const;
  // All of them or, on an error, none.
  absl::Status Set(const Settings& changes);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_ENGINE_H_

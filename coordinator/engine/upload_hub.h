// All uploads of the coordinator: admission, streams, commit.

#ifndef CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_
#define CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "consilium/base/threads.h"
#include "consilium/secure/signing.h"
#include "coordinator/engine/live.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/peer_registry.h"
#include "coordinator/engine/refusal.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/engine/upload_resumption.h"
#include "coordinator/engine/upload_session.h"
#include "coordinator/metrics/listener.h"
#include "coordinator/store/store.h"

namespace consilium {

struct SignedReceipt {
  ReceiptStatement statement;
  Signature signature;

  // The form in which a contribution row keeps it.
  std::string Encode() const;
  static absl::StatusOr<SignedReceipt> Decode(std::string_view bytes);
};

struct UploadAccepted {
  std::string upload_id;  // raw
  uint64_t next_chunk = 0;
};
using BeginOutcome = std::variant<UploadAccepted, SignedReceipt, Refused>;
using CommitOutcome = std::variant<SignedReceipt, Refused>;

// Who waits for the answer to a BeginUpload.
class BeginWaiter {
 public:
  virtual ~BeginWaiter() = default;
  // Once, on any thread, without the hub's locks.
  virtual void OnBegun(absl::StatusOr<BeginOutcome> outcome) = 0;
  // The caller went away; AbandonBegin follows or has been.
  virtual bool gone() const = 0;
};

// What the hub asks of whoever runs the rounds. Called without the hub's locks.
class UploadHost {
 public:
  virtual ~UploadHost() = default;

  // May this institution begin (or resume) an upload in this round now?
  virtual std::variant<std::shared_ptr<const RoundContext>, Refused>
  AdmitUpload(const Caller& caller, int64_t round, int64_t attempt) = 0;

  // Stores the new row and tells the round, in one transaction. `superseded`:
  // an upload that this one replaces, or empty.
  virtual std::variant<absl::Status, Refused> UploadBegan(
      const Caller& caller, const ContributionRow& row,
      const std::string& superseded) = 0;
  virtual void UploadResumed(const Caller& caller, int64_t round) = 0;
  virtual void UploadLost(const Caller& caller, int64_t round,
                          const std::string& reason) = 0;

  // Stores the contribution with its receipt and counts it, in one
  // transaction.
  virtual absl::StatusOr<CommitOutcome> CommitContribution(
      const Caller& caller, const ContributionRow& row,
      const UploadResult& result) = 0;
  virtual absl::Status QuarantineUpload(const Caller& caller, int64_t round,
                                        const std::string& id,
                                        const std::string& reason) = 0;
};

// Lock order: an institution's admission lock, then mu_, then a session's.
// Thread-safe. BeginUpload and CommitUpload touch the disk: not for a thread
// of the RPC library.
class UploadHub {
 public:
  struct Options {
    Live<int64_t> max_uploads = 256;    // at a time; limits.max_uploads
    Live<int64_t> max_spool_bytes = 0;  // storage.max_spool_bytes; 0: the disk
    // Without a chunk, of a stream; limits.upload_idle_timeout.
    Live<absl::Duration> idle_timeout = absl::Minutes(2);
    // Without a stream, of an upload; limits.upload_slot_timeout.
    Live<absl::Duration> slot_timeout = absl::Minutes(10);
    Live<int64_t> max_resumes = 2;      // limits.max_resumes
    Live<int64_t> max_superseded = 16;  // limits.max_superseded_uploads
  };
  // `ingest` reads again what is resumed. It outlives the hub's last task.
  UploadHub(Store* store, UploadHost* host, CoordinatorListener* listener,
            Clock* clock, Executor* ingest, Options options)
      : store_(store),
        host_(host),
        listener_(listener),
        clock_(clock),
        ingest_(ingest),
        options_(options) {}

  // For uploads from now on; those under way go on.
  void SetOptions(const Options& options) { options_ = options; }

  // Answers on this thread, except to an upload that must be read again from
  // its spool: that is done by `ingest`, for as long as somebody waits.
  void BeginUpload(const Caller& caller, const UploadManifest& manifest,
                   std::shared_ptr<BeginWaiter> waiter);
  // The waiter is gone(): if it still waits it is answered CANCELLED. What has
  // been read so far is kept for the next BeginUpload.
  void AbandonBegin(const BeginWaiter* waiter);

  // A stream that has not yet said what it carries, or whose peer does not take
  // what it is sent: broken after the idle timeout, but for Attach or Unexpect.
  void Expect(const std::shared_ptr<UploadSink>& sink);
  void Unexpect(const UploadSink* sink);
  // For the first message of a stream. Errors: NOT_FOUND when no BeginUpload
  // of this process has named the upload (call it again, then resume);
  // PERMISSION_DENIED when the upload is somebody else's.
  absl::StatusOr<std::shared_ptr<UploadSession>> Attach(
      const Caller& caller, std::string_view upload_id,
      std::shared_ptr<UploadSink> sink);
  // One chunk for an attached session; a quarantine reaches the host.
  absl::StatusOr<std::optional<Refused>> Append(const Caller& caller,
                                                UploadSession& session,
                                                uint64_t index,
                                                std::span<const std::byte>);
  void Detach(UploadSession& session, const UploadSink* sink,
              const std::string& reason);

  absl::StatusOr<CommitOutcome> CommitUpload(const Caller& caller,
                                             std::string_view upload_id,
                                             const Sha256Digest& digest);

  // Ends the live uploads of these institutions in this round.
  void CloseUploads(int64_t round, const std::vector<std::string>& institutions,
                    const Refused& refused);
  void CloseAll(const Refused& refused);

  // Of all spool files.
  int64_t SpoolBytes() const;
  // Uploads that this process has opened and not yet closed, and what they
  // have brought so far.
  bool active() const;
  int64_t ReceivedBytes() const;

  // Breaks streams on which nothing came for the idle timeout. Closes uploads
  // that had no stream for the slot timeout: what is durable stays, their slot,
  // memory and reserved space are free again, and BeginUpload resumes them.
  // Returns when to call again (monotonic).
  absl::Duration ExpireIdle(absl::Duration now);

  // Bytes received and expected of an institution's live upload in a round.
  struct Progress {
    int64_t received_bytes = 0;
    int64_t payload_bytes = 0;
    bool attached = false;
  };
  std::map<std::string, Progress> ProgressOf(int64_t round) const;

 private:
  using AdmissionLock = std::shared_ptr<Mutex>;
  // An upload that is read again; it has a slot like an open one.
  struct Resume {
    Caller caller;
    int64_t round = 0;
    std::string id;
    // Used by the piece under way, or by nobody.
    std::unique_ptr<UploadResumption> work;
    // The rest as the hub's mu_ guards it.
    std::vector<std::shared_ptr<BeginWaiter>> waiters;
    bool running = false;
    absl::Duration left_at;  // when the last waiter went
    std::optional<Refused> closed;
    std::string remove;  // a spool that goes once nobody reads it
  };
  using ResumePtr = std::shared_ptr<Resume>;
  // Who is told what, once the lock is off.
  struct Told {
    std::vector<std::shared_ptr<BeginWaiter>> waiters;
    absl::StatusOr<BeginOutcome> outcome = absl::UnknownError("");
    ResumePtr gone;  // closes its spool outside the lock
  };

  // Refused or the answer at once; nullopt: the waiter is told later.
  using BeginAnswer = absl::StatusOr<std::optional<BeginOutcome>>;
  BeginAnswer Begin(const Caller& caller, const UploadManifest& manifest,
                    const std::shared_ptr<BeginWaiter>& waiter);
  BeginAnswer BeginLocked(const Caller& caller, const UploadManifest& manifest,
                          std::shared_ptr<const RoundContext> context,
                          const std::shared_ptr<BeginWaiter>& waiter);
  // One that no session of this process has.
  absl::StatusOr<BeginOutcome> OpenNew(
      const Caller& caller, const UploadManifest& manifest,
      std::shared_ptr<const RoundContext> context,
      const std::optional<ContributionRow>& live);
  BeginAnswer ReadAgain(const Caller& caller, const UploadManifest& manifest,
                        std::shared_ptr<const RoundContext> context,
                        const std::string& path, uint64_t keep,
                        const std::shared_ptr<BeginWaiter>& waiter);
  absl::StatusOr<std::variant<SpaceReservation, Refused>> Promise(
      const UploadManifest& manifest, const std::string& institution,
      int64_t on_disk);
  std::optional<Refused> CheckSpoolSpace(int64_t bytes);
  std::optional<Refused> CheckSlots() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t SlotsTaken() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The upload that was live before another one of its institution.
  void DropSuperseded(const ContributionRow& old, const std::string& by);

  void StartResumes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RunPiece(const ResumePtr& resume);
  // Ends what `match` names, at once or after the piece under way.
  template <typename Match>
  std::vector<Told> CloseResumes(Match match, const Refused& refused)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    std::vector<Told> told;
    for (auto it = resumes_.begin(); it != resumes_.end();) {
      Resume& resume = **it;
      if (!match(resume) || resume.closed.has_value()) {
        ++it;
        continue;
      }
      resume.closed = refused;
      told.push_back(
          {std::exchange(resume.waiters, {}), BeginOutcome(refused), *it});
      it = resume.running ? std::next(it) : resumes_.erase(it);
    }
    return told;
  }
  static void Tell(std::vector<Told> all);

  AdmissionLock LockFor(const std::string& institution);
  std::shared_ptr<UploadSession> FindSession(std::string_view id_hex) const;
  void Forget(std::string_view id_hex);
  void ReportLost(const UploadSession& session, const std::string& reason);
  // Nobody serves it and the slot timeout is over.
  bool Abandoned(const UploadSession& session, absl::Duration now) const;
  void Park(const std::shared_ptr<UploadSession>& session);
  // The streams among them that are silent; returns when the next one is.
  absl::Duration ExpireStreams(absl::Duration now);
  // Ends the upload for good; then its stream is told.
  absl::Status Quarantine(const Caller& caller, UploadSession& session,
                          const Refused& refused);

  Store* const store_;
  UploadHost* const host_;
  CoordinatorListener* const listener_;
  Clock* const clock_;
  Executor* const ingest_;
  Options options_;

  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<UploadSession>, std::less<>> sessions_
      ABSL_GUARDED_BY(mu_);
  int64_t opening_ ABSL_GUARDED_BY(mu_) = 0;           // slots of new uploads
  std::list<ResumePtr> resumes_ ABSL_GUARDED_BY(mu_);  // as they came
  int64_t running_ ABSL_GUARDED_BY(mu_) = 0;           // of resumes_
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  struct Expected {
    std::weak_ptr<UploadSink> sink;
    absl::Duration since;
  };
  std::map<const UploadSink*, Expected> expected_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, AdmissionLock> admission_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_

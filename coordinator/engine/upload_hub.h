// All uploads of the coordinator: admission, streams, commit.

#ifndef CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_
#define CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/signing.h"
#include "coordinator/engine/live.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/peer_registry.h"
#include "coordinator/engine/refusal.h"
#include "coordinator/engine/round_context.h"
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
    Live<absl::Duration> idle_timeout = absl::Minutes(2);
  };
  UploadHub(Store* store, UploadHost* host, CoordinatorListener* listener,
            Clock* clock, Options options)
      : store_(store),
        host_(host),
        listener_(listener),
        clock_(clock),
        options_(options) {}

  // For uploads from now on; those under way go on.
  void SetOptions(const Options& options) { options_ = options; }

  absl::StatusOr<BeginOutcome> BeginUpload(const Caller& caller,
                                           const UploadManifest& manifest);

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
  void Detach(const Caller& caller, UploadSession& session,
              const UploadSink* sink, const std::string& reason);

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

  // Breaks streams on which nothing came for the idle timeout; the upload
  // itself can resume. Returns when to call again (monotonic).
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
  std::optional<Refused> CheckSpoolSpace(const UploadManifest& manifest);
  AdmissionLock LockFor(const std::string& institution);
  std::shared_ptr<UploadSession> FindSession(std::string_view id_hex) const;
  void Forget(std::string_view id_hex);
  // Ends the upload for good; then its stream is told.
  absl::Status Quarantine(const Caller& caller, UploadSession& session,
                          const Refused& refused);
  absl::StatusOr<BeginOutcome> BeginLocked(
      const Caller& caller, const UploadManifest& manifest,
      std::shared_ptr<const RoundContext> context);
  // Of an upload that another connection or process began.
  absl::StatusOr<std::shared_ptr<UploadSession>> ResumeSession(
      const Caller& caller, const UploadManifest& manifest,
      std::shared_ptr<const RoundContext> context, SpaceReservation space,
      const std::string& spool_path, uint64_t keep);

  Store* const store_;
  UploadHost* const host_;
  CoordinatorListener* const listener_;
  Clock* const clock_;
  Options options_;

  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<UploadSession>, std::less<>> sessions_
      ABSL_GUARDED_BY(mu_);
  std::map<std::string, AdmissionLock> admission_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_UPLOAD_HUB_H_

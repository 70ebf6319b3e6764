#ifndef CONSILIUM_CLIENT_SDK_SESSION_SESSION_H_
#define CONSILIUM_CLIENT_SDK_SESSION_SESSION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client_sdk/session/deps.h"
#include "client_sdk/session/identity.h"
#include "client_sdk/session/outbox.h"
#include "client_sdk/session/payload_encoder.h"
#include "client_sdk/session/receipt_store.h"
#include "client_sdk/session/retrier.h"
#include "client_sdk/session/statements.h"
#include "client_sdk/session/transport.h"
#include "client_sdk/session/uploader.h"
#include "client_sdk/session/version_cache.h"
#include "consilium/client/client.h"
#include "consilium/client/options.h"

namespace consilium::client::internal {

// Errors: INVALID_ARGUMENT naming the option and its limits.
absl::Status ValidateOptions(const ClientOptions& options);

// options.state_dir, or its default.
std::string StateDirectory(const ClientOptions& options);
std::string OutboxDirectory(const ClientOptions& options);
std::string ReceiptDirectory(const ClientOptions& options);

// Makes the state directory and locks it. Errors: FAILED_PRECONDITION naming
// the process that holds it.
absl::StatusOr<std::unique_ptr<FileLock>> LockState(
    FileSystem* fs, const ClientOptions& options);

// Everything behind Client, over any Transport. Functions as in client.h.
//
// Threads: calls run on the threads of their callers. `upload_turn_` and
// `download_turn_` order transfers; `mutex_` guards what is left and is never
// held during a call of the transport.
class Session {
 public:
  struct Parts {
    ClientOptions options;           // valid
    std::unique_ptr<FileLock> lock;  // of LockState()
    InstitutionIdentity identity;
    std::unique_ptr<Transport> transport;
    SessionDeps deps;
    // Owned here when the caller does not keep deps.later alive itself.
    std::unique_ptr<DelayedRunner> runner;
  };
  static absl::StatusOr<std::unique_ptr<Session>> Create(
      Parts parts, const CancelToken& cancel);

  SessionInfo info() const;
  std::shared_ptr<const Layout> layout() const;

  absl::StatusOr<Work> WaitForWork(absl::Duration max_wait,
                                   const CancelToken& cancel);
  absl::StatusOr<std::shared_ptr<const OpenedVersion>> OpenVersion(
      const Version& version, const ProgressCallback& progress,
      const CancelToken& cancel);
  absl::StatusOr<SubmitOutcome> Submit(const TrainTask& task,
                                       const Update& update,
                                       const SubmitOptions& options,
                                       const CancelToken& cancel);
  absl::StatusOr<SubmitOutcome> Submit(const TrainTask& task,
                                       const UpdateSource& source,
                                       const SubmitOptions& options,
                                       const CancelToken& cancel);
  absl::StatusOr<std::vector<ResumedUpload>> ResumePending(
      const SubmitOptions& options, const CancelToken& cancel);
  absl::StatusOr<bool> ReportProgress(const TrainTask& task, double fraction,
                                      std::string_view text,
                                      const CancelToken& cancel);
  absl::Status Decline(const RoundRef& round, std::string_view reason,
                       bool evaluation, const CancelToken& cancel);
  absl::StatusOr<std::optional<Refused>> ReportEvaluation(
      const EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics, const CancelToken& cancel);
  absl::Status Renew(const CancelToken& cancel);
  void Cancel(std::string_view reason) { stop_.Cancel(reason); }

 private:
  using MakeReader = std::function<absl::StatusOr<std::unique_ptr<DeltaReader>>(
      const Layout& layout)>;

  explicit Session(Parts parts);

  CallContext Control(const CancelToken& cancel) const {
    return {cancel, options_.control_timeout};
  }
  Retrier MakeRetrier(uint64_t round, const CancelToken& cancel) {
    return Retrier(options_.retry, deps_, &events_, round, cancel);
  }
  // `attempt` until it succeeds, fails for good or the policy gives up.
  absl::Status Retried(std::string_view what, uint64_t round,
                       const CancelToken& cancel,
                       const std::function<absl::Status()>& attempt);

  absl::Status Greet(const CancelToken& cancel);
  absl::StatusOr<std::shared_ptr<const Layout>> LayoutFor(
      const Sha256Digest& digest, const CancelToken& cancel);
  // Unset: nothing to do yet; `*idle` says why.
  absl::StatusOr<std::optional<Work>> TakeWork(WorkReply reply, Idle* idle,
                                               const CancelToken& cancel);
  absl::StatusOr<EvaluateTask> TakeEvaluation(const EvaluateOffer& offer,
                                              const CancelToken& cancel);
  ResumedUpload ResumeOne(const Outbox::Found& found,
                          const SubmitOptions& options,
                          const CancelToken& cancel);
  absl::StatusOr<SubmitOutcome> SubmitFrom(const TrainTask& task,
                                           const LocalReport& report,
                                           const MakeReader& make_reader,
                                           const SubmitOptions& options,
                                           const CancelToken& cancel);
  // The update as a complete entry of the outbox.
  absl::StatusOr<std::shared_ptr<OutboxEntry>> Encode(
      const TrainTask& task, const Layout& layout, const LocalReport& report,
      DeltaReader& reader, const ProgressCallback& progress,
      const CancelToken& cancel);

  const ClientOptions options_;
  SessionDeps deps_;
  EventSink events_;
  const std::unique_ptr<Transport> transport_;
  const PeerName name_;
  const Trust trust_;
  const std::unique_ptr<FileLock> lock_;
  CancelSource stop_;

  Turn upload_turn_;
  Turn download_turn_;
  Turn renew_turn_;
  std::unique_ptr<SpareFiles> spares_;  // serves the two below
  std::unique_ptr<Outbox> outbox_;      // under upload_turn_
  std::unique_ptr<ReceiptStore> receipts_;
  std::unique_ptr<Uploader> uploader_;   // under upload_turn_
  std::unique_ptr<VersionCache> cache_;  // under download_turn_

  mutable Mutex mutex_;
  Greeting greeting_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const Layout> layout_ ABSL_GUARDED_BY(mutex_);
  Sha256Digest layout_digest_ ABSL_GUARDED_BY(mutex_);
  uint64_t revision_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string idle_reason_ ABSL_GUARDED_BY(mutex_);  // as last told
  // Since when WaitForWork has had no answer, over several calls.
  std::optional<absl::Duration> no_work_answer_since_ ABSL_GUARDED_BY(mutex_);
  // Last: what it still runs uses the members above and the directory's lock.
  const std::unique_ptr<DelayedRunner> runner_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_SESSION_H_

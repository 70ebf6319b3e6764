#ifndef CONSILIUM_CLIENT_CLIENT_H_
#define CONSILIUM_CLIENT_CLIENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/client/options.h"
#include "consilium/client/types.h"

namespace consilium {
class Layout;  // consilium/aggregation/layout.h
}  // namespace consilium

namespace consilium::client {

namespace internal {
class Session;
struct OpenedVersion;
}  // namespace internal

// The parameters of one version: a read-only mapping of its file. Valid as
// long as this object or a copy lives, whatever the cache does. Thread-safe.
class Parameters {
 public:
  explicit Parameters(std::shared_ptr<const internal::OpenedVersion> opened);

  const Version& version() const;
  // Names in layout order.
  std::vector<std::string> Names() const;
  // Row-major elements, in place. Errors: NOT_FOUND.
  absl::StatusOr<std::span<const float>> Tensor(std::string_view name) const;
  // Empty: scalar. Errors: NOT_FOUND.
  absl::StatusOr<std::vector<int64_t>> Shape(std::string_view name) const;
  // The safetensors file on disk; gone once the cache drops it.
  const std::string& path() const;

 private:
  std::shared_ptr<const internal::OpenedVersion> opened_;
};

// One institution's membership in a federation.
//
//   auto client = Client::Connect(options);
//   client->ResumePending();             // what a killed process left
//   for (;;) {
//     auto work = client->WaitForWork(absl::Minutes(5));
//     // TrainTask:    OpenVersion(base), train, Submit
//     // EvaluateTask: OpenVersion(candidate), measure, ReportEvaluation
//   }
//
// Thread safety: every function may be called from any thread at any time.
// Uploads go one after the other, and so do downloads; all else runs at once.
//
// Blocking: every function but info(), layout() and Cancel() waits for the
// network. A lost connection is retried as ClientOptions::retry says, so a
// restart of the coordinator in any phase shows only as time (and an Event).
// `cancel` ends the wait at once.
//
// Errors of all of them:
//   CANCELLED          `cancel` or Cancel()
//   UNAVAILABLE        no connection for retry.give_up_after
//   DEADLINE_EXCEEDED  no answer for retry.give_up_after
//   PERMISSION_DENIED  a certificate of another federation or role. (Who is
//                      suspended gets Idle, or Refused with SUSPENDED.)
//   UNAUTHENTICATED    the coordinator, or something it says, does not verify
//                      against what was pinned at enrolment; or the certificate
//                      here is revoked or has expired. Never retried.
class Client {
 public:
  // Loads the identity, locks state_dir, greets the coordinator and fetches
  // the layout when it is new. Errors: also
  //   INVALID_ARGUMENT     an option (the message names it), or an identity
  //                        whose files do not fit together
  //   NOT_FOUND            no identity in identity_dir
  //   PERMISSION_DENIED    a key in it that others can read
  //   FAILED_PRECONDITION  state_dir in use by another process; no protocol
  //                        version in common; a layout this build cannot read
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      const ClientOptions& options, const CancelToken& cancel = {});

  explicit Client(std::unique_ptr<internal::Session> session);
  ~Client();  // as Cancel(); no other call may be running
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  SessionInfo info() const;
  // The adapter's tensors, shapes and groups.
  std::shared_ptr<const Layout> layout() const;

  // Returns when there is work, or after `max_wait` with the reason why there
  // is none. Work that was declined, committed or evaluated does not come
  // again.
  absl::StatusOr<Work> WaitForWork(absl::Duration max_wait,
                                   const CancelToken& cancel = {});

  // Maps a version, downloading it first when it is not in the cache. An
  // interrupted download goes on where it stopped, in a later process too; the
  // SHA-256 is checked before anything is mapped. Errors: also
  //   NOT_FOUND           the coordinator has no such version
  //   RESOURCE_EXHAUSTED  no disk space
  //   DATA_LOSS           the coordinator's bytes do not have the digest
  absl::StatusOr<Parameters> OpenVersion(const Version& version,
                                         const ProgressCallback& progress = {},
                                         const CancelToken& cancel = {});

  // Hands in a contribution: encodes it into the outbox, uploads it, returns
  // the checked receipt. A round that already has this institution's
  // contribution answers with that receipt. After an error the outbox keeps
  // the payload: ResumePending() in this or a later process sends it on. So
  // does a refusal with SUSPENDED: call it when WaitForWork() has news again.
  // Errors: also
  //   INVALID_ARGUMENT    unknown or repeated tensor, part of a group, wrong
  //                       length, NaN or infinity (names tensor and index),
  //                       zero examples, bad report
  //   RESOURCE_EXHAUSTED  above max_update_bytes, or no disk space
  absl::StatusOr<SubmitOutcome> Submit(const TrainTask& task,
                                       const Update& update,
                                       const SubmitOptions& options = {},
                                       const CancelToken& cancel = {});
  absl::StatusOr<SubmitOutcome> Submit(const TrainTask& task,
                                       const UpdateSource& source,
                                       const SubmitOptions& options = {},
                                       const CancelToken& cancel = {});

  // Sends everything left in the outbox; says what became of each, one that
  // could not be sent included. Call it once after Connect(): then no crash
  // makes anybody train again.
  absl::StatusOr<std::vector<ResumedUpload>> ResumePending(
      const SubmitOptions& options = {}, const CancelToken& cancel = {});

  // Tells how far training is: `fraction` in 0..1, or negative when not known;
  // `text` of at most 200 bytes. False: the round no longer waits for this
  // institution, so training on is in vain. Not retried: after a transport
  // error it answers true, since training can go on.
  absl::StatusOr<bool> ReportProgress(const TrainTask& task, double fraction,
                                      std::string_view text,
                                      const CancelToken& cancel = {});

  // This institution will not contribute, or not evaluate, and why. OK also
  // when the round has ended meanwhile.
  absl::Status Decline(const TrainTask& task, std::string_view reason,
                       const CancelToken& cancel = {});
  absl::Status Decline(const EvaluateTask& task, std::string_view reason,
                       const CancelToken& cancel = {});

  // Metrics of the candidate on this institution's validation data. The
  // refusal when the coordinator no longer wants them.
  absl::StatusOr<std::optional<Refused>> ReportEvaluation(
      const EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics,
      const CancelToken& cancel = {});

  // A new key and certificate, in identity_dir and in use. The old pair stays
  // in place until the new one is complete. Calls under way end on the old
  // connection.
  absl::Status Renew(const CancelToken& cancel = {});

  // Ends every call, running and later, with CANCELLED. Does not block. What
  // is in the outbox stays.
  void Cancel(std::string_view reason);

 private:
  const std::unique_ptr<internal::Session> session_;
};

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_CLIENT_H_

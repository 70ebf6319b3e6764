#ifndef CONSILIUM_CLIENT_SDK_SESSION_UPLOADER_H_
#define CONSILIUM_CLIENT_SDK_SESSION_UPLOADER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client_sdk/session/chunk_pump.h"
#include "client_sdk/session/deps.h"
#include "client_sdk/session/outbox.h"
#include "client_sdk/session/receipt_store.h"
#include "client_sdk/session/statements.h"
#include "client_sdk/session/transport.h"
#include "consilium/base/cancel.h"
#include "consilium/client/options.h"

namespace consilium::client::internal {

// Takes one outbox entry to its receipt: BeginUpload, stream, CommitUpload,
// from the start again after any transport error, always with the same
// manifest, key and bytes, at the chunk the coordinator asks for. One upload
// at a time.
class Uploader {
 public:
  struct Options {
    RetryPolicy retry;
    absl::Duration control_timeout;
    absl::Duration stall_timeout;
  };
  // Greets the coordinator, before an attempt that follows a failed one: it
  // may have been replaced by one with other limits.
  using Greet = std::function<absl::Status(const CancelToken& cancel)>;
  // What the last greeting said of chunks; 0: nothing.
  struct Limits {
    uint64_t max_chunk_bytes = 0;
    uint64_t window_bytes = 0;
  };
  using LimitsFn = std::function<Limits()>;
  // The transport at this moment; see Session.
  Uploader(Options options, const SessionDeps& deps, EventSink* events,
           Transport* transport, const Trust* trust, ReceiptStore* receipts,
           Greet greet, LimitsFn limits);

  // On a receipt, which is stored first, and on a refusal that will stand,
  // `entry` is wiped from the outbox; else it stays, to be sent later.
  // Errors: FAILED_PRECONDITION for a chunk that the coordinator does not take.
  absl::StatusOr<SubmitOutcome> Run(Outbox& outbox, const OutboxEntry& entry,
                                    const ProgressCallback& progress,
                                    const CancelToken& cancel);

 private:
  absl::Status CheckChunks(const OutboxEntry& entry) const;
  // One attempt. Unset: the coordinator said to come back later.
  absl::StatusOr<SubmitOutcome> Attempt(const OutboxEntry& entry,
                                        const ProgressCallback& progress,
                                        const CancelToken& cancel, bool* moved);
  absl::StatusOr<PumpOutcome> Stream(const OutboxEntry& entry,
                                     const UploadAccepted& accepted,
                                     const ProgressCallback& progress,
                                     const CancelToken& cancel, bool* moved);

  const Options options_;
  const SessionDeps deps_;
  EventSink* const events_;
  Transport* const transport_;
  const Trust* const trust_;
  ReceiptStore* const receipts_;
  const Greet greet_;
  const LimitsFn limits_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_UPLOADER_H_

#ifndef CONSILIUM_CLIENT_SDK_SESSION_RETRIER_H_
#define CONSILIUM_CLIENT_SDK_SESSION_RETRIER_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client_sdk/session/deps.h"
#include "consilium/base/cancel.h"
#include "consilium/base/retry.h"
#include "consilium/client/options.h"

namespace consilium::client::internal {

// Errors that pass by themselves: no connection, a stream cut short, a
// coordinator that is restarting or overloaded. Whatever names a mistake of
// this side, or a peer that is not who it should be, does not.
bool IsTransient(const absl::Status& status);

// Errors: INVALID_ARGUMENT naming the option.
absl::Status ValidateRetryPolicy(const RetryPolicy& policy);

// The waits of one call. Not thread-safe.
//
//   for (;;) {
//     const absl::Status status = Attempt();
//     if (status.ok()) return ...;
//     CONSILIUM_RETURN_IF_ERROR(retrier.Failed(status, "greeting"));
//   }
class Retrier {
 public:
  // `policy` is valid; `deps` and `events` outlive this.
  Retrier(const RetryPolicy& policy, const SessionDeps& deps, EventSink* events,
          uint64_t round, CancelToken cancel);

  // After a failed attempt: OK once it is time for the next one, else what
  // the call returns: the error when it is permanent or has lasted for
  // give_up_after, CANCELLED. Waits `at_most` that long.
  absl::Status Failed(const absl::Status& error, std::string_view what,
                      absl::Duration at_most = absl::InfiniteDuration());

  // As Failed() for an answer that asks to come back after `hint`.
  absl::Status Refused(absl::Duration hint, const absl::Status& as_error,
                       std::string_view what);

  // Something moved: waits start small again, and so does give_up_after.
  void MadeProgress();

  // After a failure, until progress.
  bool failing() const { return since_.has_value(); }

  // When the failures began; unset after progress. A caller that gives up
  // early hands it on to its next Retrier.
  std::optional<absl::Duration> failing_since() const { return since_; }
  void set_failing_since(std::optional<absl::Duration> since) {
    since_ = since;
  }

 private:
  absl::Status Wait(absl::Duration at_least, absl::Duration at_most,
                    const absl::Status& error, std::string_view what);

  const RetryPolicy policy_;
  const SessionDeps& deps_;
  EventSink* const events_;
  const uint64_t round_;
  const CancelToken cancel_;
  Backoff backoff_;
  std::optional<absl::Duration> since_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_RETRIER_H_

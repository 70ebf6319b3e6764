#include "client_sdk/session/retrier.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {

bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:  // by the peer; ours is looked at first
    case absl::StatusCode::kInternal:   // how gRPC reports a broken stream
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

absl::Status ValidateRetryPolicy(const RetryPolicy& policy) {
  if (policy.initial <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(Cat("retry.initial is ",
                                          FormatDuration(policy.initial),
                                          "; it must be above zero"));
  }
  if (policy.cap < policy.initial) {
    return absl::InvalidArgumentError(
        Cat("retry.cap is ", FormatDuration(policy.cap),
            "; it must be at least retry.initial, ",
            FormatDuration(policy.initial)));
  }
  if (policy.cap == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        "retry.cap is infinite; the wait between attempts must have an end");
  }
  if (!(policy.multiplier >= 1.0) || std::isinf(policy.multiplier)) {
    return absl::InvalidArgumentError(
        Cat("retry.multiplier is ", policy.multiplier,
            "; it must be a finite number of at least 1"));
  }
  if (policy.give_up_after < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "retry.give_up_after is negative; zero means never");
  }
  return absl::OkStatus();
}

Retrier::Retrier(const RetryPolicy& policy, const SessionDeps& deps,
                 EventSink* events, uint64_t round, CancelToken cancel)
    : policy_(policy),
      deps_(deps),
      events_(events),
      round_(round),
      cancel_(std::move(cancel)),
      backoff_({policy.initial, policy.cap, policy.multiplier}, deps.random) {}

absl::Status Retrier::Failed(const absl::Status& error, std::string_view what,
                             absl::Duration at_most) {
  if (cancel_.cancelled()) return cancel_.status();
  if (!IsTransient(error)) return error;
  return Wait(absl::ZeroDuration(), at_most, error, what);
}

absl::Status Retrier::Refused(absl::Duration hint, const absl::Status& as_error,
                              std::string_view what) {
  if (cancel_.cancelled()) return cancel_.status();
  return Wait(std::min(hint, policy_.cap), absl::InfiniteDuration(), as_error,
              what);
}

void Retrier::MadeProgress() {
  backoff_.Reset();
  since_.reset();
}

absl::Status Retrier::Wait(absl::Duration at_least, absl::Duration at_most,
                           const absl::Status& error, std::string_view what) {
  const absl::Duration now = deps_.clock->Monotonic();
  if (!since_.has_value()) since_ = now;
  const absl::Duration failing = now - *since_;
  absl::Duration wait = std::min(at_most, std::max(at_least, backoff_.Next()));
  if (policy_.give_up_after > absl::ZeroDuration()) {
    if (failing >= policy_.give_up_after) {
      return Annotate(error,
                      Cat(what, ": gave up after ", FormatDuration(failing),
                          " (retry.give_up_after)"));
    }
    wait = std::min(wait, policy_.give_up_after - failing);
  }
  events_->Warning(round_, Cat(what, ": ", StdView(error.message()),
                               "; next attempt in ", FormatDuration(wait)));
  return deps_.sleeper->Sleep(wait, cancel_);
}

}  // namespace consilium::client::internal

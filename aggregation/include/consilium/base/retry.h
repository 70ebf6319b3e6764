// Waiting between attempts.
#ifndef CONSILIUM_BASE_RETRY_H_
#define CONSILIUM_BASE_RETRY_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/random.h"

namespace consilium {

struct BackoffOptions {
  absl::Duration initial = absl::Milliseconds(200);
  absl::Duration maximum = absl::Seconds(30);
  double multiplier = 2.0;
};

// Capped exponential back-off with full jitter: attempt k waits uniformly in
// [0, min(maximum, initial * multiplier^k)), so that a thousand institutions
// that lost one coordinator do not come back in step (M. Brooker, "Exponential
// Backoff And Jitter", AWS Architecture Blog, 2015). Not thread-safe.
class Backoff {
 public:
  // `random` outlives this. initial > 0, maximum >= initial, multiplier >= 1
  // (CHECK: validate configuration before).
  Backoff(BackoffOptions options, RandomSource* random);

  // The wait before the next attempt.
  absl::Duration Next();

  // The exclusive upper bound that the next call of Next() draws below.
  absl::Duration ceiling() const { return ceiling_; }

  // After a success: start again from `initial`.
  void Reset();

  // Calls of Next since the start or the last Reset.
  int attempts() const { return attempts_; }

 private:
  const BackoffOptions options_;
  RandomSource* const random_;
  absl::Duration ceiling_;
  int attempts_ = 0;
};

// Blocking waits as an interface: tests advance a fake clock instead.
// Thread-safe.
class Sleeper {
 public:
  virtual ~Sleeper() = default;

  // OK after `duration`; the token's CANCELLED status as soon as it is.
  virtual absl::Status Sleep(absl::Duration duration,
                             const CancelToken& cancel) = 0;
};

// Waits in real time. Lives for ever; the caller does not own it.
Sleeper* SystemSleeper();

}  // namespace consilium

#endif  // CONSILIUM_BASE_RETRY_H_

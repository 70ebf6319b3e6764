// The engine's time: wall time at start plus what has truly passed since.

#ifndef CONSILIUM_COORDINATOR_ENGINE_ANCHORED_CLOCK_H_
#define CONSILIUM_COORDINATOR_ENGINE_ANCHORED_CLOCK_H_

#include "absl/time/time.h"
#include "consilium/base/clock.h"

namespace consilium {

// A deadline must not come closer because somebody set the machine's clock. So
// wall time is read once, at start, and advanced by the monotonic clock from
// then on. Thread-safe.
class AnchoredClock final : public Clock {
 public:
  explicit AnchoredClock(Clock* clock)
      : clock_(clock), wall_(clock->Now()), monotonic_(clock->Monotonic()) {}

  absl::Time Now() override {
    return wall_ + (clock_->Monotonic() - monotonic_);
  }
  absl::Duration Monotonic() override { return clock_->Monotonic(); }

 private:
  Clock* const clock_;
  const absl::Time wall_;
  const absl::Duration monotonic_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_ANCHORED_CLOCK_H_

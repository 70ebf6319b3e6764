// A clock that stands still until told otherwise. Thread-safe.
#ifndef CONSILIUM_TESTS_SUPPORT_FAKE_CLOCK_H_
#define CONSILIUM_TESTS_SUPPORT_FAKE_CLOCK_H_

#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"

namespace consilium {

class FakeClock final : public Clock {
 public:
  // 2026-01-01T00:00:00Z.
  FakeClock() : now_(absl::FromUnixSeconds(1767225600)) {}
  explicit FakeClock(absl::Time now) : now_(now) {}

  absl::Time Now() override {
    MutexLock lock(&mutex_);
    return now_;
  }
  absl::Duration Monotonic() override {
    MutexLock lock(&mutex_);
    return monotonic_;
  }

  // Time passes: both clocks move.
  void Advance(absl::Duration by) {
    MutexLock lock(&mutex_);
    now_ += by;
    monotonic_ += by;
  }

  // Somebody sets the wall clock; the monotonic one does not move.
  void JumpTo(absl::Time now) {
    MutexLock lock(&mutex_);
    now_ = now;
  }

 private:
  Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  absl::Duration monotonic_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(1000);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FAKE_CLOCK_H_

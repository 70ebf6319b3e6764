// Sleeps by advancing a fake clock, and remembers how long. Thread-safe.
#ifndef CONSILIUM_TESTS_SUPPORT_FAKE_SLEEPER_H_
#define CONSILIUM_TESTS_SUPPORT_FAKE_SLEEPER_H_

#include <vector>

#include "consilium/base/mutex.h"
#include "consilium/base/retry.h"
#include "tests/support/fake_clock.h"

namespace consilium {

class FakeSleeper final : public Sleeper {
 public:
  explicit FakeSleeper(FakeClock* clock) : clock_(clock) {}

  absl::Status Sleep(absl::Duration duration,
                     const CancelToken& cancel) override {
    if (cancel.cancelled()) return cancel.status();
    clock_->Advance(duration);
    MutexLock lock(&mutex_);
    slept_.push_back(duration);
    return absl::OkStatus();
  }

  std::vector<absl::Duration> slept() {
    MutexLock lock(&mutex_);
    return slept_;
  }

 private:
  FakeClock* const clock_;
  Mutex mutex_;
  std::vector<absl::Duration> slept_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FAKE_SLEEPER_H_

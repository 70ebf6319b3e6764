#include "consilium/base/retry.h"

#include <algorithm>

#include "consilium/base/status_macros.h"

namespace consilium {

Backoff::Backoff(BackoffOptions options, RandomSource* random)
    : options_(options), random_(random), ceiling_(options.initial) {
  CONSILIUM_CHECK(options.initial > absl::ZeroDuration());
  CONSILIUM_CHECK(options.maximum >= options.initial);
  CONSILIUM_CHECK(options.maximum < absl::InfiniteDuration());
  CONSILIUM_CHECK(options.multiplier >= 1.0);
}

absl::Duration Backoff::Next() {
  const absl::Duration wait = ceiling_ * RandomUnit(*random_);
  ceiling_ = std::min(ceiling_ * options_.multiplier, options_.maximum);
  ++attempts_;
  return wait;
}

void Backoff::Reset() {
  ceiling_ = options_.initial;
  attempts_ = 0;
}

namespace {

class RealSleeper final : public Sleeper {
 public:
  RealSleeper() = default;
  absl::Status Sleep(absl::Duration duration,
                     const CancelToken& cancel) override {
    cancel.WaitFor(duration);
    return cancel.status();
  }
};

}  // namespace

Sleeper* SystemSleeper() {
  static RealSleeper* const sleeper = new RealSleeper;
  return sleeper;
}

}  // namespace consilium

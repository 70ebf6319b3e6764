#include "consilium/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace consilium {
namespace {

class RealClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration Monotonic() override {
    return absl::FromChrono(
        std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace

Clock* SystemClock() {
  static RealClock* const clock = new RealClock;
  return clock;
}

}  // namespace consilium

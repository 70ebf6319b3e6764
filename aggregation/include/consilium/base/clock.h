// Time enters through this interface only, so that tests own it.
#ifndef CONSILIUM_BASE_CLOCK_H_
#define CONSILIUM_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace consilium {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall time. It may jump either way; for what is shown, stored or agreed on.
  virtual absl::Time Now() = 0;

  // Never goes back, unaffected by wall-clock changes; for measuring and for
  // waiting. Counted from an arbitrary instant.
  virtual absl::Duration Monotonic() = 0;
};

// The machine's clocks. Lives for ever; the caller does not own it.
Clock* SystemClock();

}  // namespace consilium

#endif  // CONSILIUM_BASE_CLOCK_H_

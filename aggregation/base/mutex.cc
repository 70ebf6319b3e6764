#include "consilium/base/mutex.h"

#include <algorithm>
#include <chrono>

namespace consilium {

void CondVar::Wait(Mutex* mutex) {
  std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
  condition_.wait(lock);
  lock.release();
}

bool CondVar::WaitFor(Mutex* mutex, absl::Duration timeout) {
  // A day at most: adding years to the clock would overflow, and a waiter
  // loops.
  const absl::Duration bounded = std::min(timeout, absl::Hours(24));
  std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
  const std::cv_status status =
      condition_.wait_for(lock, absl::ToChronoNanoseconds(bounded));
  lock.release();
  return status == std::cv_status::timeout && bounded == timeout;
}

}  // namespace consilium

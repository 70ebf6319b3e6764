#ifndef CONSILIUM_CLIENT_SDK_SESSION_TIMER_THREAD_H_
#define CONSILIUM_CLIENT_SDK_SESSION_TIMER_THREAD_H_

#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "client_sdk/session/deps.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "consilium/base/threads.h"

namespace consilium::client::internal {

// DelayedRunner on one thread, which starts with the first task. The
// destructor drops what is not due yet and waits for the task that runs.
class TimerThread final : public DelayedRunner {
 public:
  explicit TimerThread(Clock* clock) : clock_(clock) {}
  ~TimerThread() override;
  void RunAfter(absl::Duration delay, Task task) override;

 private:
  void Work();

  Clock* const clock_;
  Mutex mutex_;
  CondVar wake_;
  std::multimap<absl::Duration, Task> due_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

// Calls `on_stall` once when Kick() was not called for `timeout` of real time.
// The destructor waits for a callback that runs.
class Watchdog {
 public:
  Watchdog(absl::Duration timeout, Task on_stall);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Kick();
  bool stalled() const;

 private:
  void Work();

  const absl::Duration timeout_;
  Task on_stall_;
  mutable Mutex mutex_;
  CondVar wake_;
  uint64_t kicks_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_TIMER_THREAD_H_

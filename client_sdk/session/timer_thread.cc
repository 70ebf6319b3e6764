#include "client_sdk/session/timer_thread.h"

#include <utility>

namespace consilium::client::internal {

TimerThread::~TimerThread() {
  std::thread thread;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void TimerThread::RunAfter(absl::Duration delay, Task task) {
  MutexLock lock(&mutex_);
  due_.emplace(clock_->Monotonic() + delay, std::move(task));
  if (!thread_.joinable()) {
    thread_ = std::thread([this] { Work(); });
  }
  wake_.Signal();
}

void TimerThread::Work() {
  for (;;) {
    Task task;
    {
      MutexLock lock(&mutex_);
      for (;;) {
        if (stopping_) return;
        if (due_.empty()) {
          wake_.Wait(&mutex_);
          continue;
        }
        const absl::Duration wait = due_.begin()->first - clock_->Monotonic();
        if (wait <= absl::ZeroDuration()) break;
        wake_.WaitFor(&mutex_, wait);
      }
      task = std::move(due_.begin()->second);
      due_.erase(due_.begin());
    }
    task();
  }
}

Watchdog::Watchdog(absl::Duration timeout, Task on_stall)
    : timeout_(timeout), on_stall_(std::move(on_stall)) {
  thread_ = std::thread([this] { Work(); });
}

Watchdog::~Watchdog() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  thread_.join();
}

void Watchdog::Kick() {
  // The thread looks at the count when its time is up; waking it for every
  // chunk would cost more than the chunk's bookkeeping.
  MutexLock lock(&mutex_);
  ++kicks_;
}

bool Watchdog::stalled() const {
  MutexLock lock(&mutex_);
  return stalled_;
}

void Watchdog::Work() {
  {
    MutexLock lock(&mutex_);
    uint64_t seen = kicks_;
    while (!stopping_) {
      if (!wake_.WaitFor(&mutex_, timeout_)) continue;
      if (kicks_ == seen) {
        stalled_ = true;
        break;
      }
      seen = kicks_;
    }
    if (!stalled_ || stopping_) return;
  }
  on_stall_();
}

}  // namespace consilium::client::internal

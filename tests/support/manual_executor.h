// An executor whose tasks run when the test says so, on the test's thread.
// Schedule is thread-safe; the rest is for one thread.
#ifndef CONSILIUM_TESTS_SUPPORT_MANUAL_EXECUTOR_H_
#define CONSILIUM_TESTS_SUPPORT_MANUAL_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <utility>

#include "consilium/base/mutex.h"
#include "consilium/base/threads.h"

namespace consilium {

class ManualExecutor final : public Executor {
 public:
  void Schedule(Task task) override {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(task));
  }

  // Runs the oldest task; false when there is none.
  bool RunOne() {
    Task task;
    {
      MutexLock lock(&mutex_);
      if (queue_.empty()) return false;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
    return true;
  }

  // Until none is left, those scheduled meanwhile included. Returns how many.
  size_t RunAll() {
    size_t ran = 0;
    while (RunOne()) ++ran;
    return ran;
  }

  size_t queued() {
    MutexLock lock(&mutex_);
    return queue_.size();
  }

 private:
  Mutex mutex_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_MANUAL_EXECUTOR_H_

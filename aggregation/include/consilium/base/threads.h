// Threads: an executor interface, a pool, and a serial queue over either.
#ifndef CONSILIUM_BASE_THREADS_H_
#define CONSILIUM_BASE_THREADS_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "consilium/base/mutex.h"

namespace consilium {

using Task = absl::AnyInvocable<void()>;

// Runs tasks some time later, on some thread. Thread-safe. A task does not
// throw, and may schedule more tasks.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void Schedule(Task task) = 0;
};

// A fixed number of threads and one queue. Tasks start in the order they were
// scheduled. The destructor runs everything already scheduled (and what those
// tasks schedule), then joins; it must not run on a pool thread.
class ThreadPool final : public Executor {
 public:
  // threads >= 1 (CHECK).
  explicit ThreadPool(size_t threads);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void Schedule(Task task) override;

  // fn(0) .. fn(count - 1), each once, in no order, on the pool's threads and
  // on the calling one; returns when all have returned. Since the caller works
  // too, it makes progress on a busy pool and inside a task of this pool.
  void ParallelFor(size_t count, absl::FunctionRef<void(size_t)> fn);

  size_t threads() const { return workers_.size(); }

 private:
  void Work();

  Mutex mutex_;
  CondVar wake_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> workers_;
};

// Tasks of one strand run one after the other, in the order they were
// scheduled, each seeing what the one before it wrote. After a bounded number
// of tasks it yields its thread to other work of the executor.
//
// The destructor does not wait: tasks already scheduled still run, so call
// Drain first when they refer to something that dies. The executor outlives
// the tasks.
class Strand final : public Executor {
 public:
  explicit Strand(Executor* executor);
  ~Strand() override;
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;

  void Schedule(Task task) override;

  // Returns when every task scheduled before the call has run. Not from a task
  // of this strand (CHECK).
  void Drain();

  // True inside a task of this strand.
  bool RunsHere() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_THREADS_H_

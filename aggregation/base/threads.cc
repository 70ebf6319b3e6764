#include "consilium/base/threads.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "consilium/base/status_macros.h"

namespace consilium {

ThreadPool::ThreadPool(size_t threads) {
  CONSILIUM_CHECK(threads >= 1);
  workers_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) {
    workers_.emplace_back([this] { Work(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.SignalAll();
  for (std::thread& worker : workers_) {
    CONSILIUM_CHECK(worker.get_id() != std::this_thread::get_id());
    worker.join();
  }
}

void ThreadPool::Schedule(Task task) {
  {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.Signal();
}

void ThreadPool::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(&mutex_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

namespace {

// Shared by the caller and its helpers. A helper that starts after the last
// index was taken touches only this, never `fn`, which may be gone by then.
struct Loop {
  Loop(size_t n, absl::FunctionRef<void(size_t)> f) : count(n), fn(f) {}

  void Run() {
    size_t ran = 0;
    for (size_t i; (i = next.fetch_add(1)) < count; ++ran) fn(i);
    if (ran == 0) return;
    MutexLock lock(&mutex);
    finished += ran;
    if (finished == count) all_finished.SignalAll();
  }

  const size_t count;
  const absl::FunctionRef<void(size_t)> fn;
  std::atomic<size_t> next{0};
  Mutex mutex;
  CondVar all_finished;
  size_t finished ABSL_GUARDED_BY(mutex) = 0;
};

}  // namespace

void ThreadPool::ParallelFor(size_t count, absl::FunctionRef<void(size_t)> fn) {
  if (count == 0) return;
  const auto loop = std::make_shared<Loop>(count, fn);
  const size_t helpers = std::min(threads(), count - 1);
  for (size_t i = 0; i < helpers; ++i) Schedule([loop] { loop->Run(); });
  loop->Run();
  MutexLock lock(&loop->mutex);
  while (loop->finished < count) loop->all_finished.Wait(&loop->mutex);
}

struct Strand::State : std::enable_shared_from_this<State> {
  // Enough to make switching cheap, few enough to be fair to other strands.
  static constexpr int kTasksPerTurn = 32;

  explicit State(Executor* e) : executor(e) {}

  void Run();

  Executor* const executor;
  Mutex mutex;
  std::deque<Task> queue ABSL_GUARDED_BY(mutex);
  bool scheduled ABSL_GUARDED_BY(mutex) = false;
};

namespace {
thread_local const void* running_strand = nullptr;
}  // namespace

void Strand::State::Run() {
  const void* const outer = std::exchange(running_strand, this);
  for (int i = 0; i < kTasksPerTurn; ++i) {
    Task task;
    {
      MutexLock lock(&mutex);
      if (queue.empty()) {
        scheduled = false;
        running_strand = outer;
        return;
      }
      task = std::move(queue.front());
      queue.pop_front();
    }
    task();
  }
  running_strand = outer;
  executor->Schedule([state = shared_from_this()] { state->Run(); });
}

Strand::Strand(Executor* executor)
    : state_(std::make_shared<State>(executor)) {}

Strand::~Strand() = default;

void Strand::Schedule(Task task) {
  {
    MutexLock lock(&state_->mutex);
    state_->queue.push_back(std::move(task));
    if (std::exchange(state_->scheduled, true)) return;
  }
  state_->executor->Schedule([state = state_] { state->Run(); });
}

void Strand::Drain() {
  CONSILIUM_CHECK(!RunsHere());
  struct Gate {
    Mutex mutex;
    CondVar opened;
    bool open ABSL_GUARDED_BY(mutex) = false;
  };
  const auto gate = std::make_shared<Gate>();
  Schedule([gate] {
    MutexLock lock(&gate->mutex);
    gate->open = true;
    gate->opened.SignalAll();
  });
  MutexLock lock(&gate->mutex);
  while (!gate->open) gate->opened.Wait(&gate->mutex);
}

bool Strand::RunsHere() const { return running_strand == state_.get(); }

}  // namespace consilium

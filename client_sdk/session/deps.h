#ifndef CONSILIUM_CLIENT_SDK_SESSION_DEPS_H_
#define CONSILIUM_CLIENT_SDK_SESSION_DEPS_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/random.h"
#include "consilium/base/retry.h"
#include "consilium/base/strings.h"
#include "consilium/base/threads.h"
#include "consilium/client/types.h"

namespace consilium::client::internal {

// Runs a task once, some time later, on a thread of its own. Thread-safe.
class DelayedRunner {
 public:
  virtual ~DelayedRunner() = default;
  virtual void RunAfter(absl::Duration delay, Task task) = 0;
};

// What the session takes from outside, so that tests own it. None is owned.
struct SessionDeps {
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Sleeper* sleeper = nullptr;
  RandomSource* random = nullptr;
  DelayedRunner* later = nullptr;
};

// Hands events to the observer, one at a time. Thread-safe.
class EventSink {
 public:
  explicit EventSink(std::function<void(const Event&)> observer)
      : observer_(std::move(observer)) {}

  void Info(uint64_t round, std::string text) {
    Send({Event::Severity::kInfo, std::move(text), round});
  }
  void Warning(uint64_t round, std::string text) {
    Send({Event::Severity::kWarning, std::move(text), round});
  }

 private:
  void Send(const Event& event) {
    if (!observer_) return;
    MutexLock lock(&mutex_);
    observer_(event);
  }

  const std::function<void(const Event&)> observer_;
  Mutex mutex_;  // Serialises calls of observer_.
};

// A lock whose wait can be cancelled. Thread-safe.
class Turn {
 public:
  // CANCELLED, or the lock until Release().
  absl::Status Take(const CancelToken& cancel) {
    const CancelRegistration wake = cancel.OnCancel([this] {
      MutexLock lock(&mutex_);
      wake_.SignalAll();
    });
    MutexLock lock(&mutex_);
    while (taken_ && !cancel.cancelled()) wake_.Wait(&mutex_);
    if (cancel.cancelled()) return cancel.status();
    taken_ = true;
    return absl::OkStatus();
  }
  void Release() {
    MutexLock lock(&mutex_);
    taken_ = false;
    wake_.SignalAll();
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  bool taken_ ABSL_GUARDED_BY(mutex_) = false;
};

// Releases a turn that was taken.
class TurnHolder {
 public:
  explicit TurnHolder(Turn* turn) : turn_(turn) {}
  ~TurnHolder() { turn_->Release(); }
  TurnHolder(const TurnHolder&) = delete;
  TurnHolder& operator=(const TurnHolder&) = delete;

 private:
  Turn* const turn_;
};

// Cancelled when either of two tokens is.
class EitherCancel {
 public:
  EitherCancel(const CancelToken& a, const CancelToken& b)
      : source_(a), link_(b.OnCancel([this, b] {
          source_.Cancel(StdView(b.status().message()));
        })) {}

  CancelToken token() const { return source_.token(); }

 private:
  CancelSource source_;
  CancelRegistration link_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_DEPS_H_

#include "consilium/base/cancel.h"

#include <map>
#include <string>
#include <thread>
#include <utility>

#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace internal {

class CancelState {
 public:
  using Callback = absl::AnyInvocable<void()>;

  void Cancel(std::string_view reason) {
    MutexLock lock(&mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    reason_ = std::string(reason);
    changed_.SignalAll();
    runner_ = std::this_thread::get_id();
    while (!callbacks_.empty()) {
      const auto first = callbacks_.begin();
      running_ = first->first;
      Callback callback = std::move(first->second);
      callbacks_.erase(first);
      mutex_.Unlock();
      callback();
      callback = nullptr;  // what it holds dies before Release returns
      mutex_.Lock();
      running_ = 0;
      changed_.SignalAll();
    }
  }

  // 0 when already cancelled: the caller then runs it.
  uint64_t Add(Callback& callback) {
    MutexLock lock(&mutex_);
    if (cancelled_) return 0;
    callbacks_.emplace(next_id_, std::move(callback));
    return next_id_++;
  }

  void Remove(uint64_t id) {
    Callback doomed;  // destroyed outside the lock
    MutexLock lock(&mutex_);
    if (const auto it = callbacks_.find(id); it != callbacks_.end()) {
      doomed = std::move(it->second);
      callbacks_.erase(it);
      return;
    }
    if (runner_ == std::this_thread::get_id()) return;
    while (running_ == id) changed_.Wait(&mutex_);
  }

  bool cancelled() {
    MutexLock lock(&mutex_);
    return cancelled_;
  }

  absl::Status status() {
    MutexLock lock(&mutex_);
    return cancelled_ ? absl::CancelledError(reason_) : absl::OkStatus();
  }

  bool WaitFor(absl::Duration timeout) {
    const absl::Duration deadline = SystemClock()->Monotonic() + timeout;
    MutexLock lock(&mutex_);
    while (!cancelled_) {
      const absl::Duration left = deadline - SystemClock()->Monotonic();
      if (left <= absl::ZeroDuration()) break;
      changed_.WaitFor(&mutex_, left);
    }
    return cancelled_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Callback> callbacks_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t running_ ABSL_GUARDED_BY(mutex_) = 0;  // id of the running callback
  std::thread::id runner_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal

CancelRegistration::CancelRegistration(CancelRegistration&& other) noexcept
    : state_(std::move(other.state_)), id_(std::exchange(other.id_, 0)) {}

CancelRegistration& CancelRegistration::operator=(
    CancelRegistration&& other) noexcept {
  if (this != &other) {
    Release();
    state_ = std::move(other.state_);
    id_ = std::exchange(other.id_, 0);
  }
  return *this;
}

void CancelRegistration::Release() {
  if (state_ == nullptr) return;
  state_->Remove(id_);
  state_ = nullptr;
  id_ = 0;
}

bool CancelToken::cancelled() const {
  return state_ != nullptr && state_->cancelled();
}

absl::Status CancelToken::status() const {
  return state_ == nullptr ? absl::OkStatus() : state_->status();
}

CancelRegistration CancelToken::OnCancel(
    absl::AnyInvocable<void()> callback) const {
  if (state_ == nullptr) return {};
  if (const uint64_t id = state_->Add(callback); id != 0) {
    return CancelRegistration(state_, id);
  }
  callback();
  return {};
}

bool CancelToken::WaitFor(absl::Duration timeout) const {
  if (state_ != nullptr) return state_->WaitFor(timeout);
  return CancelSource().token().WaitFor(timeout);
}

CancelSource::CancelSource()
    : state_(std::make_shared<internal::CancelState>()) {}

CancelSource::CancelSource(const CancelToken& parent) : CancelSource() {
  parent_ = parent.OnCancel([state = state_, parent] {
    state->Cancel(StdView(parent.status().message()));
  });
}

void CancelSource::Cancel(std::string_view reason) { state_->Cancel(reason); }

}  // namespace consilium

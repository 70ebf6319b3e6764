// Cancellation: a source says stop, any number of tokens hear it.
//
//   CancelSource stop;
//   worker.Run(stop.token());          // elsewhere: token.status(), OnCancel
//   stop.Cancel("shutting down");
#ifndef CONSILIUM_BASE_CANCEL_H_
#define CONSILIUM_BASE_CANCEL_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace consilium {

namespace internal {
class CancelState;
}  // namespace internal

// Keeps a callback registered while it lives. Destroying it takes the callback
// out; when the callback is running on another thread, the destructor waits
// until it has returned. Move-only; not thread-safe itself.
class CancelRegistration {
 public:
  CancelRegistration() = default;
  ~CancelRegistration() { Release(); }
  CancelRegistration(CancelRegistration&& other) noexcept;
  CancelRegistration& operator=(CancelRegistration&& other) noexcept;

  void Release();

 private:
  friend class CancelToken;
  CancelRegistration(std::shared_ptr<internal::CancelState> state, uint64_t id)
      : state_(std::move(state)), id_(id) {}
  std::shared_ptr<internal::CancelState> state_;
  uint64_t id_ = 0;
};

// Cheap to copy. Thread-safe. A default-constructed token is never cancelled.
class CancelToken {
 public:
  CancelToken() = default;

  bool cancelled() const;

  // OK, or CANCELLED with the reason given to Cancel.
  absl::Status status() const;

  // Runs `callback` once, on the cancelling thread, when the source is
  // cancelled; at once and on this thread when it already is. Callbacks are
  // short, do not block and do not throw.
  [[nodiscard]] CancelRegistration OnCancel(
      absl::AnyInvocable<void()> callback) const;

  // Blocks for `timeout` of real time or until cancelled; true when cancelled.
  // Code under test waits through Sleeper (retry.h) instead.
  bool WaitFor(absl::Duration timeout) const;

 private:
  friend class CancelSource;
  explicit CancelToken(std::shared_ptr<internal::CancelState> state)
      : state_(std::move(state)) {}
  std::shared_ptr<internal::CancelState> state_;
};

// Thread-safe. Destroying a source cancels nothing.
class CancelSource {
 public:
  CancelSource();
  // Also cancelled, with the same reason, when `parent` is.
  explicit CancelSource(const CancelToken& parent);
  CancelSource(const CancelSource&) = delete;
  CancelSource& operator=(const CancelSource&) = delete;

  // Runs the callbacks before it returns. Only the first call has an effect.
  void Cancel(std::string_view reason);

  CancelToken token() const { return CancelToken(state_); }

 private:
  const std::shared_ptr<internal::CancelState> state_;
  CancelRegistration parent_;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_CANCEL_H_

// Whoever waits for a BeginUpload in a test.
#ifndef CONSILIUM_TESTS_SUPPORT_BEGIN_UPLOAD_H_
#define CONSILIUM_TESTS_SUPPORT_BEGIN_UPLOAD_H_

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "coordinator/engine/upload_hub.h"
#include "tests/support/manual_executor.h"

namespace consilium {

class TestWaiter final : public BeginWaiter {
 public:
  void OnBegun(absl::StatusOr<BeginOutcome> outcome) override {
    MutexLock lock(&mu_);
    CONSILIUM_CHECK(!outcome_.has_value());
    outcome_.emplace(std::move(outcome));
    told_.SignalAll();
  }
  bool gone() const override { return gone_.load(); }
  void Leave(UploadHub& hub) {
    gone_.store(true);
    hub.AbandonBegin(this);
  }

  std::optional<absl::StatusOr<BeginOutcome>> outcome() {
    MutexLock lock(&mu_);
    return outcome_;
  }
  absl::StatusOr<BeginOutcome> Await() {
    MutexLock lock(&mu_);
    while (!outcome_.has_value()) told_.Wait(&mu_);
    return *outcome_;
  }

 private:
  std::atomic<bool> gone_{false};
  Mutex mu_;
  CondVar told_;
  std::optional<absl::StatusOr<BeginOutcome>> outcome_ ABSL_GUARDED_BY(mu_);
};

// Does on this thread what the hub left to `ingest`.
inline absl::StatusOr<BeginOutcome> BeginUploadHere(
    UploadHub& hub, ManualExecutor& ingest, const Caller& caller,
    const UploadManifest& manifest) {
  const auto waiter = std::make_shared<TestWaiter>();
  hub.BeginUpload(caller, manifest, waiter);
  ingest.RunAll();
  return waiter->Await();
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_BEGIN_UPLOAD_H_

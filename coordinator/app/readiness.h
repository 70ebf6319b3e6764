// Whether the coordinator can serve institutions, for /readyz.

#ifndef CONSILIUM_COORDINATOR_APP_READINESS_H_
#define CONSILIUM_COORDINATOR_APP_READINESS_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "coordinator/store/store.h"

namespace consilium {

// Thread-safe. The listener is open to everybody who reaches it, so whatever
// touches the disk is done at most once in `check_interval`.
class Readiness {
 public:
  struct Options {
    absl::Duration check_interval = absl::Seconds(5);
    // For how long the engine may be late before it counts as stuck:
    // readiness.engine_late_after.
    absl::Duration engine_late_after = absl::Seconds(30);
    // How long a write may take: readiness.write_late_after.
    absl::Duration write_late_after = absl::Seconds(5);
  };

  // `overdue`: by how much the engine's thread is late. All outlive this.
  Readiness(Store* store, Clock* clock, std::function<absl::Duration()> overdue,
            Options options)
      : store_(store),
        clock_(clock),
        overdue_(std::move(overdue)),
        options_(options) {}

  // Errors: UNAVAILABLE saying why: the engine is stuck; the history takes no
  // writes; less than storage.min_free_bytes is free. While one call looks at
  // the disk, others answer what was found before.
  absl::Status Check();

 private:
  // A write that may outlast the call that began it.
  struct Probe {
    Mutex mu;
    CondVar done;
    bool running ABSL_GUARDED_BY(mu) = false;
    absl::Status status ABSL_GUARDED_BY(mu);
  };

  absl::Status CheckSpace();
  absl::Status CheckWrite();

  Store* const store_;
  Clock* const clock_;
  const std::function<absl::Duration()> overdue_;
  const Options options_;
  const std::shared_ptr<Probe> probe_ = std::make_shared<Probe>();
  Mutex mu_;
  std::optional<absl::Duration> checked_ ABSL_GUARDED_BY(mu_);  // monotonic
  bool checking_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status store_status_ ABSL_GUARDED_BY(mu_) =
      absl::UnavailableError("the store is looked at for the first time");
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_READINESS_H_

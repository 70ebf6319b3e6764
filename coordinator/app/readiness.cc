#include "coordinator/app/readiness.h"

#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"

namespace consilium {

absl::Status Readiness::Check() {
  const absl::Duration late = overdue_();
  if (late > options_.engine_late_after) {
    return absl::UnavailableError(
        Cat("the engine has not turned for ", FormatDuration(late),
            ", readiness.engine_late_after is ",
            FormatDuration(options_.engine_late_after)));
  }
  {
    MutexLock lock(&mu_);
    const absl::Duration now = clock_->Monotonic();
    const bool due =
        !checked_.has_value() || now - *checked_ >= options_.check_interval;
    // Whoever looks may wait for a write; nobody waits for him.
    if (!due || checking_) return store_status_;
    checked_ = now;
    checking_ = true;
  }
  absl::Status status = CheckSpace();
  if (status.ok()) status = CheckWrite();
  MutexLock lock(&mu_);
  checking_ = false;
  store_status_ = status;
  return status;
}

absl::Status Readiness::CheckSpace() {
  const auto free = store_->fs()->FreeSpace(store_->data_dir());
  if (!free.ok()) {
    return absl::UnavailableError(
        Cat("free space of ", store_->data_dir(),
            " is not known: ", StdView(free.status().message())));
  }
  const int64_t least = store_->space().min_free_bytes();
  if (*free < least) {
    return absl::UnavailableError(
        Cat(FormatBytes(static_cast<uint64_t>(*free)), " are free in ",
            store_->data_dir(), ", storage.min_free_bytes is ",
            FormatBytes(static_cast<uint64_t>(least))));
  }
  return absl::OkStatus();
}

absl::Status Readiness::CheckWrite() {
  bool begin = false;
  {
    MutexLock lock(&probe_->mu);
    begin = !std::exchange(probe_->running, true);
  }
  if (begin) {
    // Nothing changes, but a page is written and synced: what rounds need.
    store_->history().WriteAsync(
        [](WriteTx& tx) -> absl::Status {
          CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row,
                                     GetFederation(tx));
          // SQLite leaves alone what does not differ: there and back.
          FederationRow other = row;
          other.paused = !row.paused;
          CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, other));
          return SetFederation(tx, row);
        },
        [probe = probe_](const absl::Status& status) {
          MutexLock lock(&probe->mu);
          probe->running = false;
          probe->status = status;
          probe->done.SignalAll();
        });
  }
  MutexLock lock(&probe_->mu);
  if (probe_->running) {
    probe_->done.WaitFor(&probe_->mu, options_.write_late_after);
  }
  if (probe_->running) {
    return absl::UnavailableError(Cat("the history has not taken a write for ",
                                      FormatDuration(options_.write_late_after),
                                      " (readiness.write_late_after)"));
  }
  if (probe_->status.ok()) return absl::OkStatus();
  return absl::UnavailableError(
      Cat("the history takes no writes: ", StdView(probe_->status.message())));
}

}  // namespace consilium

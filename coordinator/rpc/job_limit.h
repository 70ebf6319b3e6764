// How many long operations may run at once.

#ifndef CONSILIUM_COORDINATOR_RPC_JOB_LIMIT_H_
#define CONSILIUM_COORDINATOR_RPC_JOB_LIMIT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "consilium/base/mutex.h"

namespace consilium {

// Admits up to `limit` jobs and refuses the next one at once, so that it holds
// no thread while it waits. Thread-safe; outlives its slots.
class JobLimit {
 public:
  // A job under way; ends with this.
  class Slot {
   public:
    Slot(Slot&& other) noexcept
        : jobs_(std::exchange(other.jobs_, nullptr)), what_(other.what_) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot();

   private:
    friend class JobLimit;
    Slot(JobLimit* jobs, std::string_view what) : jobs_(jobs), what_(what) {}

    JobLimit* jobs_;
    std::string_view what_;
  };

  // `key` names the limit in refusals.
  JobLimit(int64_t limit, std::string key)
      : limit_(limit), key_(std::move(key)) {}

  // `what` is a literal, such as "db backup".
  // Errors: RESOURCE_EXHAUSTED, naming what runs, the limit and what to do.
  absl::StatusOr<Slot> Begin(std::string_view what);

 private:
  const int64_t limit_;
  const std::string key_;
  Mutex mu_;
  std::vector<std::string_view> running_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_JOB_LIMIT_H_

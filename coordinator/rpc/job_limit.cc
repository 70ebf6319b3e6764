#include "coordinator/rpc/job_limit.h"

#include <algorithm>

#include "consilium/base/strings.h"

namespace consilium {

JobLimit::Slot::~Slot() {
  if (jobs_ == nullptr) return;
  MutexLock lock(&jobs_->mu_);
  std::vector<std::string_view>& running = jobs_->running_;
  running.erase(std::find(running.begin(), running.end(), what_));
}

absl::StatusOr<JobLimit::Slot> JobLimit::Begin(std::string_view what) {
  MutexLock lock(&mu_);
  if (static_cast<int64_t>(running_.size()) < limit_) {
    running_.push_back(what);
    return Slot(this, what);
  }
  std::string names;
  for (const std::string_view name : running_) {
    CatInto(names, names.empty() ? "" : ", ", name);
  }
  return absl::ResourceExhaustedError(Cat(
      what, " is refused, since ", names,
      running_.size() == 1 ? " runs" : " run", " already and ", key_, " is ",
      limit_, "; try again when one has ended, or raise that limit"));
}

}  // namespace consilium

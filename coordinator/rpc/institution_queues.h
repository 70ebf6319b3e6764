// One after the other, what one institution asks.

#ifndef CONSILIUM_COORDINATOR_RPC_INSTITUTION_QUEUES_H_
#define CONSILIUM_COORDINATOR_RPC_INSTITUTION_QUEUES_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/threads.h"

namespace consilium {

// However many calls an institution has under way, and whatever they wait for,
// they take one thread of the executor, and the others are for others.
// Thread-safe; outlives the tasks.
class InstitutionQueues {
 public:
  explicit InstitutionQueues(Executor* executor) : executor_(executor) {}

  Executor& Of(int64_t institution_id) {
    MutexLock lock(&mu_);
    std::unique_ptr<Strand>& queue = queues_[institution_id];
    if (queue == nullptr) queue = std::make_unique<Strand>(executor_);
    return *queue;
  }

 private:
  Executor* const executor_;
  Mutex mu_;
  // As many as institutions have called.
  std::map<int64_t, std::unique_ptr<Strand>> queues_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_INSTITUTION_QUEUES_H_

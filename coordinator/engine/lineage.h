// Versions that fall with another one.

#ifndef CONSILIUM_COORDINATOR_ENGINE_LINEAGE_H_
#define CONSILIUM_COORDINATOR_ENGINE_LINEAGE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/store/history_store.h"

namespace consilium {

// Takes a version that was promoted before its evaluation back: it and what
// was promoted from it are rolled back, and `base` is served where one of
// them was.
absl::Status RollBackCandidate(WriteTx& tx, int64_t candidate, int64_t base,
                               const std::string& reason, absl::Time now);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_LINEAGE_H_

// A round's state as the machine has it, written to the tables.

#ifndef CONSILIUM_COORDINATOR_STORE_ROUND_STATE_H_
#define CONSILIUM_COORDINATOR_STORE_ROUND_STATE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/round/round_types.h"
#include "coordinator/store/tables.h"

namespace consilium {

// The row of the round, which is a projection of its state, the members that
// differ from `before`, and an event for each member and each phase that
// changed. Errors: NOT_FOUND no such round or institution.
absl::Status StoreRoundState(WriteTx& tx, const RoundState& before,
                             const RoundState& after);

absl::Status AppendRoundNote(WriteTx& tx, const RoundState& state,
                             absl::Time at, std::string kind,
                             std::string institution, std::string detail);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_ROUND_STATE_H_

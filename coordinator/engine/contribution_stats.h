// What the checks found in a contribution, as its row keeps it.

#ifndef CONSILIUM_COORDINATOR_ENGINE_CONTRIBUTION_STATS_H_
#define CONSILIUM_COORDINATOR_ENGINE_CONTRIBUTION_STATS_H_

#include <string>

#include "consilium/aggregation/contribution_check.h"

namespace consilium {

// {"abs_max":..,"frames":..,"group_norms":[..],"tokens":{"<group>":n}}; norms
// are L2, in layout order, 0 where a group is not covered.
std::string ContributionStatsToJson(const ContributionStats& stats);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_CONTRIBUTION_STATS_H_

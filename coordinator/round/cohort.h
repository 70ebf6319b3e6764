// Whom a round invites. Pure and deterministic.

#ifndef CONSILIUM_COORDINATOR_ROUND_COHORT_H_
#define CONSILIUM_COORDINATOR_ROUND_COHORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/round/round_types.h"

namespace consilium {

struct CohortCandidate {
  std::string institution;
  // The last round that invited it; 0: never.
  int64_t last_invited_round = 0;
};

// All candidates when config.target is 0, else target + over_selection of them:
// those whose last invitation lies longest ago, by name where that is equal, so
// that nobody is left out for longer than one turn of everybody. The result is
// sorted by institution.
std::vector<std::string> SelectCohort(std::vector<CohortCandidate> candidates,
                                      const RoundConfig& config);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_COHORT_H_

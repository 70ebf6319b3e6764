#include "coordinator/round/cohort.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace consilium {

std::vector<std::string> SelectCohort(std::vector<CohortCandidate> candidates,
                                      const RoundConfig& config) {
  std::sort(candidates.begin(), candidates.end(),
            [](const CohortCandidate& a, const CohortCandidate& b) {
              return std::tie(a.last_invited_round, a.institution) <
                     std::tie(b.last_invited_round, b.institution);
            });
  size_t size = candidates.size();
  if (config.target > 0) {
    size = std::min(size, static_cast<size_t>(config.target) +
                              static_cast<size_t>(config.over_selection));
  }
  std::vector<std::string> cohort;
  cohort.reserve(size);
  for (size_t i = 0; i < size; ++i) {
    cohort.push_back(std::move(candidates[i].institution));
  }
  std::sort(cohort.begin(), cohort.end());
  return cohort;
}

}  // namespace consilium

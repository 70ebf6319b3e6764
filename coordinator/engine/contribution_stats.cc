#include "coordinator/engine/contribution_stats.h"

#include <cmath>

#include "consilium/base/strings.h"
#include "nlohmann/json.hpp"

namespace consilium {

std::string ContributionStatsToJson(const ContributionStats& stats) {
  nlohmann::json out;
  out["abs_max"] = stats.abs_max;
  out["frames"] = stats.frames;
  nlohmann::json norms = nlohmann::json::array();
  for (const double squares : stats.group_sum_squares) {
    norms.push_back(std::sqrt(squares));
  }
  out["group_norms"] = std::move(norms);
  nlohmann::json tokens = nlohmann::json::object();
  for (const GroupTokens& t : stats.metadata.group_tokens) {
    tokens[Cat(t.group)] = t.tokens;
  }
  out["tokens"] = std::move(tokens);
  return out.dump();
}

}  // namespace consilium

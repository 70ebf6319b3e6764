#include "coordinator/engine/group_report.h"

#include "consilium/base/strings.h"
#include "nlohmann/json.hpp"

namespace consilium {

std::string GroupReportToJson(const std::vector<GroupOutcome>& groups) {
  nlohmann::json out = nlohmann::json::array();
  for (const GroupOutcome& g : groups) {
    out.push_back({g.group, g.contributors, g.weight, g.held});
  }
  return out.dump();
}

absl::StatusOr<std::vector<GroupOutcome>> GroupReportFromJson(
    std::string_view text) {
  std::vector<GroupOutcome> groups;
  if (text.empty()) return groups;
  const nlohmann::json json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto broken = [] {
    return absl::DataLossError("stored group report does not parse");
  };
  if (!json.is_array()) return broken();
  for (const nlohmann::json& row : json) {
    if (!row.is_array() || row.size() != 4 || !row[0].is_string() ||
        !row[1].is_number_integer() || !row[2].is_number() ||
        !row[3].is_boolean()) {
      return broken();
    }
    groups.push_back(GroupOutcome{row[0].get<std::string>(),
                                  row[1].get<int64_t>(), row[2].get<double>(),
                                  row[3].get<bool>()});
  }
  return groups;
}

}  // namespace consilium

// What a fold did with each release group, as its version row keeps it.

#ifndef CONSILIUM_COORDINATOR_ENGINE_GROUP_REPORT_H_
#define CONSILIUM_COORDINATOR_ENGINE_GROUP_REPORT_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/engine/fold_job.h"

namespace consilium {

// JSON: [[group, contributors, weight, held], ...] in layout order.
std::string GroupReportToJson(const std::vector<GroupOutcome>& groups);
// Errors: DATA_LOSS for text that GroupReportToJson does not make.
absl::StatusOr<std::vector<GroupOutcome>> GroupReportFromJson(
    std::string_view json);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_GROUP_REPORT_H_

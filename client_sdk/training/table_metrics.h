#ifndef CONSILIUM_CLIENT_SDK_TRAINING_TABLE_METRICS_H_
#define CONSILIUM_CLIENT_SDK_TRAINING_TABLE_METRICS_H_

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium {

// Whether the rows fit the model and are finite. Errors: INVALID_ARGUMENT;
// names row and column.
absl::Status CheckTable(const TableView& rows, const TableMoeShape& shape);

// Area under the ROC curve: the chance that a row of class 1 scores above one
// of class 0, equal scores counting one half (Mann-Whitney). Empty unless
// labels hold both 0 and 1 and nothing else.
std::optional<double> AreaUnderRoc(std::span<const double> scores,
                                   std::span<const int32_t> labels);

// Standard deviation of the shares tokens[i] / sum; 0 when the sum is 0.
double ShareDeviation(std::span<const uint64_t> tokens);

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_SDK_TRAINING_TABLE_METRICS_H_

#include "client_sdk/training/table_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "consilium/base/strings.h"

namespace consilium {

absl::Status CheckTable(const TableView& rows, const TableMoeShape& shape) {
  if (rows.columns != shape.features) {
    return absl::InvalidArgumentError(Cat("table has ", rows.columns,
                                          " columns; the model takes ",
                                          shape.features));
  }
  if (rows.labels.empty()) {
    return absl::InvalidArgumentError("table has no rows");
  }
  const size_t columns = static_cast<size_t>(rows.columns);
  if (rows.features.size() / columns != rows.labels.size() ||
      rows.features.size() % columns != 0) {
    return absl::InvalidArgumentError(Cat(
        "table has ", rows.features.size(), " features; ", rows.labels.size(),
        " labels of ", columns, " columns need rows * columns"));
  }
  for (size_t i = 0; i < rows.features.size(); ++i) {
    if (!std::isfinite(rows.features[i])) {
      return absl::InvalidArgumentError(Cat("row ", i / columns, ", column ",
                                            i % columns, ": NaN or infinity"));
    }
  }
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    if (rows.labels[i] < 0 || rows.labels[i] >= shape.classes) {
      return absl::InvalidArgumentError(Cat("row ", i, ": label ",
                                            rows.labels[i], " is not 0 to ",
                                            shape.classes - 1));
    }
  }
  return absl::OkStatus();
}

std::optional<double> AreaUnderRoc(std::span<const double> scores,
                                   std::span<const int32_t> labels) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  double positives = 0, negatives = 0, wins = 0;
  for (size_t i = 0; i < order.size();) {
    double tied_positives = 0, tied_negatives = 0;
    const double score = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == score; ++i) {
      const int32_t label = labels[order[i]];
      if (label != 0 && label != 1) return std::nullopt;
      (label == 1 ? tied_positives : tied_negatives) += 1;
    }
    wins += tied_positives * (negatives + tied_negatives / 2);
    positives += tied_positives;
    negatives += tied_negatives;
  }
  if (positives == 0 || negatives == 0) return std::nullopt;
  return wins / (positives * negatives);
}

double ShareDeviation(std::span<const uint64_t> tokens) {
  double total = 0;
  for (const uint64_t count : tokens) total += static_cast<double>(count);
  if (total == 0) return 0;
  const double mean = 1.0 / static_cast<double>(tokens.size());
  double squares = 0;
  for (const uint64_t count : tokens) {
    const double share = static_cast<double>(count) / total;
    squares += (share - mean) * (share - mean);
  }
  return std::sqrt(squares * mean);
}

}  // namespace consilium

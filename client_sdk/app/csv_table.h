// Local rows from a CSV file.

#ifndef CONSILIUM_CLIENT_SDK_APP_CSV_TABLE_H_
#define CONSILIUM_CLIENT_SDK_APP_CSV_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace consilium::client {

struct CsvTable {
  std::vector<std::string> columns;  // feature columns, in file order
  std::vector<float> features;       // rows x columns, row-major
  std::vector<int32_t> labels;       // one per row
};

// One line of names, then numbers; the column `label` holds 0, 1, ... Empty
// lines are skipped; no quotes.
// Errors: INVALID_ARGUMENT naming line and column: no label column, another
// number of fields, not a finite number, a negative label, no rows.
absl::StatusOr<CsvTable> ParseCsvTable(std::string_view text);

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_SDK_APP_CSV_TABLE_H_

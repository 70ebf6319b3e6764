#ifndef CONSILIUM_CLIENT_SDK_APP_TABLE_CSV_H_
#define CONSILIUM_CLIENT_SDK_APP_TABLE_CSV_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/base/file.h"

namespace consilium::client::internal {

// Rows of numbers with a label.
struct LabelledTable {
  std::vector<std::string> columns;  // without the label
  std::vector<float> features;       // rows x columns, row-major, finite
  std::vector<int32_t> labels;       // 0, 1, ...

  int64_t rows() const { return static_cast<int64_t>(labels.size()); }
};

// CSV: a line of names, one of them `label`, then one line of numbers per row;
// fields separated by commas, space around them ignored, no quotes. Lines that
// are empty or start with # are skipped.
// Errors: INVALID_ARGUMENT "line 7: ...".
absl::StatusOr<LabelledTable> ParseTable(std::string_view text);

// Brings the columns into the order of `names`, the model's.
// Errors: INVALID_ARGUMENT naming columns that are missing, that are too many,
// or that stand there twice.
absl::Status ArrangeColumns(std::span<const std::string> names,
                            LabelledTable& table);

// Errors: also those of the file; RESOURCE_EXHAUSTED above 1 GiB.
absl::StatusOr<LabelledTable> LoadTable(FileSystem* fs,
                                        const std::string& path);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_TABLE_CSV_H_

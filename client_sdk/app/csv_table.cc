#include "client_sdk/app/csv_table.h"

#include <charconv>
#include <cmath>

#include "consilium/base/strings.h"

namespace consilium::client {
namespace {

std::vector<std::string_view> Fields(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

}  // namespace

absl::StatusOr<CsvTable> ParseCsvTable(std::string_view text) {
  CsvTable table;
  std::vector<std::string_view> names;
  size_t label = 0;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const std::vector<std::string_view> fields = Fields(line);
    if (names.empty()) {
      names = fields;
      label = names.size();
      for (size_t i = 0; i < names.size(); ++i) {
        if (names[i] == "label") {
          label = i;
        } else {
          table.columns.emplace_back(names[i]);
        }
      }
      if (label == names.size()) {
        return absl::InvalidArgumentError(
            "the first line names no column \"label\"");
      }
      continue;
    }
    if (fields.size() != names.size()) {
      return absl::InvalidArgumentError(Cat("line ", number, " has ",
                                            fields.size(),
                                            " fields, the first "
                                            "line names ",
                                            names.size()));
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      const char* const first = fields[i].data();
      const char* const last = first + fields[i].size();
      if (i == label) {
        int32_t value = 0;
        const auto [at, error] = std::from_chars(first, last, value);
        if (error != std::errc() || at != last || value < 0) {
          return absl::InvalidArgumentError(Cat("line ", number, ": label is ",
                                                Quoted(fields[i]),
                                                ", must be 0, 1, ..."));
        }
        table.labels.push_back(value);
        continue;
      }
      float value = 0;
      const auto [at, error] = std::from_chars(first, last, value);
      if (error != std::errc() || at != last || !std::isfinite(value)) {
        return absl::InvalidArgumentError(
            Cat("line ", number, ", column ", Quoted(names[i]), ": ",
                Quoted(fields[i]), " is not a finite number"));
      }
      table.features.push_back(value);
    }
  }
  if (table.labels.empty()) {
    return absl::InvalidArgumentError("there are no rows");
  }
  return table;
}

}  // namespace consilium::client

#include "client_sdk/app/table_csv.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

constexpr int64_t kMaxTableBytes = int64_t{1} << 30;
constexpr std::string_view kLabel = "label";

absl::Status AtLine(int64_t line, std::string_view what) {
  return absl::InvalidArgumentError(Cat("line ", line, ": ", what));
}

std::vector<absl::string_view> Fields(absl::string_view line) {
  std::vector<absl::string_view> fields = absl::StrSplit(line, ',');
  for (absl::string_view& field : fields) {
    field = absl::StripAsciiWhitespace(field);
  }
  return fields;
}

}  // namespace

absl::StatusOr<LabelledTable> ParseTable(std::string_view text) {
  LabelledTable table;
  std::optional<size_t> label;  // place of that column
  int64_t number = 0;
  // Spreadsheets begin a file with a mark of its encoding.
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (const absl::string_view raw : absl::StrSplit(AbslView(text), '\n')) {
    ++number;
    const absl::string_view line = absl::StripAsciiWhitespace(raw);
    if (line.empty() || line.front() == '#') continue;
    const std::vector<absl::string_view> fields = Fields(line);
    if (!label.has_value()) {
      for (size_t i = 0; i < fields.size(); ++i) {
        if (fields[i] != AbslView(kLabel)) {
          table.columns.emplace_back(fields[i]);
        } else if (!label.has_value()) {
          label = i;
        } else {
          return AtLine(number, "two columns are called `label`");
        }
      }
      if (!label.has_value()) {
        return AtLine(number, "no column is called `label`");
      }
      if (table.columns.empty()) return AtLine(number, "only a label");
      continue;
    }
    if (fields.size() != table.columns.size() + 1) {
      return AtLine(number, Cat(fields.size(), " fields; the first line has ",
                                table.columns.size() + 1));
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      if (i == *label) {
        int32_t value = 0;
        if (!absl::SimpleAtoi(fields[i], &value) || value < 0) {
          return AtLine(number, Cat("label ", Quoted(StdView(fields[i])),
                                    " is not 0, 1, ..."));
        }
        table.labels.push_back(value);
        continue;
      }
      float value = 0;
      if (!absl::SimpleAtof(fields[i], &value) || !std::isfinite(value)) {
        return AtLine(number,
                      Cat("field ", i + 1, " is ", Quoted(StdView(fields[i])),
                          ", not a finite number"));
      }
      table.features.push_back(value);
    }
  }
  if (!label.has_value()) return AtLine(number, "no line of names");
  if (table.labels.empty()) return AtLine(number, "no rows");
  return table;
}

absl::Status ArrangeColumns(std::span<const std::string> names,
                            LabelledTable& table) {
  std::map<std::string_view, size_t> at;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    if (!at.emplace(table.columns[i], i).second) {
      return absl::InvalidArgumentError(
          Cat("two columns are called ", Quoted(table.columns[i])));
    }
  }
  std::vector<size_t> from;
  for (const std::string& name : names) {
    const auto found = at.find(name);
    if (found == at.end()) {
      return absl::InvalidArgumentError(Cat("no column is called ",
                                            Quoted(name),
                                            ", which the base model takes"));
    }
    from.push_back(found->second);
    at.erase(found);
  }
  if (!at.empty()) {
    return absl::InvalidArgumentError(
        Cat("column ", Quoted(at.begin()->first),
            " is none that the base model takes; leave it out"));
  }
  const size_t columns = names.size();
  std::vector<float> row(columns);
  for (size_t first = 0; first < table.features.size(); first += columns) {
    for (size_t i = 0; i < columns; ++i) {
      row[i] = table.features[first + from[i]];
    }
    std::copy(row.begin(), row.end(),
              table.features.begin() + static_cast<std::ptrdiff_t>(first));
  }
  table.columns.assign(names.begin(), names.end());
  return absl::OkStatus();
}

absl::StatusOr<LabelledTable> LoadTable(FileSystem* fs,
                                        const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs, path, kMaxTableBytes));
  auto table = ParseTable(text);
  if (!table.ok()) return Annotate(table.status(), path);
  return table;
}

}  // namespace consilium::client::internal

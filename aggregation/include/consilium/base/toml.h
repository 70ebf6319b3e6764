// The part of TOML 1.0 that a configuration file needs: comments, tables,
// dotted keys, strings on one line, integers, floats, booleans. What it accepts
// is TOML and means the same; arrays, inline tables, dates, several-line
// strings and other bases than ten are refused by name.
//
// Own code, because the parser at hand (toml++ 3.3.0) was found by fuzzing to
// reach undefined behaviour on short files ("[=]", a letter outside of ASCII as
// a key).
#ifndef CONSILIUM_BASE_TOML_H_
#define CONSILIUM_BASE_TOML_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace consilium {

using TomlValue = std::variant<bool, int64_t, double, std::string>;

struct TomlTable {
  std::vector<std::string> path;  // of the header
  int64_t line = 0;               // from 1
};
struct TomlEntry {
  std::vector<std::string> path;  // with that of its table
  TomlValue value;
  int64_t line = 0;
};
// In the order of the text. No key and no table is there twice.
struct TomlDocument {
  std::vector<TomlTable> tables;
  std::vector<TomlEntry> entries;
};

// Time is linear in the text but for looking up keys seen before.
// Errors: INVALID_ARGUMENT  "line 3: ...", the first mistake
absl::StatusOr<TomlDocument> ReadToml(std::string_view text);

// "a.b". A part that holds a dot stands in quotes, so that it is no other path.
std::string DottedName(const std::vector<std::string>& path);

}  // namespace consilium

#endif  // CONSILIUM_BASE_TOML_H_

// A document written as text again, by other rules than those by which it was
// read: every key in quotes, every string escaped.
#ifndef CONSILIUM_TESTS_FUZZ_TOML_TEXT_H_
#define CONSILIUM_TESTS_FUZZ_TOML_TEXT_H_

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/base/toml.h"

namespace consilium {
namespace toml_text_internal {

inline std::string Text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == '\x7f') {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04X",
                    static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

inline std::string Path(const std::vector<std::string>& path, size_t from) {
  std::string out;
  for (size_t i = from; i < path.size(); ++i) {
    CatInto(out, i == from ? "" : " . ", Text(path[i]));
  }
  return out;
}

struct Value {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return Cat(value); }
  std::string operator()(double value) const {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    char digits[40];
    std::snprintf(digits, sizeof(digits), "%.17e", value);
    return digits;
  }
  std::string operator()(const std::string& value) const { return Text(value); }
};

}  // namespace toml_text_internal

inline std::string WriteToml(const TomlDocument& document) {
  namespace internal = toml_text_internal;
  std::string out;
  size_t depth = 0;  // of the table that is open
  auto table = document.tables.begin();
  for (const TomlEntry& entry : document.entries) {
    for (; table != document.tables.end() && table->line < entry.line;
         ++table) {
      CatInto(out, "[", internal::Path(table->path, 0), "]\r\n");
      depth = table->path.size();
    }
    CatInto(out, internal::Path(entry.path, depth), " = ",
            std::visit(internal::Value(), entry.value), "\r\n");
  }
  for (; table != document.tables.end(); ++table) {
    CatInto(out, "[", internal::Path(table->path, 0), "]\r\n");
  }
  return out;
}

// Same keys with the same values, in the same order.
inline bool SameToml(const TomlDocument& a, const TomlDocument& b) {
  const auto same_value = [](const TomlValue& x, const TomlValue& y) {
    const double* const number = std::get_if<double>(&x);
    const double* const other = std::get_if<double>(&y);
    const bool both_nan = number != nullptr && other != nullptr &&
                          std::isnan(*number) && std::isnan(*other);
    return both_nan || x == y;
  };
  if (a.tables.size() != b.tables.size() ||
      a.entries.size() != b.entries.size()) {
    return false;
  }
  for (size_t i = 0; i < a.tables.size(); ++i) {
    if (a.tables[i].path != b.tables[i].path) return false;
  }
  for (size_t i = 0; i < a.entries.size(); ++i) {
    if (a.entries[i].path != b.entries[i].path ||
        !same_value(a.entries[i].value, b.entries[i].value)) {
      return false;
    }
  }
  return true;
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_FUZZ_TOML_TEXT_H_

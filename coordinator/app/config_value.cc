#include "coordinator/app/config_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/status/status.h"
#include "consilium/base/strings.h"
#include "coordinator/round/round_types.h"

namespace consilium::config_internal {
namespace {

constexpr size_t kMaxTextBytes = 4096;

std::string Show(const ConfigValue& value) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return Cat(v); }
    std::string operator()(double v) const { return EmitNumber(v); }
    std::string operator()(const std::string& v) const { return Quoted(v); }
  };
  return std::visit(Visitor(), value);
}

absl::Status OutOfRange(const ConfigValue& found, std::string_view low,
                        std::string_view high) {
  return absl::InvalidArgumentError(
      Cat("is ", Show(found), ", must be between ", low, " and ", high));
}

absl::Status Must(const ConfigValue& found, std::string_view what) {
  return absl::InvalidArgumentError(
      Cat("is ", Show(found), ", must be ", what));
}

}  // namespace

absl::Status WrongType(const ConfigValue& found, std::string_view wanted) {
  return Must(found, wanted);
}

std::string EmitText(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  out.push_back('"');
  return out;
}

std::string EmitNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 512> buffer;
  const double size = std::abs(value);
  const bool plain = size == 0 || (size >= 1e-6 && size < 1e15);
  const auto end =
      std::to_chars(
          buffer.data(), buffer.data() + buffer.size(), value,
          plain ? std::chars_format::fixed : std::chars_format::scientific)
          .ptr;
  std::string out(buffer.data(), end);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string EmitBytes(int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"KiB", "MiB", "GiB",
                                                      "TiB", "PiB"};
  int64_t count = bytes;
  size_t unit = 0;
  for (; unit < kUnits.size() && count != 0 && count % 1024 == 0; ++unit) {
    count /= 1024;
  }
  return unit == 0 ? Cat(bytes) : Cat("\"", count, kUnits[unit - 1], "\"");
}

std::string EmitDuration(absl::Duration value) {
  if (value == absl::InfiniteDuration()) return "\"forever\"";
  int64_t left = absl::ToInt64Milliseconds(value);
  if (left == 0) return "\"0\"";
  constexpr std::array<std::pair<int64_t, std::string_view>, 5> kUnits = {
      {{86'400'000, "d"},
       {3'600'000, "h"},
       {60'000, "m"},
       {1000, "s"},
       {1, "ms"}}};
  std::string out = "\"";
  for (const auto& [size, unit] : kUnits) {
    if (left >= size) CatInto(out, left / size, unit);
    left %= size;
  }
  out.push_back('"');
  return out;
}

absl::StatusOr<bool> ReadBool(const ConfigValue& value) {
  if (const auto* v = std::get_if<bool>(&value)) return *v;
  return WrongType(value, "true or false");
}

absl::StatusOr<int64_t> ReadCount(const ConfigValue& value, int64_t low,
                                  int64_t high) {
  const auto* v = std::get_if<int64_t>(&value);
  if (v == nullptr) return WrongType(value, "an integer");
  if (*v < low || *v > high) return OutOfRange(value, Cat(low), Cat(high));
  return *v;
}

absl::StatusOr<double> ReadNumber(const ConfigValue& value, double low,
                                  double high) {
  double v = 0.0;
  if (const auto* real = std::get_if<double>(&value)) {
    v = *real;
  } else if (const auto* count = std::get_if<int64_t>(&value)) {
    v = static_cast<double>(*count);
  } else {
    return WrongType(value, "a number");
  }
  if (!(v >= low && v <= high)) {
    return OutOfRange(value, EmitNumber(low), EmitNumber(high));
  }
  return v;
}

absl::StatusOr<int64_t> ReadBytes(const ConfigValue& value, int64_t low,
                                  int64_t high) {
  int64_t bytes = 0;
  if (const auto* count = std::get_if<int64_t>(&value)) {
    bytes = *count;
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    const absl::StatusOr<int64_t> parsed = ParseBytes(*text);
    if (!parsed.ok()) return Must(value, "a size such as \"64MiB\"");
    bytes = *parsed;
  } else {
    return WrongType(value, "a size such as \"64MiB\"");
  }
  if (bytes < low || bytes > high) {
    return OutOfRange(value, FormatBytes(static_cast<uint64_t>(low)),
                      FormatBytes(static_cast<uint64_t>(high)));
  }
  return bytes;
}

absl::StatusOr<absl::Duration> ReadDuration(const ConfigValue& value,
                                            absl::Duration low,
                                            absl::Duration high) {
  const auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) return WrongType(value, "a time such as \"90s\"");
  absl::Duration parsed = absl::InfiniteDuration();
  if (*text != "forever") {
    const absl::StatusOr<absl::Duration> finite = ParseDuration(*text);
    if (!finite.ok()) return Must(value, "a time such as \"90s\"");
    parsed = *finite;
    if (parsed != absl::Trunc(parsed, absl::Milliseconds(1))) {
      return Must(value, "a whole number of milliseconds");
    }
  }
  if (parsed < low || parsed > high) {
    return OutOfRange(value, FormatDuration(low), FormatDuration(high));
  }
  return parsed;
}

absl::StatusOr<std::string> ReadText(const ConfigValue& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) return WrongType(value, "text in quotes");
  if (text->size() > kMaxTextBytes) {
    return Must(value, Cat("at most ", kMaxTextBytes, " bytes long"));
  }
  const bool control = std::any_of(text->begin(), text->end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (control) return Must(value, "without control characters");
  return *text;
}

absl::StatusOr<std::string> ReadPath(const ConfigValue& value) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string path, ReadText(value));
  if (path.empty()) return Must(value, "a path");
  return path;
}

absl::StatusOr<std::string> ReadAddress(const ConfigValue& value,
                                        bool may_be_empty) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string address, ReadText(value));
  if (address.empty() && may_be_empty) return address;
  constexpr std::string_view kWanted = "host:port or [address]:port";
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return Must(value, kWanted);
  const std::string_view host(address.data(), colon);
  const bool brackets = host.front() == '[' && host.back() == ']';
  if (!brackets && host.find_first_of(":[]") != std::string_view::npos) {
    return Must(value, kWanted);
  }
  const std::string_view port(address.data() + colon + 1,
                              address.size() - colon - 1);
  int number = -1;
  const auto [end, error] =
      std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number < 0 ||
      number > 65535 || host.find(' ') != std::string_view::npos) {
    return Must(value, kWanted);
  }
  return address;
}

absl::StatusOr<std::string> ReadName(const ConfigValue& value) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string name, ReadText(value));
  const auto word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  if (name.empty() || name.size() > 63 || !word(name[0]) ||
      !std::all_of(name.begin(), name.end(),
                   [&](char c) { return word(c) || c == '-'; })) {
    return Must(value, "1 to 63 of a-z, 0-9 and '-', not '-' first");
  }
  return name;
}

absl::StatusOr<std::string> ReadMetricName(const ConfigValue& value) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string name, ReadText(value));
  if (!name.empty() && !ValidateMetricName(name).ok()) {
    return Must(value, "empty or a metric's name, printable without spaces");
  }
  return name;
}

}  // namespace consilium::config_internal

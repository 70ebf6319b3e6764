#include "consilium/base/strings.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "consilium/base/status_macros.h"

namespace consilium {

std::string Quoted(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  for (const char c : text.substr(0, max_bytes)) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      CatInto(out, "\\x", absl::Hex(static_cast<uint8_t>(c), absl::kZeroPad2));
    }
  }
  out += text.size() > max_bytes ? "\"..." : "\"";
  return out;
}

std::string HexEncode(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) {
    const auto value = std::to_integer<unsigned>(b);
    out += kDigits[value >> 4];
    out += kDigits[value & 15];
  }
  return out;
}

namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// "12.5" of "12.5MiB": the integer part exactly, the fraction as a double.
struct Decimal {
  uint64_t whole = 0;
  double fraction = 0;
};

// Takes a number off the front of `text`; false when there is none or its
// integer part does not fit.
bool TakeDecimal(std::string_view& text, Decimal& out) {
  size_t i = 0;
  for (; i < text.size() && IsDigit(text[i]); ++i) {
    const auto digit = static_cast<uint64_t>(text[i] - '0');
    if (out.whole > (std::numeric_limits<uint64_t>::max() - digit) / 10) {
      return false;
    }
    out.whole = out.whole * 10 + digit;
  }
  if (i == 0) return false;
  if (i + 1 < text.size() && text[i] == '.' && IsDigit(text[i + 1])) {
    double scale = 0.1;
    for (++i; i < text.size() && IsDigit(text[i]); ++i, scale /= 10) {
      out.fraction += scale * (text[i] - '0');
    }
  }
  text.remove_prefix(i);
  return true;
}

}  // namespace

absl::Status HexDecodeTo(std::string_view text, std::span<std::byte> out) {
  if (text.size() != out.size() * 2) {
    return absl::InvalidArgumentError(Cat(Quoted(text, 80), " has ",
                                          text.size(), " characters, expected ",
                                          out.size() * 2, " hex digits"));
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const int high = HexValue(text[2 * i]);
    const int low = HexValue(text[2 * i + 1]);
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError(Cat(Quoted(text, 80),
                                            " is not hexadecimal at character ",
                                            2 * i + (high < 0 ? 0 : 1)));
    }
    out[i] = static_cast<std::byte>(high << 4 | low);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> HexDecode(std::string_view text) {
  if (text.size() % 2 != 0) {
    return absl::InvalidArgumentError(Cat(
        Quoted(text, 80), " has an odd number of hex digits: ", text.size()));
  }
  std::vector<std::byte> out(text.size() / 2);
  CONSILIUM_RETURN_IF_ERROR(HexDecodeTo(text, out));
  return out;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {
      "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && bytes >> 10 * (unit + 1) != 0) ++unit;
  if (bytes % (uint64_t{1} << 10 * unit) == 0) {
    return Cat(bytes >> 10 * unit, " ", kUnits[unit]);
  }
  double value =
      std::ldexp(static_cast<double>(bytes), -static_cast<int>(10 * unit));
  if (value >= 1023.95 && unit + 1 < kUnits.size()) {  // not "1024.0 KiB"
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string internal::DurationFormatter::operator()(
    absl::Duration duration) const {
  if (duration < absl::ZeroDuration()) return Cat("-", (*this)(-duration));
  if (duration == absl::InfiniteDuration()) return "forever";
  if (duration == absl::ZeroDuration()) return "0s";
  const auto rounded = [duration](absl::Duration unit) {
    return absl::Trunc(duration + unit / 2, unit);
  };
  char text[48];
  if (const auto us = rounded(absl::Microseconds(1));
      us < absl::Milliseconds(1)) {
    return Cat(absl::ToInt64Microseconds(us), "us");
  }
  if (const auto ms = rounded(absl::Milliseconds(1)); ms < absl::Seconds(1)) {
    return Cat(absl::ToInt64Milliseconds(ms), "ms");
  }
  if (const auto tenths = rounded(absl::Milliseconds(100));
      tenths < absl::Seconds(10)) {
    std::snprintf(text, sizeof(text), "%.1fs", absl::ToDoubleSeconds(tenths));
    return text;
  }
  const auto pair = [&text](int64_t big, const char* unit, int64_t small,
                            const char* small_unit) {
    std::snprintf(text, sizeof(text), "%lld%s %02lld%s",
                  static_cast<long long>(big), unit,
                  static_cast<long long>(small), small_unit);
    return std::string(text);
  };
  const int64_t seconds = absl::ToInt64Seconds(rounded(absl::Seconds(1)));
  if (seconds < 60) return Cat(seconds, "s");
  if (seconds < 3600) return pair(seconds / 60, "m", seconds % 60, "s");
  const int64_t minutes = absl::ToInt64Minutes(rounded(absl::Minutes(1)));
  if (minutes < 24 * 60) return pair(minutes / 60, "h", minutes % 60, "m");
  const int64_t hours = absl::ToInt64Hours(rounded(absl::Hours(1)));
  return pair(hours / 24, "d", hours % 24, "h");
}

std::string internal::TimeFormatter::operator()(absl::Time time) const {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  struct Unit {
    const char* name;
    uint64_t bytes;
  };
  static constexpr Unit kUnits[] = {
      {"", 1},
      {"b", 1},
      {"kib", uint64_t{1} << 10},
      {"mib", uint64_t{1} << 20},
      {"gib", uint64_t{1} << 30},
      {"tib", uint64_t{1} << 40},
      {"pib", uint64_t{1} << 50},
      {"kb", 1000},
      {"mb", 1000 * 1000},
      {"gb", 1000 * 1000 * 1000},
      {"tb", uint64_t{1000} * 1000 * 1000 * 1000},
      {"pb", uint64_t{1000} * 1000 * 1000 * 1000 * 1000},
  };
  const auto error = [text](std::string_view why) {
    return absl::InvalidArgumentError(
        Cat(Quoted(text), " is not a size: ", why,
            "; write a number and one of B, KiB, MiB, GiB, TiB, PiB, kB, MB, "
            "GB, TB, PB, such as 256MiB"));
  };
  std::string_view rest = Trimmed(text);
  Decimal number;
  if (!TakeDecimal(rest, number)) {
    return error("it does not start with a number in range");
  }
  std::string name(Trimmed(rest));
  std::transform(name.begin(), name.end(), name.begin(), ToLower);
  const auto unit =
      std::find_if(std::begin(kUnits), std::end(kUnits),
                   [&name](const Unit& u) { return name == u.name; });
  if (unit == std::end(kUnits)) return error("the unit is unknown");
  constexpr auto kMax =
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  // The fraction adds at most one unit, which is far below the slack to 2^64.
  const auto extra = static_cast<uint64_t>(
      std::llround(number.fraction * static_cast<double>(unit->bytes)));
  if (number.whole > kMax / unit->bytes ||
      number.whole * unit->bytes + extra > kMax) {
    return error("it is above 2^63 - 1 bytes");
  }
  return static_cast<int64_t>(number.whole * unit->bytes + extra);
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  struct Unit {
    std::string_view name;
    absl::Duration length;
  };
  static const Unit kUnits[] = {
      {"w", absl::Hours(24 * 7)},    {"d", absl::Hours(24)},
      {"h", absl::Hours(1)},         {"m", absl::Minutes(1)},
      {"s", absl::Seconds(1)},       {"ms", absl::Milliseconds(1)},
      {"us", absl::Microseconds(1)},
  };
  const absl::Duration longest = absl::Hours(24 * 36525);
  const auto error = [text](std::string_view why) {
    return absl::InvalidArgumentError(
        Cat(Quoted(text), " is not a duration: ", why,
            "; write numbers with units w, d, h, m, s, ms or us, largest "
            "first, such as 15m or 1h30m"));
  };
  std::string_view rest = Trimmed(text);
  if (rest == "0") return absl::ZeroDuration();
  if (rest.empty()) return error("it is empty");
  absl::Duration total;
  const Unit* next = std::begin(kUnits);
  while (!rest.empty()) {
    Decimal number;
    if (!TakeDecimal(rest, number)) return error("a number is missing");
    size_t letters = 0;
    while (letters < rest.size() && ToLower(rest[letters]) >= 'a' &&
           ToLower(rest[letters]) <= 'z') {
      ++letters;
    }
    const std::string_view name = rest.substr(0, letters);
    if (name.empty()) return error("a unit is missing");
    const auto is_it = [name](const Unit& u) { return name == u.name; };
    const Unit* unit = std::find_if(next, std::end(kUnits), is_it);
    if (unit == std::end(kUnits)) {
      return error(std::any_of(std::begin(kUnits), std::end(kUnits), is_it)
                       ? "its units are repeated or out of order"
                       : "the unit is unknown");
    }
    // Saturates at infinity instead of overflowing.
    const auto whole = static_cast<int64_t>(std::min<uint64_t>(
        number.whole,
        static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
    total += whole * unit->length + number.fraction * unit->length;
    if (total > longest) return error("it is above 100 years");
    next = unit + 1;
    rest = Trimmed(rest.substr(letters));
  }
  return total;
}

}  // namespace consilium

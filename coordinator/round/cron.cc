#include "coordinator/round/cron.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr size_t kMaxExpressionBytes = 256;

constexpr std::array<std::string_view, 12> kMonths = {
    "jan", "feb", "mar", "apr", "may", "jun",
    "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> kWeekdays = {
    "sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct Field {
  std::string_view name;
  int low;
  int high;
  std::span<const std::string_view> names;  // of low, low + 1, ...
};
constexpr Field kMinute = {"minute", 0, 59, {}};
constexpr Field kHour = {"hour", 0, 23, {}};
constexpr Field kDay = {"day of month", 1, 31, {}};
constexpr Field kMonth = {"month", 1, 12, kMonths};
constexpr Field kWeekday = {"day of week", 0, 7, kWeekdays};

struct Shorthand {
  std::string_view name;
  std::string_view expression;
};
constexpr std::array<Shorthand, 7> kShorthands = {{
    {"@hourly", "0 * * * *"},
    {"@daily", "0 0 * * *"},
    {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"},
    {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
}};

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  for (;;) {
    const size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return words;
    text.remove_prefix(begin);
    const size_t end = std::min(text.find_first_of(" \t"), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

absl::Status Bad(const Field& field, std::string_view item,
                 std::string_view why) {
  return absl::InvalidArgumentError(
      Cat("cron ", field.name, " ", Quoted(item), ": ", why));
}

absl::StatusOr<int> Number(const Field& field, std::string_view text, int low,
                           int high) {
  const bool digits = !text.empty() && text.size() <= 4 &&
                      std::all_of(text.begin(), text.end(),
                                  [](char c) { return c >= '0' && c <= '9'; });
  int value = 0;
  for (const char c : digits ? text : std::string_view()) {
    value = value * 10 + (c - '0');
  }
  if (!digits || value < low || value > high) {
    return Bad(field, text, Cat("must be between ", low, " and ", high));
  }
  return value;
}

absl::StatusOr<int> Value(const Field& field, std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  for (size_t i = 0; i < field.names.size(); ++i) {
    if (field.names[i] == lower) return field.low + static_cast<int>(i);
  }
  return Number(field, text, field.low, field.high);
}

// Calls set(value) for each value of the item.
template <typename Set>
absl::Status ParseItem(const Field& field, std::string_view item, Set set) {
  const size_t slash = item.find('/');
  const std::string_view range = item.substr(0, slash);
  int step = 1;
  if (slash != std::string_view::npos) {
    CONSILIUM_ASSIGN_OR_RETURN(
        step, Number(field, item.substr(slash + 1), 1, field.high));
  }
  int first = field.low;
  int last = field.high;
  if (range != "*") {
    const size_t dash = range.find('-');
    CONSILIUM_ASSIGN_OR_RETURN(first, Value(field, range.substr(0, dash)));
    last = first;
    if (dash != std::string_view::npos) {
      CONSILIUM_ASSIGN_OR_RETURN(last, Value(field, range.substr(dash + 1)));
    } else if (slash != std::string_view::npos) {
      return Bad(field, item,
                 Cat("a step needs a range, such as ", range, "-", field.high,
                     item.substr(slash)));
    }
    if (last < first) {
      return Bad(field, item,
                 "the range runs backwards; write it as two, with a comma");
    }
  }
  for (int value = first; value <= last; value += step) set(value);
  return absl::OkStatus();
}

template <size_t N>
absl::Status ParseField(const Field& field, std::string_view text,
                        std::bitset<N>& out) {
  for (const std::string_view item : Split(text, ',')) {
    CONSILIUM_RETURN_IF_ERROR(ParseItem(field, item, [&](int value) {
      out.set(static_cast<size_t>(value) % N);  // Sunday is also 7
    }));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Cron> Cron::Parse(std::string_view expression) {
  if (expression.size() > kMaxExpressionBytes) {
    return absl::InvalidArgumentError(Cat("cron expression of ",
                                          expression.size(), " bytes, at most ",
                                          kMaxExpressionBytes, " are allowed"));
  }
  std::vector<std::string_view> words = Words(expression);
  for (const Shorthand& shorthand : kShorthands) {
    if (words.size() == 1 && words[0] == shorthand.name) {
      words = Words(shorthand.expression);
    }
  }
  if (words.size() != 5) {
    return absl::InvalidArgumentError(
        Cat("cron expression ", Quoted(expression), " has ", words.size(),
            " fields, must have 5: minute, hour, day of month, month, day of "
            "week"));
  }
  Cron cron;
  CONSILIUM_RETURN_IF_ERROR(ParseField(kMinute, words[0], cron.minutes_));
  CONSILIUM_RETURN_IF_ERROR(ParseField(kHour, words[1], cron.hours_));
  CONSILIUM_RETURN_IF_ERROR(ParseField(kDay, words[2], cron.days_));
  CONSILIUM_RETURN_IF_ERROR(ParseField(kMonth, words[3], cron.months_));
  CONSILIUM_RETURN_IF_ERROR(ParseField(kWeekday, words[4], cron.weekdays_));
  cron.any_day_ = words[2][0] == '*';
  cron.any_weekday_ = words[4][0] == '*';
  if (!cron.NextDay(absl::CivilDay(2000, 1, 1)).has_value()) {
    return absl::InvalidArgumentError(
        Cat("cron expression ", Quoted(expression), " never fires: no such ",
            "day exists"));
  }
  return cron;
}

bool Cron::MatchesDay(absl::CivilDay day) const {
  if (!months_.test(static_cast<size_t>(day.month()))) return false;
  // absl counts weekdays from Monday.
  const size_t weekday =
      (static_cast<size_t>(absl::GetWeekday(day)) + 1) % weekdays_.size();
  const bool by_day = days_.test(static_cast<size_t>(day.day()));
  const bool by_weekday = weekdays_.test(weekday);
  return any_day_ || any_weekday_ ? by_day && by_weekday : by_day || by_weekday;
}

std::optional<absl::CivilDay> Cron::NextDay(absl::CivilDay from) const {
  // The Gregorian calendar, weekdays included, repeats after 400 years.
  const absl::CivilDay end = from + 146097;
  for (absl::CivilDay day = from; day < end;) {
    if (!months_.test(static_cast<size_t>(day.month()))) {
      day = absl::CivilDay(absl::CivilMonth(day) + 1);
      continue;
    }
    if (MatchesDay(day)) return day;
    ++day;
  }
  return std::nullopt;
}

absl::Time Cron::NextFire(absl::Time after, const absl::TimeZone& zone) const {
  // Local times in civil order map to instants in order (skipped ones to the
  // change, repeated ones to their first), so the first match past `after` is
  // the answer, and none before the local time of `after` can be.
  const absl::CivilMinute start(zone.At(after).cs);
  std::optional<absl::CivilDay> day = NextDay(absl::CivilDay(start));
  for (; day.has_value(); day = NextDay(*day + 1)) {
    for (int hour = 0; hour < 24; ++hour) {
      if (!hours_.test(static_cast<size_t>(hour))) continue;
      for (int minute = 0; minute < 60; ++minute) {
        if (!minutes_.test(static_cast<size_t>(minute))) continue;
        const absl::CivilMinute local(day->year(), day->month(), day->day(),
                                      hour, minute);
        if (local < start) continue;
        const absl::TimeZone::TimeInfo info = zone.At(absl::CivilSecond(local));
        const absl::Time at = info.kind == absl::TimeZone::TimeInfo::SKIPPED
                                  ? info.trans
                                  : info.pre;
        if (at > after) return at;
      }
    }
  }
  return absl::InfiniteFuture();  // Parse() refused such an expression
}

}  // namespace consilium

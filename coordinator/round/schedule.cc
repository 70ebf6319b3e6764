#include "coordinator/round/schedule.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::array<std::string_view, 4> kKindNames = {"manual", "every",
                                                        "cron", "continuous"};
constexpr absl::Duration kMinimumPeriod = absl::Seconds(1);
constexpr absl::Duration kMaximumPeriod = absl::Hours(24 * 366);
// Clocks are corrected by less than this without anybody's noticing.
constexpr absl::Duration kSmallSetback = absl::Hours(1);
// That rounds.failure_pause may ask for.
constexpr absl::Duration kLongestPause = absl::Hours(24);

absl::StatusOr<ScheduleKind> ParseKind(std::string_view name) {
  for (size_t i = 0; i < kKindNames.size(); ++i) {
    if (kKindNames[i] == name) return static_cast<ScheduleKind>(i);
  }
  return absl::InvalidArgumentError(
      Cat("schedule is ", Quoted(name),
          ", must be one of manual, every, cron, continuous"));
}

}  // namespace

std::string_view ScheduleKindName(ScheduleKind kind) {
  return kKindNames[static_cast<size_t>(kind)];
}

absl::StatusOr<absl::TimeZone> FindTimeZone(std::string_view name) {
  if (name.empty()) return absl::UTCTimeZone();
  // The loader also opens files by path, which a name must not reach.
  const bool plain = name.size() <= 64 && name[0] != '/' &&
                     name.find("..") == std::string_view::npos &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') ||
                              (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '/' || c == '_' ||
                              c == '-' || c == '+';
                     });
  absl::TimeZone zone;
  if (!plain || name == "localtime" ||
      !absl::LoadTimeZone(AbslView(name), &zone)) {
    return absl::InvalidArgumentError(
        Cat("time zone ", Quoted(name),
            " is not known to this system; use an IANA name such as ",
            "Europe/Berlin (package tzdata)"));
  }
  return zone;
}

absl::StatusOr<Schedule> Schedule::Create(std::string_view kind,
                                          std::string_view expression,
                                          std::string_view time_zone) {
  Schedule s;
  CONSILIUM_ASSIGN_OR_RETURN(s.kind_, ParseKind(kind));
  CONSILIUM_ASSIGN_OR_RETURN(s.zone_, FindTimeZone(time_zone));
  s.expression_ = std::string(expression);
  if (!time_zone.empty()) s.time_zone_ = std::string(time_zone);
  switch (s.kind_) {
    case ScheduleKind::kManual:
    case ScheduleKind::kContinuous:
      if (expression.empty()) break;
      return absl::InvalidArgumentError(Cat(
          "schedule ", kind, " takes no expression, has ", Quoted(expression)));
    case ScheduleKind::kEvery: {
      absl::StatusOr<absl::Duration> period = ParseDuration(expression);
      if (!period.ok()) return Annotate(period.status(), "schedule every");
      if (*period < kMinimumPeriod || *period > kMaximumPeriod) {
        return absl::InvalidArgumentError(
            Cat("schedule every ", Quoted(expression), " must be between ",
                FormatDuration(kMinimumPeriod), " and ",
                FormatDuration(kMaximumPeriod)));
      }
      s.period_ = *period;
      break;
    }
    case ScheduleKind::kCron: {
      CONSILIUM_ASSIGN_OR_RETURN(s.cron_, Cron::Parse(expression));
      break;
    }
  }
  return s;
}

std::optional<absl::Time> Schedule::NextFire(absl::Time after,
                                             absl::Time anchor) const {
  switch (kind_) {
    case ScheduleKind::kManual:
      return std::nullopt;
    case ScheduleKind::kContinuous:
      return after;
    case ScheduleKind::kCron:
      return cron_->NextFire(after, zone_);
    case ScheduleKind::kEvery: {
      absl::Duration rest;
      int64_t passed = absl::IDivDuration(after - anchor, period_, &rest);
      if (rest < absl::ZeroDuration()) --passed;  // set back before the anchor
      return anchor + period_ * (passed + 1);
    }
  }
  return std::nullopt;
}

std::string Schedule::Describe() const {
  const std::string_view kind = ScheduleKindName(kind_);
  switch (kind_) {
    case ScheduleKind::kEvery:
      return Cat(kind, " ", FormatDuration(period_));
    case ScheduleKind::kCron:
      return Cat(kind, " ", expression_, " (", time_zone_, ")");
    default:
      return std::string(kind);
  }
}

ScheduleStep StepSchedule(const Schedule& schedule, absl::Time anchor,
                          bool paused, std::optional<absl::Time> next_at,
                          absl::Time now) {
  if (schedule.kind() == ScheduleKind::kManual) return {};
  if (schedule.kind() == ScheduleKind::kContinuous) {
    // A pause after a failure; one left far ahead by a clock set back is over.
    const bool wait = next_at.has_value() && now < *next_at &&
                      *next_at - now <= kLongestPause;
    if (wait) return {false, next_at};
    return {!paused, {}};
  }
  const std::optional<absl::Time> next = schedule.NextFire(now, anchor);
  if (paused || !next_at.has_value()) return {false, next};
  if (*next_at <= now) return {true, next};
  // Between two fires the one stored is the next one. One further ahead was
  // stored by a clock since set back.
  const std::optional<absl::Time> later =
      schedule.NextFire(now + kSmallSetback, anchor);
  if (*later < *next_at) return {false, next};
  return {false, next_at};
}

}  // namespace consilium

// When rounds begin by themselves. Pure: no clock.
//
//   manual       never; an operator starts each round
//   every        "15m", "1d": at anchor + k * period
//   cron         five fields in a time zone; see Cron in cron.h
//   continuous   as soon as the round before allows it, but not before the
//                stored next_at (a pause after a failure)
//
// Missed fires collapse: however many passed while the coordinator was down,
// one round begins. What passed while the schedule was paused is dropped.

#ifndef CONSILIUM_COORDINATOR_ROUND_SCHEDULE_H_
#define CONSILIUM_COORDINATOR_ROUND_SCHEDULE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/round/cron.h"

namespace consilium {

enum class ScheduleKind { kManual, kEvery, kCron, kContinuous };
std::string_view ScheduleKindName(ScheduleKind kind);

// Immutable value.
class Schedule {
 public:
  // `expression` belongs to every and cron and must be empty otherwise; an
  // empty `time_zone` is UTC.
  // Errors: INVALID_ARGUMENT  kind, expression or time zone; says what is wrong
  static absl::StatusOr<Schedule> Create(std::string_view kind,
                                         std::string_view expression,
                                         std::string_view time_zone);
  Schedule() = default;  // manual

  ScheduleKind kind() const { return kind_; }
  const std::string& expression() const { return expression_; }
  const std::string& time_zone() const { return time_zone_; }

  // The first fire strictly after `after`; `anchor` is when the schedule was
  // set. None: manual. Continuous: `after` itself.
  std::optional<absl::Time> NextFire(absl::Time after, absl::Time anchor) const;

  // "every 15m", "cron 0 3 * * 1-5 (Europe/Berlin)", "manual".
  std::string Describe() const;

 private:
  ScheduleKind kind_ = ScheduleKind::kManual;
  std::string expression_;
  std::string time_zone_ = "UTC";
  absl::Duration period_;
  std::optional<Cron> cron_;
  absl::TimeZone zone_ = absl::UTCTimeZone();
};

struct ScheduleStep {
  bool fire = false;
  std::optional<absl::Time> next_at;  // store this
};

// Whether to begin a round at `now`, given the stored `next_at` (none: not yet
// computed). A `next_at` that a clock set back by more than an hour has left
// too far ahead is computed anew; less than that never fires a second time.
ScheduleStep StepSchedule(const Schedule& schedule, absl::Time anchor,
                          bool paused, std::optional<absl::Time> next_at,
                          absl::Time now);

// By its IANA name ("Europe/Berlin"); empty is UTC.
// Errors: INVALID_ARGUMENT  unknown to this system, or not a zone's name
absl::StatusOr<absl::TimeZone> FindTimeZone(std::string_view name);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_SCHEDULE_H_

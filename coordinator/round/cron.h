// Cron expressions: minute, hour, day of month, month, day of week.
//
//   field  = "*" | item { "," item }          item = range [ "/" step ]
//   range  = "*" | value [ "-" value ]        a step needs "*" or a range
//   minute 0-59, hour 0-23, day of month 1-31, month 1-12 or jan-dec,
//   day of week 0-7 or sun-sat (0 and 7 are Sunday)
//   "@hourly", "@daily", "@weekly", "@monthly", "@yearly" stand for all five.
//
// As in cron(8): where neither day field begins with "*", a day that matches
// either of them counts; else it must match both.
//
// Daylight saving: a local time that is skipped fires at the instant of the
// change, one that is repeated fires at its first occurrence only.

#ifndef CONSILIUM_COORDINATOR_ROUND_CRON_H_
#define CONSILIUM_COORDINATOR_ROUND_CRON_H_

#include <bitset>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"

namespace consilium {

// Immutable value.
class Cron {
 public:
  // Errors: INVALID_ARGUMENT  names the field and what is wrong with it; also
  //                           for days that never come ("0 0 31 2 *")
  static absl::StatusOr<Cron> Parse(std::string_view expression);

  // The first fire strictly after `after` in `zone`.
  absl::Time NextFire(absl::Time after, const absl::TimeZone& zone) const;

 private:
  bool MatchesDay(absl::CivilDay day) const;
  std::optional<absl::CivilDay> NextDay(absl::CivilDay from) const;

  std::bitset<60> minutes_;
  std::bitset<24> hours_;
  std::bitset<32> days_;      // of the month, from 1
  std::bitset<13> months_;    // from 1
  std::bitset<7> weekdays_;   // from Sunday
  bool any_day_ = false;      // day of month begins with "*"
  bool any_weekday_ = false;  // day of week begins with "*"
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_CRON_H_

#include "coordinator/round/schedule.h"

#include <string>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

const absl::Time kSet = absl::FromUnixSeconds(1767225600);  // 2026-01-01

Schedule Make(const char* kind, const char* expression, const char* zone = "") {
  absl::StatusOr<Schedule> schedule = Schedule::Create(kind, expression, zone);
  CONSILIUM_CHECK(schedule.ok());
  return *std::move(schedule);
}

TEST(ScheduleTest, ManualNeverFires) {
  EXPECT_EQ(Make("manual", "").NextFire(kSet, kSet), std::nullopt);
  EXPECT_EQ(Schedule().kind(), ScheduleKind::kManual);
  const ScheduleStep step =
      StepSchedule(Schedule(), kSet, false, std::nullopt, kSet);
  EXPECT_FALSE(step.fire);
  EXPECT_EQ(step.next_at, std::nullopt);
}

TEST(ScheduleTest, ContinuousAlwaysFires) {
  const Schedule schedule = Make("continuous", "");
  EXPECT_EQ(schedule.NextFire(kSet, kSet), kSet);
  EXPECT_TRUE(StepSchedule(schedule, kSet, false, std::nullopt, kSet).fire);
  EXPECT_FALSE(StepSchedule(schedule, kSet, true, std::nullopt, kSet).fire);
}

TEST(ScheduleTest, ContinuousWaitsForAStoredPause) {
  const Schedule schedule = Make("continuous", "");
  const absl::Time next = kSet + absl::Seconds(30);
  const ScheduleStep early =
      StepSchedule(schedule, kSet, false, next, next - absl::Seconds(1));
  EXPECT_FALSE(early.fire);
  EXPECT_EQ(early.next_at, next);
  const ScheduleStep due = StepSchedule(schedule, kSet, false, next, next);
  EXPECT_TRUE(due.fire);
  EXPECT_EQ(due.next_at, std::nullopt);
  // A clock set back by a week does not make a pause of a week.
  EXPECT_TRUE(
      StepSchedule(schedule, kSet, false, next, next - absl::Hours(24 * 7))
          .fire);
}

TEST(ScheduleTest, EveryKeepsToItsGrid) {
  const Schedule schedule = Make("every", "15m");
  EXPECT_EQ(schedule.NextFire(kSet, kSet), kSet + absl::Minutes(15));
  EXPECT_EQ(schedule.NextFire(kSet + absl::Minutes(15), kSet),
            kSet + absl::Minutes(30));
  EXPECT_EQ(schedule.NextFire(kSet + absl::Minutes(31), kSet),
            kSet + absl::Minutes(45));
  EXPECT_EQ(schedule.NextFire(kSet - absl::Minutes(20), kSet),
            kSet - absl::Minutes(15));
}

TEST(ScheduleTest, FiresWhenDueAndSaysWhenNext) {
  const Schedule schedule = Make("every", "15m");
  ScheduleStep step = StepSchedule(schedule, kSet, false, std::nullopt, kSet);
  EXPECT_FALSE(step.fire);
  EXPECT_EQ(step.next_at, kSet + absl::Minutes(15));
  step = StepSchedule(schedule, kSet, false, step.next_at,
                      kSet + absl::Minutes(14));
  EXPECT_FALSE(step.fire);
  step = StepSchedule(schedule, kSet, false, step.next_at,
                      kSet + absl::Minutes(15));
  EXPECT_TRUE(step.fire);
  EXPECT_EQ(step.next_at, kSet + absl::Minutes(30));
}

TEST(ScheduleTest, WhatWasMissedCollapsesIntoOne) {
  const Schedule schedule = Make("cron", "0 * * * *");
  ScheduleStep step = StepSchedule(schedule, kSet, false, kSet + absl::Hours(1),
                                   kSet + absl::Hours(30) + absl::Minutes(20));
  EXPECT_TRUE(step.fire);
  EXPECT_EQ(step.next_at, kSet + absl::Hours(31));
  step = StepSchedule(schedule, kSet, false, step.next_at,
                      kSet + absl::Hours(30) + absl::Minutes(20));
  EXPECT_FALSE(step.fire);
}

TEST(ScheduleTest, WhatPassedDuringAPauseIsDropped) {
  const Schedule schedule = Make("every", "15m");
  ScheduleStep step = StepSchedule(
      schedule, kSet, true, kSet + absl::Minutes(15), kSet + absl::Minutes(50));
  EXPECT_FALSE(step.fire);
  EXPECT_EQ(step.next_at, kSet + absl::Hours(1));
  step = StepSchedule(schedule, kSet, false, step.next_at,
                      kSet + absl::Minutes(51));
  EXPECT_FALSE(step.fire);
}

TEST(ScheduleTest, AClockSetBackALittleNeverFiresTwice) {
  const Schedule schedule = Make("cron", "0 3 * * *");
  const absl::Time three = kSet + absl::Hours(3);
  ScheduleStep step = StepSchedule(schedule, kSet, false, three, three);
  ASSERT_TRUE(step.fire);
  const std::optional<absl::Time> tomorrow = step.next_at;
  step =
      StepSchedule(schedule, kSet, false, tomorrow, three - absl::Minutes(10));
  EXPECT_FALSE(step.fire);
  EXPECT_EQ(step.next_at, tomorrow);
}

TEST(ScheduleTest, AClockSetBackAMonthDoesNotWaitForAMonth) {
  for (const Schedule& schedule :
       {Make("cron", "0 3 * * *"), Make("every", "1d")}) {
    const absl::Time wrong = kSet + absl::Hours(24 * 30);
    const std::optional<absl::Time> stored = schedule.NextFire(wrong, wrong);
    const ScheduleStep step =
        StepSchedule(schedule, wrong, false, stored, kSet);
    EXPECT_FALSE(step.fire);
    ASSERT_TRUE(step.next_at.has_value());
    EXPECT_LE(*step.next_at, kSet + absl::Hours(24)) << schedule.Describe();
  }
}

TEST(ScheduleTest, DescribesItself) {
  EXPECT_EQ(Make("manual", "").Describe(), "manual");
  EXPECT_EQ(Make("every", "90m").Describe(), "every 1h 30m");
  EXPECT_EQ(Make("cron", "0 3 * * 1-5", "Europe/Berlin").Describe(),
            "cron 0 3 * * 1-5 (Europe/Berlin)");
  EXPECT_EQ(Make("cron", "@daily").time_zone(), "UTC");
}

TEST(ScheduleTest, MistakesAreNamed) {
  const auto bad = [](const char* kind, const char* expression,
                      const char* zone, const char* says) {
    EXPECT_THAT(Schedule::Create(kind, expression, zone),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << kind << " " << expression;
  };
  bad("sometimes", "", "", "manual, every, cron, continuous");
  bad("manual", "15m", "", "takes no expression");
  bad("every", "", "", "schedule every");
  bad("every", "15", "", "schedule every");
  bad("every", "0", "", "must be between");
  bad("every", "2000d", "", "must be between");
  bad("cron", "x", "", "has 1 fields");
  bad("cron", "@daily", "Mars/Olympus", "Mars/Olympus");
  bad("cron", "@daily", "/etc/passwd", "not known");
  bad("cron", "@daily", "../../etc/passwd", "not known");
  bad("cron", "@daily", "file:/etc/passwd", "not known");
  bad("cron", "@daily", "libc:UTC", "not known");
}

}  // namespace
}  // namespace consilium

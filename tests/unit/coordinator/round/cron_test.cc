#include "coordinator/round/cron.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "consilium/base/strings.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::TimeZone Zone(const char* name) {
  absl::TimeZone zone;
  CONSILIUM_CHECK(absl::LoadTimeZone(name, &zone));
  return zone;
}

absl::Time Utc(const char* text) {
  absl::Time time;
  std::string error;
  CONSILIUM_CHECK(absl::ParseTime(absl::RFC3339_full, text, &time, &error));
  return time;
}

std::vector<std::string> Fires(const char* expression, const char* zone_name,
                               const char* after, int count) {
  const absl::StatusOr<Cron> cron = Cron::Parse(expression);
  EXPECT_OK(cron);
  const absl::TimeZone zone = Zone(zone_name);
  std::vector<std::string> fires;
  absl::Time at = Utc(after);
  for (int i = 0; i < count && cron.ok(); ++i) {
    at = cron->NextFire(at, zone);
    fires.push_back(absl::FormatTime("%Y-%m-%dT%H:%M%Ez", at, zone));
  }
  return fires;
}

TEST(CronTest, FiresStrictlyAfter) {
  EXPECT_THAT(Fires("0 3 * * *", "UTC", "2026-01-01T02:59:59Z", 2),
              ElementsAre("2026-01-01T03:00+00:00", "2026-01-02T03:00+00:00"));
  EXPECT_THAT(Fires("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", 1),
              ElementsAre("2026-01-02T03:00+00:00"));
  EXPECT_THAT(Fires("0 3 * * *", "UTC", "2026-01-01T03:00:00.5Z", 1),
              ElementsAre("2026-01-02T03:00+00:00"));
}

TEST(CronTest, ListsRangesStepsAndNames) {
  EXPECT_THAT(Fires("5,35 9-10 * * *", "UTC", "2026-01-01T00:00:00Z", 5),
              ElementsAre("2026-01-01T09:05+00:00", "2026-01-01T09:35+00:00",
                          "2026-01-01T10:05+00:00", "2026-01-01T10:35+00:00",
                          "2026-01-02T09:05+00:00"));
  EXPECT_THAT(Fires("*/25 0 * * *", "UTC", "2025-12-31T23:00:00Z", 4),
              ElementsAre("2026-01-01T00:00+00:00", "2026-01-01T00:25+00:00",
                          "2026-01-01T00:50+00:00", "2026-01-02T00:00+00:00"));
  EXPECT_THAT(Fires("0 0 1 JAN-Mar/2 *", "UTC", "2026-01-01T00:00:00Z", 3),
              ElementsAre("2026-03-01T00:00+00:00", "2027-01-01T00:00+00:00",
                          "2027-03-01T00:00+00:00"));
  EXPECT_THAT(Fires("0 3 * * mon-fri", "UTC", "2026-01-02T12:00:00Z", 2),
              ElementsAre("2026-01-05T03:00+00:00", "2026-01-06T03:00+00:00"));
}

TEST(CronTest, SundayIsZeroAndSeven) {
  for (const char* expression : {"0 0 * * 0", "0 0 * * 7", "0 0 * * sun"}) {
    EXPECT_THAT(Fires(expression, "UTC", "2026-01-01T00:00:00Z", 1),
                ElementsAre("2026-01-04T00:00+00:00"));
  }
  EXPECT_THAT(Fires("0 0 * * 6-7", "UTC", "2026-01-01T00:00:00Z", 3),
              ElementsAre("2026-01-03T00:00+00:00", "2026-01-04T00:00+00:00",
                          "2026-01-10T00:00+00:00"));
}

TEST(CronTest, TwoDayFieldsMeanEitherOfThem) {
  EXPECT_THAT(Fires("0 0 13 * fri", "UTC", "2026-02-01T00:00:00Z", 4),
              ElementsAre("2026-02-06T00:00+00:00", "2026-02-13T00:00+00:00",
                          "2026-02-20T00:00+00:00", "2026-02-27T00:00+00:00"));
  EXPECT_THAT(Fires("0 0 15 * fri", "UTC", "2026-02-13T00:00:00Z", 2),
              ElementsAre("2026-02-15T00:00+00:00", "2026-02-20T00:00+00:00"));
}

TEST(CronTest, AStarInOneDayFieldMeansBoth) {
  // Fridays whose date is odd.
  EXPECT_THAT(Fires("0 0 */2 * fri", "UTC", "2026-01-01T00:00:00Z", 3),
              ElementsAre("2026-01-09T00:00+00:00", "2026-01-23T00:00+00:00",
                          "2026-02-13T00:00+00:00"));
}

TEST(CronTest, TheEndOfTheMonthAndLeapDays) {
  EXPECT_THAT(Fires("0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", 2),
              ElementsAre("2026-03-31T00:00+00:00", "2026-05-31T00:00+00:00"));
  EXPECT_THAT(Fires("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
              ElementsAre("2104-02-29T00:00+00:00"));
}

TEST(CronTest, Shorthands) {
  EXPECT_THAT(Fires("@hourly", "UTC", "2026-01-01T00:10:00Z", 1),
              ElementsAre("2026-01-01T01:00+00:00"));
  EXPECT_THAT(Fires("@daily", "UTC", "2026-01-01T00:00:00Z", 1),
              ElementsAre("2026-01-02T00:00+00:00"));
  EXPECT_THAT(Fires("@weekly", "UTC", "2026-01-01T00:00:00Z", 1),
              ElementsAre("2026-01-04T00:00+00:00"));
  EXPECT_THAT(Fires("@yearly", "UTC", "2026-01-01T00:00:00Z", 1),
              ElementsAre("2027-01-01T00:00+00:00"));
}

// Berlin: 2026-03-29 02:00 +01 becomes 03:00 +02.
TEST(CronTest, ASkippedLocalTimeFiresAtTheChange) {
  EXPECT_THAT(Fires("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
              ElementsAre("2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00",
                          "2026-03-30T02:30+02:00"));
  // Several skipped times and the valid one at the change are one fire.
  EXPECT_THAT(
      Fires("*/20 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
      ElementsAre("2026-03-29T03:00+02:00", "2026-03-29T03:20+02:00",
                  "2026-03-29T03:40+02:00", "2026-03-30T02:00+02:00"));
}

// Berlin: 2026-10-25 03:00 +02 becomes 02:00 +01.
TEST(CronTest, ARepeatedLocalTimeFiresOnce) {
  EXPECT_THAT(Fires("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"));
  // Asked within the second occurrence.
  EXPECT_THAT(Fires("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
              ElementsAre("2026-10-26T02:30+01:00"));
  EXPECT_THAT(Fires("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 2),
              ElementsAre("2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00"));
}

// New York: 2026-03-08 02:00 -05 becomes 03:00 -04; 2026-11-01 02:00 -04
// becomes 01:00 -05.
TEST(CronTest, TheOtherSideOfTheOcean) {
  EXPECT_THAT(
      Fires("15 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
      ElementsAre("2026-03-08T03:00-04:00", "2026-03-09T02:15-04:00"));
  EXPECT_THAT(
      Fires("15 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
      ElementsAre("2026-11-01T01:15-04:00", "2026-11-02T01:15-05:00"));
}

TEST(CronTest, ADayThatIsSkippedAltogetherFiresAtTheChange) {
  // Samoa went from 2011-12-29 straight to 2011-12-31.
  EXPECT_THAT(Fires("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z", 1),
              ElementsAre("2011-12-31T00:00+14:00"));
}

TEST(CronTest, MistakesAreNamed) {
  const auto bad = [](std::string_view expression, const char* says) {
    EXPECT_THAT(Cron::Parse(expression),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << expression;
  };
  bad("", "has 0 fields");
  bad("0 3 * *", "has 4 fields");
  bad("0 3 * * * *", "has 6 fields");
  bad("60 3 * * *", "minute \"60\": must be between 0 and 59");
  bad("0 24 * * *", "hour \"24\"");
  bad("0 0 0 * *", "day of month \"0\"");
  bad("0 0 * 13 *", "month \"13\"");
  bad("0 0 * * 8", "day of week \"8\"");
  bad("0 0 * * xyz", "day of week \"xyz\"");
  bad("mon 0 * * *", "minute \"mon\"");
  bad("-1 0 * * *", "minute");
  bad("1- 0 * * *", "minute \"\"");
  bad("1,,2 0 * * *", "minute \"\"");
  bad("*/0 0 * * *", "minute \"0\": must be between 1");
  bad("*/ 0 * * *", "minute \"\"");
  bad("5/10 0 * * *", "such as 5-59/10");
  bad("0 0 * * fri-mon", "runs backwards");
  bad("**  0 * * *", "minute \"**\"");
  bad("0 0 31 2 *", "never fires");
  bad("0 0 30,31 feb */2", "never fires");
  bad("@reboot", "has 1 fields");
  bad("99999999999999999999 0 * * *", "minute");
  bad(std::string(1000, ' '), "1000 bytes");
}

std::string ListOf(const std::set<int>& values) {
  std::string text;
  for (const int value : values) CatInto(text, text.empty() ? "" : ",", value);
  return text;
}

std::set<int> RandomSet(std::mt19937_64& random, int low, int high, int size) {
  std::set<int> values;
  for (int i = 0; i < size; ++i) {
    values.insert(low + static_cast<int>(
                            random() % static_cast<uint64_t>(high - low + 1)));
  }
  return values;
}

// Walks the instants minute by minute instead of the local times.
TEST(CronTest, AgreesWithAWalkOverAllInstants) {
  SeededRandom seed(11);
  std::mt19937_64 random(seed.seed());
  const char* const zones[] = {"Europe/Berlin", "America/New_York",
                               "Australia/Lord_Howe", "UTC"};
  const char* const starts[] = {"2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z",
                                "2026-03-07T00:00:00Z", "2026-10-31T00:00:00Z",
                                "2026-04-04T00:00:00Z", "2026-10-03T00:00:00Z"};
  for (int i = 0; i < 200; ++i) {
    const std::set<int> minutes = RandomSet(random, 0, 59, 4);
    const std::set<int> hours = RandomSet(random, 0, 5, 3);
    const std::string expression =
        Cat(ListOf(minutes), " ", ListOf(hours), " * * *");
    const absl::TimeZone zone = Zone(zones[random() % 4]);
    const absl::Time begin = Utc(starts[random() % 6]);
    const absl::Time end = begin + absl::Hours(72);
    SCOPED_TRACE(Cat("seed ", seed.seed(), " case ", i, ": ", expression, " ",
                     zone.name()));

    const auto matches = [&](absl::CivilMinute m) {
      return minutes.contains(m.minute()) && hours.contains(m.hour());
    };
    std::vector<absl::Time> want;
    absl::CivilMinute newest(zone.At(begin).cs);  // latest local time seen
    for (absl::Time t = begin + absl::Minutes(1); t <= end;
         t += absl::Minutes(1)) {
      const absl::CivilMinute local(zone.At(t).cs);
      bool fires = false;  // a repeated minute is not newer
      for (; newest < local; ++newest) fires |= matches(newest + 1);
      if (fires) want.push_back(t);
    }
    ASSERT_OK_AND_ASSIGN(const Cron cron, Cron::Parse(expression));
    std::vector<absl::Time> got;
    for (absl::Time t = cron.NextFire(begin, zone); t <= end;
         t = cron.NextFire(t, zone)) {
      got.push_back(t);
    }
    EXPECT_EQ(got, want);
    // From anywhere in between the answer is the same.
    const absl::Time middle =
        begin + absl::Seconds(static_cast<int64_t>(random() % (71 * 3600)));
    const auto next = std::upper_bound(want.begin(), want.end(), middle);
    if (next != want.end()) {
      EXPECT_EQ(cron.NextFire(middle, zone), *next);
    }
  }
}

}  // namespace
}  // namespace consilium

#include "consilium/base/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "consilium/base/clock.h"
#include "tests/support/fake_sleeper.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

class Constant final : public RandomSource {
 public:
  explicit Constant(std::byte value) : value_(value) {}
  void Fill(std::span<std::byte> out) override {
    std::fill(out.begin(), out.end(), value_);
  }

 private:
  const std::byte value_;
};

TEST(BackoffTest, EveryWaitIsBelowItsCeilingAndTheCeilingDoublesToTheCap) {
  SeededRandom random(11);
  Backoff backoff(
      {.initial = absl::Milliseconds(100), .maximum = absl::Seconds(1)},
      &random);
  for (const int ceiling : {100, 200, 400, 800, 1000, 1000, 1000}) {
    EXPECT_EQ(backoff.ceiling(), absl::Milliseconds(ceiling));
    const absl::Duration wait = backoff.Next();
    EXPECT_GE(wait, absl::ZeroDuration());
    EXPECT_LT(wait, absl::Milliseconds(ceiling));
  }
  EXPECT_EQ(backoff.attempts(), 7);
  backoff.Reset();
  EXPECT_EQ(backoff.attempts(), 0);
  EXPECT_EQ(backoff.ceiling(), absl::Milliseconds(100));
}

TEST(BackoffTest, JitterUsesTheWholeRange) {
  Constant low(std::byte{0x00});
  Constant high(std::byte{0xff});
  EXPECT_EQ(Backoff({}, &low).Next(), absl::ZeroDuration());
  EXPECT_GT(Backoff({}, &high).Next(), absl::Milliseconds(199));
}

TEST(BackoffTest, TheCapHoldsForEver) {
  Constant high(std::byte{0xff});
  Backoff backoff({.multiplier = 1000}, &high);
  for (int i = 0; i < 5000; ++i) EXPECT_LE(backoff.Next(), absl::Seconds(30));
}

TEST(SleeperTest, ACancelledSleepEndsAtOnce) {
  CancelSource source;
  source.Cancel("shutting down");
  EXPECT_THAT(
      SystemSleeper()->Sleep(absl::Hours(10), source.token()),
      StatusIs(absl::StatusCode::kCancelled, std::string("shutting down")));
  EXPECT_THAT(SystemSleeper()->Sleep(absl::ZeroDuration(), CancelToken()),
              IsOk());
}

TEST(SleeperTest, TheFakeAdvancesItsClock) {
  FakeClock clock;
  const absl::Time before = clock.Now();
  FakeSleeper sleeper(&clock);
  EXPECT_THAT(sleeper.Sleep(absl::Hours(10), CancelToken()), IsOk());
  EXPECT_EQ(clock.Now() - before, absl::Hours(10));
  EXPECT_THAT(sleeper.slept(), ::testing::ElementsAre(absl::Hours(10)));
}

TEST(ClockTest, TheFakeKeepsWallAndMonotonicTimeApart) {
  FakeClock clock;
  const absl::Duration before = clock.Monotonic();
  clock.JumpTo(absl::UnixEpoch());
  EXPECT_EQ(clock.Monotonic(), before);
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Monotonic(), before + absl::Seconds(3));
  EXPECT_EQ(clock.Now(), absl::UnixEpoch() + absl::Seconds(3));
}

TEST(ClockTest, TheMachinesMonotonicClockNeverGoesBack) {
  absl::Duration last = SystemClock()->Monotonic();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = SystemClock()->Monotonic();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_GT(SystemClock()->Now(), absl::FromUnixSeconds(1700000000));
}

}  // namespace
}  // namespace consilium

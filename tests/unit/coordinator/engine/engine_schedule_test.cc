// Rounds that begin by themselves, as the store has them.

#include <optional>
#include <string>
#include <string_view>

#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineScheduleTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    ASSERT_OK(Import().status());
    ScheduleRow every;
    every.kind = "every";
    every.expression = "1h";
    ASSERT_OK(engine_->SetSchedule(kTestOperator, every, ""));
  }

  std::optional<absl::Time> NextFire() {
    std::optional<absl::Time> next;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const ScheduleRow row, GetSchedule(tx));
      next = row.next_at;
      return absl::OkStatus();
    }));
    return next;
  }
  absl::Status Pause(bool paused) {
    return engine_->PauseSchedule(kTestOperator, paused, "");
  }
  void Pass(absl::Duration time) {
    clock_.Advance(time);
    engine_->Poll();
  }
};

// A crash at any time finds the fire used up or the round not begun.
TEST_F(EngineScheduleTest, ARoundAndItsFireAreStoredTogether) {
  std::optional<absl::Time> seen;
  on_log_ = [&](std::string_view text) {
    if (text == "round is open") seen = NextFire();
  };
  Pass(absl::Hours(1));
  EXPECT_THAT(engine_->LiveRounds(), ElementsAre(1));
  EXPECT_EQ(seen, kTestNow + absl::Hours(2));
  EXPECT_EQ(NextFire(), kTestNow + absl::Hours(2));
}

TEST_F(EngineScheduleTest, WhatPassesDuringARoundWhilePausedIsDropped) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound({{"deadline", "9h"}}));
  ASSERT_OK(Pause(true));
  Pass(absl::Minutes(90));
  ASSERT_OK(Pause(false));
  EXPECT_EQ(NextFire(), kTestNow + absl::Hours(2));
  ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  engine_->Poll();
  EXPECT_THAT(engine_->LiveRounds(), IsEmpty());
  Pass(absl::Minutes(30));
  EXPECT_THAT(engine_->LiveRounds(), ElementsAre(round + 1));
}

// Nobody paused it: the fire that met a round waits for its end.
TEST_F(EngineScheduleTest, ToResumeWhatIsNotPausedDropsNothing) {
  ASSERT_OK_AND_ASSIGN(const int64_t round, StartRound({{"deadline", "9h"}}));
  Pass(absl::Minutes(90));
  ASSERT_OK(Pause(false));
  ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  engine_->Poll();
  EXPECT_THAT(engine_->LiveRounds(), ElementsAre(round + 1));
}

}  // namespace
}  // namespace consilium

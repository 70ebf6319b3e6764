// Somebody sets the coordinator's wall clock while a round runs: no deadline
// moves, and the round ends as it would have.

#include <gtest/gtest.h>

#include <string>

#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/harness.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kDeadline = absl::Hours(1);

class ClockJumpTest : public testing::TestWithParam<int> {
 protected:
  ClockJumpTest() {
    federation_.Enroll("bank-a");
    federation_.Enroll("bank-b");
  }
  static TestFederation::Options OptionsWith(Clock* clock) {
    TestFederation::Options options;
    options.clock = clock;
    options.policy["deadline"] = "1h";
    return options;
  }
  v1::RoundInfo Show(uint64_t round) {
    v1::GetRoundRequest request;
    request.set_round(round);
    v1::RoundInfo info;
    grpc::ClientContext context;
    EXPECT_OK(FromGrpc(federation_.admin().GetRound(&context, request, &info)));
    return info;
  }
  v1::ScheduleInfo Schedule() {
    v1::ScheduleInfo info;
    grpc::ClientContext context;
    EXPECT_OK(FromGrpc(federation_.admin().GetSchedule(&context, {}, &info)));
    return info;
  }
  void Jump() { clock_.JumpTo(clock_.Now() + GetParam() * kDay); }

  FakeClock clock_{absl::Now()};
  TestFederation federation_{OptionsWith(&clock_)};
};

TEST_P(ClockJumpTest, MovesNoDeadline) {
  const auto a = federation_.Connect("bank-a");
  const auto b = federation_.Connect("bank-b");
  const Delta delta_a{"bank-a", 1, 30};
  const Delta delta_b{"bank-b", 2, 50};
  const uint64_t round = federation_.StartRound();
  SubmitTask(federation_, *a, delta_a);
  const v1::RoundInfo before = Show(round);
  EXPECT_EQ(before.phase(), "collecting");

  Jump();
  federation_.engine().Poll();
  const v1::RoundInfo after = Show(round);
  EXPECT_EQ(after.phase(), "collecting") << after.reason();
  EXPECT_EQ(after.deadline(), before.deadline());
  EXPECT_EQ(after.opened_at(), before.opened_at());
  // All but the last minute passes in truth: still open.
  clock_.Advance(kDeadline - absl::Minutes(1));
  federation_.engine().Poll();
  EXPECT_EQ(Show(round).phase(), "collecting");
  SubmitTask(federation_, *b, delta_b);
  ExpectExactMean(federation_, round, {delta_a, delta_b});
  ExpectStoreIsWhole(federation_);
}

// The same clock does end a round when time truly passes.
TEST_P(ClockJumpTest, TrueTimeStillCounts) {
  const auto a = federation_.Connect("bank-a");
  const uint64_t round = federation_.StartRound();
  SubmitTask(federation_, *a, {"bank-a", 1, 30});
  Jump();
  clock_.Advance(kDeadline + absl::Seconds(1));
  federation_.engine().Poll();
  const v1::RoundInfo end = federation_.WaitForEnd(round);
  EXPECT_EQ(end.phase(), "failed");
  EXPECT_THAT(end.reason(), HasSubstr("1 of 2 contributions"));
  EXPECT_THAT(end.reason(), HasSubstr("bank-b"));
  ExpectStoreIsWhole(federation_);
}

TEST_P(ClockJumpTest, StartsNoScheduledRound) {
  v1::SetScheduleRequest request;
  request.set_kind("every");
  request.set_expression("2h");
  v1::ScheduleInfo info;
  grpc::ClientContext context;
  ASSERT_OK(
      FromGrpc(federation_.admin().SetSchedule(&context, request, &info)));
  const int64_t next = Schedule().next_at();
  ASSERT_NE(next, 0);
  Jump();
  federation_.engine().Poll();
  EXPECT_EQ(Schedule().next_at(), next);
  EXPECT_TRUE(federation_.engine().LiveRounds().empty());
  clock_.Advance(absl::Hours(2));
  federation_.engine().Poll();
  EXPECT_EQ(federation_.engine().LiveRounds().size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Days, ClockJumpTest, testing::Values(-1, 1),
                         [](const auto& info) {
                           return info.param < 0 ? "Back" : "Ahead";
                         });

}  // namespace
}  // namespace consilium

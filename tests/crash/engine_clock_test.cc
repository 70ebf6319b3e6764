// Somebody sets the machine's clock, by hours or by a year, either way, while a
// round is under way or while the coordinator is down.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/secure/certificate.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/round_play.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::HasSubstr;

constexpr SecretAccess kTestAccess("a test enrols");

const absl::Duration kJumps[] = {absl::Hours(5), -absl::Hours(5),
                                 absl::Hours(24 * 400), -absl::Hours(24 * 400)};

class EngineClockTest : public testing::Test {
 protected:
  static const DiskImage& Image() {
    static const auto* const image =
        new DiskImage(EngineWorld::MakeImage(SmallLayout()));
    return *image;
  }
  static FakeInstitution BankA() {
    return FakeInstitution({.name = "bank-a",
                            .delta = 0.5f,
                            .examples = 10,
                            .groups = {"shared"}});
  }
  static void Jump(EngineWorld& world, absl::Duration by) {
    world.clock().JumpTo(world.clock().Now() + by);
  }
  static int64_t Start(EngineWorld& world) {
    const auto round =
        world.engine().StartRound("operator", {}, {}, "manual", "");
    EXPECT_THAT(round, IsOk());
    return round.value_or(0);
  }
  static std::optional<RoundState> StateOf(EngineWorld& world, int64_t round) {
    const auto live = world.engine().LiveRoundOf(round);
    if (!live.has_value()) return std::nullopt;
    return live->state;
  }
};

TEST_F(EngineClockTest, ADeadlineStaysWhereItIs) {
  for (const absl::Duration jump : kJumps) {
    SCOPED_TRACE(FormatDuration(jump));
    EngineWorld world(Image());
    ASSERT_OK(world.Boot());
    const int64_t round = Start(world);
    const absl::Time deadline = *StateOf(world, round)->deadline;
    const absl::Duration wake = world.engine().Poll();
    Jump(world, jump);
    EXPECT_EQ(world.engine().Poll(), wake);
    EXPECT_EQ(StateOf(world, round)->phase, RoundPhase::kOpen);
    FakeInstitution bank_a = BankA();
    ASSERT_OK(bank_a.Contribute(world, round));
    Jump(world, -2 * jump);
    world.clock().Advance(absl::Minutes(59));
    world.engine().Poll();
    EXPECT_EQ(StateOf(world, round)->phase, RoundPhase::kCollecting);
    EXPECT_EQ(StateOf(world, round)->deadline, deadline);
    // An hour of real time, and the grace.
    world.clock().Advance(absl::Minutes(4));
    world.engine().Poll();
    ASSERT_OK(world.store().history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const RoundRow row, GetRound(tx, round));
      EXPECT_EQ(row.state, "failed");
      EXPECT_THAT(row.reason, HasSubstr("bank-b"));
      return absl::OkStatus();
    }));
  }
}

TEST_F(EngineClockTest, ARoundEndsAsUsualWhereverTheClockJumps) {
  std::optional<Sha256Digest> digest;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(Cat("seed ", seed));
    EngineWorld world(Image());
    RoundPlay play(1, Ending::kPromoted);
    uint64_t step = seed;
    if (seed > 0) {
      play.OnStep([&] {
        Jump(world, kJumps[++step * seed % std::size(kJumps)]);
        world.engine().Poll();
      });
    }
    ASSERT_OK(play.Run(world));
    if (seed == 0) digest = RoundPlay::CandidateOf(world, 1);
    play.ExpectKept(world, digest);
  }
}

// Nobody can tell downtime from a clock that was set forward: the wait is as
// long as the grace then, so that nobody's work is lost.
TEST_F(EngineClockTest, AWaitGoesOnOverARestartWithAnotherClock) {
  for (const absl::Duration jump : kJumps) {
    SCOPED_TRACE(FormatDuration(jump));
    EngineWorld world(Image());
    ASSERT_OK(world.Boot());
    const int64_t round = Start(world);
    FakeInstitution bank_a = BankA();
    ASSERT_OK(bank_a.Contribute(world, round));
    world.clock().Advance(absl::Minutes(10));
    world.engine().Poll();
    world.Down();
    Jump(world, jump);
    ASSERT_OK(world.Boot());
    const RoundState state = *StateOf(world, round);
    EXPECT_EQ(state.phase, RoundPhase::kCollecting);
    const absl::Duration left = *state.deadline - world.engine().Now();
    if (jump > absl::ZeroDuration()) {
      EXPECT_EQ(left, state.config.grace);
    } else {
      EXPECT_GE(left, absl::Minutes(50));
      EXPECT_LE(left, absl::Hours(1));
    }
    EXPECT_OK(bank_a.AskAgain(world));
    FakeInstitution bank_b({.name = "bank-b",
                            .delta = 1.0f,
                            .examples = 30,
                            .groups = {"shared"}});
    ASSERT_OK(bank_b.Contribute(world, round));
  }
}

TEST_F(EngineClockTest, APeriodIsMeasuredInRealTime) {
  for (const absl::Duration jump : kJumps) {
    SCOPED_TRACE(FormatDuration(jump));
    EngineWorld world(Image());
    ASSERT_OK(world.Boot());
    ScheduleRow schedule;
    schedule.kind = "every";
    schedule.expression = "1h";
    ASSERT_OK(world.engine().SetSchedule("operator", schedule, ""));
    for (int64_t round = 1; round <= 3; ++round) {
      Jump(world, round % 2 == 0 ? -jump : jump);
      world.engine().Poll();
      world.clock().Advance(absl::Minutes(59));
      world.engine().Poll();
      EXPECT_THAT(world.engine().LiveRounds(), testing::IsEmpty());
      world.clock().Advance(absl::Minutes(1));
      world.engine().Poll();
      ASSERT_THAT(world.engine().LiveRounds(), testing::ElementsAre(round));
      ASSERT_OK(world.engine().CancelRound("operator", round, ""));
    }
  }
}

// A period that began before the clock was set back does not wait it out.
TEST_F(EngineClockTest, APeriodOutlivesARestartWithTheClockSetBack) {
  EngineWorld world(Image());
  ASSERT_OK(world.Boot());
  ScheduleRow schedule;
  schedule.kind = "every";
  schedule.expression = "1h";
  ASSERT_OK(world.engine().SetSchedule("operator", schedule, ""));
  world.engine().Poll();
  world.Down();
  Jump(world, -absl::Hours(100));
  ASSERT_OK(world.Boot());
  world.engine().Poll();
  EXPECT_THAT(world.engine().LiveRounds(), testing::IsEmpty());
  world.clock().Advance(absl::Hours(1));
  world.engine().Poll();
  EXPECT_THAT(world.engine().LiveRounds(), testing::ElementsAre(1));
}

TEST_F(EngineClockTest, ACronScheduleFollowsTheWallClock) {
  EngineWorld world(Image());
  ASSERT_OK(world.Boot());
  ScheduleRow schedule;
  schedule.kind = "cron";
  schedule.expression = "0 3 * * *";
  ASSERT_OK(world.engine().SetSchedule("operator", schedule, ""));
  const absl::Time midnight = world.clock().Now();
  const auto rounds_at = [&](absl::Duration time_of_day) {
    world.clock().JumpTo(midnight + time_of_day);
    world.engine().Poll();
    return world.engine().LiveRounds();
  };
  EXPECT_THAT(rounds_at(absl::Minutes(179)), testing::IsEmpty());
  EXPECT_THAT(rounds_at(absl::Minutes(180)), testing::ElementsAre(1));
  ASSERT_OK(world.engine().CancelRound("operator", 1, ""));
  // Set back by half an hour: three o'clock comes twice and counts once.
  EXPECT_THAT(rounds_at(absl::Minutes(150)), testing::IsEmpty());
  EXPECT_THAT(rounds_at(absl::Minutes(180)), testing::IsEmpty());
  EXPECT_THAT(rounds_at(absl::Hours(24 + 3)), testing::ElementsAre(2));
}

// The engine's own clock stays where it was; the first fire is a time of day.
TEST_F(EngineClockTest, ACronScheduleSetAfterAJumpFollowsTheWallClock) {
  EngineWorld world(Image());
  ASSERT_OK(world.Boot());
  const absl::Time midnight = world.clock().Now();
  world.clock().JumpTo(midnight + absl::Hours(10));
  ScheduleRow schedule;
  schedule.kind = "cron";
  schedule.expression = "0 3 * * *";
  ASSERT_OK(world.engine().SetSchedule("operator", schedule, ""));
  const auto rounds_at = [&](absl::Duration time_of_day) {
    world.clock().JumpTo(midnight + time_of_day);
    world.engine().Poll();
    return world.engine().LiveRounds();
  };
  EXPECT_THAT(rounds_at(absl::Hours(10)), testing::IsEmpty());
  EXPECT_THAT(rounds_at(absl::Hours(24 + 2)), testing::IsEmpty());
  EXPECT_THAT(rounds_at(absl::Hours(24 + 3)), testing::ElementsAre(1));
}

TEST_F(EngineClockTest, ACertificateIsValidByTheClockOfWhoChecksIt) {
  for (const absl::Duration jump : kJumps) {
    SCOPED_TRACE(FormatDuration(jump));
    EngineWorld world(Image());
    ASSERT_OK(world.Boot());
    Jump(world, jump);
    ASSERT_OK_AND_ASSIGN(
        const Engine::Invitation invitation,
        world.engine().Invite("operator", "bank-c", PeerRole::kInstitution,
                              absl::ZeroDuration(), {}));
    ASSERT_OK_AND_ASSIGN(const TlsKey key, TlsKey::Generate());
    ASSERT_OK_AND_ASSIGN(const std::string csr,
                         CreateCertificateRequest(key, "bank-c"));
    ASSERT_OK_AND_ASSIGN(
        const EnrollResult enrolled,
        world.engine().Enroll(invitation.token.Text(kTestAccess), csr));
    ASSERT_OK_AND_ASSIGN(const CertificateInfo first,
                         ParseCertificate(enrolled.chain_pem));
    EXPECT_LE(first.not_before, world.clock().Now());
    EXPECT_GT(first.not_after, world.clock().Now() + absl::Hours(24));
    Jump(world, -jump);
    ASSERT_OK_AND_ASSIGN(const EnrollResult renewed,
                         world.engine().Renew(enrolled.peer, csr));
    ASSERT_OK_AND_ASSIGN(const CertificateInfo second,
                         ParseCertificate(renewed.chain_pem));
    EXPECT_LE(second.not_before, world.clock().Now());
    EXPECT_GT(second.not_after, world.clock().Now() + absl::Hours(24));
  }
}

}  // namespace
}  // namespace consilium

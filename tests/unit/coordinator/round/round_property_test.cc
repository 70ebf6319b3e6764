// Random rounds: whatever happens in whatever order, the invariants hold.

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "coordinator/round/round_json.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/round/round_report.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

class RandomRound {
 public:
  explicit RandomRound(uint64_t seed) : random_(seed) {}

  int64_t Pick(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() %
                                      static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(int percent) { return Pick(1, 100) <= percent; }

  RoundPlan Plan() {
    RoundPlan plan;
    plan.id = 1;
    plan.base_version = 5;
    const int64_t n = Pick(1, 6);
    for (int64_t i = 0; i < n; ++i) {
      plan.members.push_back(std::string(1, static_cast<char>('a' + i)));
    }
    RoundConfig& c = plan.config;
    c.quorum = Pick(1, n);
    if (Chance(40)) c.target = Pick(c.quorum, n);
    c.deadline = absl::Minutes(Pick(1, 60));
    c.grace = absl::Minutes(Pick(0, 5));
    if (Chance(30)) c.wait_after_quorum = absl::Minutes(Pick(0, 20));
    c.minimum_examples = Pick(1, 20);
    c.fold_timeout = absl::Minutes(Pick(1, 60));
    c.fold_attempts = Pick(1, 4);
    if (Chance(40)) c.promotion = Promotion::kImmediate;
    c.evaluation.enabled = Chance(70);
    c.evaluation.quorum = Pick(1, n);
    c.evaluation.deadline = absl::Minutes(Pick(1, 20));
    if (Chance(50)) c.evaluation.without_quorum = WithoutQuorum::kPromote;
    if (Chance(50)) c.evaluation.on_regression = OnRegression::kAlert;
    if (Chance(60)) c.evaluation.rule = {"loss", Chance(50), 0.01};
    return plan;
  }

  RoundEvent Event(const RoundState& s, absl::Time now) {
    const std::string who =
        s.members[static_cast<size_t>(
                      Pick(0, static_cast<int64_t>(s.members.size()) - 1))]
            .institution;
    switch (Pick(0, 30)) {
      case 0:
        return Start{};
      case 1:
      case 2:
        return ProgressReported{who, 0.01 * static_cast<double>(Pick(0, 100)),
                                "t"};
      case 3:
      case 4:
      case 5:
      case 6:
        return UploadBegan{who};
      case 7:
        return UploadLost{who, "reset"};
      case 8:
      case 9:
      case 10:
      case 11:
        return ContributionCommitted{who, Pick(0, 100)};
      case 12:
        return ContributionQuarantined{who, "norm"};
      case 13:
        return ContributionReleased{who};
      case 14:
      case 15:
        return Declined{who, "no"};
      case 16:
        return MemberRemoved{
            who, Chance(50) ? Removal::kRevoked : Removal::kSuspended, "x"};
      case 17:
        return MemberRestored{who};
      case 18:
        return Tick{};
      case 19:
        return Extend{now + absl::Minutes(Pick(-5, 90))};
      case 20:
        return CloseNow{};
      case 21:
        return Chance(20) ? RoundEvent(Cancel{"stop"}) : Tick{};
      case 22:
      case 23:
        return FoldFinished{Pick(0, s.fold_run), Pick(6, 9), 2,
                            Chance(20) ? std::vector<std::string>{"x", "y"}
                                       : std::vector<std::string>{}};
      case 24:
        return FoldFailed{s.fold_run, "io", Chance(70)};
      case 25:
        return PublishFailed{s.fold_run, "disk full"};
      case 26:
      case 27:
        return EvaluationReported{
            who,
            Pick(1, 50),
            {{"loss", 0.1 * static_cast<double>(Pick(0, 9))}},
            Chance(50) ? std::map<std::string, double>{{"loss", 0.5}}
                       : std::map<std::string, double>{}};
      case 28:
        return EvaluationDeclined{who, "busy"};
      case 29:
        return Chance(20) ? RoundEvent(BaseAbandoned{Pick(4, 9), "bad"})
                          : Tick{};
      default:
        return Restarted{};
    }
  }

  absl::Duration Step() {
    if (Chance(60)) return absl::Milliseconds(Pick(0, 2000));
    if (Chance(80)) return absl::Seconds(Pick(0, 300));
    if (Chance(50)) return -absl::Seconds(Pick(0, 5));  // within the tolerance
    return absl::Minutes(Pick(-300, 300));
  }

 private:
  std::mt19937_64 random_;
};

int64_t Rank(RoundPhase phase) {
  return IsTerminal(phase) ? 5 : static_cast<int64_t>(phase);
}

// What holds in every state.
void CheckState(const RoundState& s) {
  const RoundCounts n = CountMembers(s);
  EXPECT_EQ(n.cohort, n.invited + n.training + n.uploading + n.committed +
                          n.declined + n.failed + n.missing + n.removed);
  const std::optional<absl::Time> wake = NextWake(s);
  const bool waits = !IsTerminal(s.phase) && s.phase != RoundPhase::kPlanned;
  EXPECT_EQ(wake.has_value(), waits) << "every wait has a bound";
  if (wake.has_value()) {
    EXPECT_GT(*wake, s.clock) << "no wake in the past";
  }
  EXPECT_EQ(s.finished_at.has_value(), IsTerminal(s.phase));
  if (s.phase == RoundPhase::kFailed || s.phase == RoundPhase::kCancelled ||
      s.phase == RoundPhase::kRejected) {
    EXPECT_FALSE(s.reason.empty());
  }
  if (Rank(s.phase) >= Rank(RoundPhase::kAggregating)) {
    EXPECT_EQ(n.invited + n.training + n.uploading, 0);
  }
  if (s.phase == RoundPhase::kAggregating) {
    EXPECT_GE(n.committed, s.config.quorum);
    EXPECT_NE(s.fold_until.has_value(), s.fold_retry_at.has_value());
  }
  if (s.phase == RoundPhase::kPromoted || s.phase == RoundPhase::kEvaluating) {
    EXPECT_TRUE(s.candidate.has_value());
  }
  if (s.phase == RoundPhase::kOpen || s.phase == RoundPhase::kCollecting) {
    EXPECT_GE(n.committed + n.uploading + n.invited + n.training,
              s.config.quorum)
        << "a round out of reach of its quorum does not wait";
  }
  EXPECT_FALSE(WhyWaiting(s, s.clock).sentence.empty());
}

// What holds from one state to the next.
void CheckStep(const RoundState& before, const Transition& t) {
  const RoundState& after = t.state;
  EXPECT_GE(Rank(after.phase), Rank(before.phase));
  if (IsTerminal(before.phase)) {
    EXPECT_EQ(after.phase, before.phase) << "terminal is terminal";
    EXPECT_EQ(after.reason, before.reason);
    EXPECT_EQ(after.finished_at, before.finished_at);
    EXPECT_EQ(after.candidate, before.candidate);
  }
  const RoundCounts counts = CountMembers(before);
  const bool collecting = before.phase == RoundPhase::kOpen ||
                          before.phase == RoundPhase::kCollecting;
  if (collecting && after.phase == RoundPhase::kFailed) {
    // A single event takes away one contribution at most.
    EXPECT_LE(counts.committed, before.config.quorum)
        << "one institution failed a round that had its quorum";
    if (counts.committed == before.config.quorum) {
      EXPECT_LT(CountMembers(after).committed, before.config.quorum);
    }
  }
  if (t.answer == Answer::kLate || t.answer == Answer::kRefused) {
    EXPECT_FALSE(t.text.empty());
  }
  for (const RoundMember& m : after.members) {
    const RoundMember& was = *FindMember(before, m.institution);
    if (was.quarantined && m.state != was.state) {
      EXPECT_TRUE(m.state == MemberState::kRemoved || !m.quarantined)
          << m.institution << " is asked again for what is quarantined";
    }
    if (was.state == MemberState::kRemoved && !was.suspended) {
      EXPECT_EQ(m.state, MemberState::kRemoved) << "revoked is for good";
    }
  }
  for (const RoundEffect& effect : t.effects) {
    if (const auto* wake = std::get_if<ScheduleWake>(&effect)) {
      EXPECT_GT(wake->at, after.clock);
      EXPECT_EQ(NextWake(after), wake->at);
    } else if (const auto* fold = std::get_if<BeginFold>(&effect)) {
      EXPECT_TRUE(
          std::is_sorted(fold->institutions.begin(), fold->institutions.end()));
      EXPECT_GE(static_cast<int64_t>(fold->institutions.size()),
                before.config.quorum);
      EXPECT_GT(fold->run, before.fold_run);
    }
  }
}

// Ticks alone, at the times asked for, end every round that has begun.
void RunOut(RoundState s) {
  for (int i = 0; i < 200 && !IsTerminal(s.phase); ++i) {
    const std::optional<absl::Time> wake = NextWake(s);
    ASSERT_TRUE(wake.has_value());
    ASSERT_OK_AND_ASSIGN(Transition next, Apply(s, Tick{}, *wake));
    CheckStep(s, next);
    s = std::move(next.state);
    CheckState(s);
  }
  EXPECT_TRUE(IsTerminal(s.phase));
}

void RunOne(uint64_t seed) {
  RandomRound random(seed);
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  ASSERT_OK_AND_ASSIGN(RoundState state, PlanRound(random.Plan(), now));
  CheckState(state);
  int64_t promoted = 0;
  const int64_t events = random.Pick(5, 80);
  for (int64_t i = 0; i < events && !::testing::Test::HasFailure(); ++i) {
    now += random.Step();
    const RoundEvent event =
        i == 0 ? RoundEvent(Start{}) : random.Event(state, now);
    SCOPED_TRACE(RoundEventName(event));
    absl::StatusOr<Transition> next = Apply(state, event, now);
    if (!next.ok()) {
      EXPECT_FALSE(next.status().message().empty());
      continue;
    }
    CheckStep(state, *next);
    CheckState(next->state);
    promoted += std::count_if(next->effects.begin(), next->effects.end(),
                              [](const RoundEffect& e) {
                                return std::holds_alternative<Promote>(e);
                              });
    EXPECT_LE(promoted, 1);
    // A tick has nothing left to do where one was just due.
    ASSERT_OK_AND_ASSIGN(const Transition again,
                         Apply(next->state, Tick{}, next->state.clock));
    EXPECT_EQ(again.state, next->state);
    state = std::move(next->state);
  }
  EXPECT_THAT(RoundStateFromJson(RoundStateToJson(state)), IsOkAndHolds(state));
  if (state.phase == RoundPhase::kPromoted) {
    EXPECT_EQ(promoted, 1);
  }
  if (state.phase == RoundPhase::kFailed ||
      state.phase == RoundPhase::kCancelled) {
    EXPECT_EQ(promoted, 0);
  }
  if (state.phase != RoundPhase::kPlanned) RunOut(state);
}

TEST(RoundPropertyTest, InvariantsHoldForRandomRounds) {
  SeededRandom seed(20260301);
  for (uint64_t i = 0; i < 3000; ++i) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed.seed() + i);
    RunOne(seed.seed() + i);
    if (::testing::Test::HasFailure()) return;
  }
}

// Without an operator and without clock changes no round outlives its bound.
TEST(RoundPropertyTest, CollectingEndsByDeadlineAndGrace) {
  SeededRandom seed(7);
  for (uint64_t i = 0; i < 300; ++i) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed.seed() + i);
    RandomRound random(seed.seed() + i);
    absl::Time now = absl::FromUnixSeconds(1'700'000'000);
    ASSERT_OK_AND_ASSIGN(RoundState state, PlanRound(random.Plan(), now));
    ASSERT_OK_AND_ASSIGN(Transition first, Apply(state, Start{}, now));
    state = first.state;
    const absl::Time bound = now + state.config.deadline + state.config.grace;
    for (int k = 0; k < 60; ++k) {
      now += absl::Seconds(random.Pick(0, 120));
      const RoundEvent event = random.Event(state, now);
      if (std::holds_alternative<Extend>(event) ||
          std::holds_alternative<Restarted>(event)) {
        continue;
      }
      absl::StatusOr<Transition> next = Apply(state, event, now);
      if (next.ok()) state = std::move(next->state);
      if (now < bound) continue;
      ASSERT_OK_AND_ASSIGN(next, Apply(state, Tick{}, now));
      ASSERT_GE(Rank(next->state.phase), Rank(RoundPhase::kAggregating));
    }
  }
}

}  // namespace
}  // namespace consilium

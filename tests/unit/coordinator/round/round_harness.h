// A round driven by hand: keeps the state and the time, collects the effects.

#ifndef CONSILIUM_TESTS_UNIT_COORDINATOR_ROUND_ROUND_HARNESS_H_
#define CONSILIUM_TESTS_UNIT_COORDINATOR_ROUND_ROUND_HARNESS_H_

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/status_macros.h"
#include "coordinator/round/round_machine.h"
#include "tests/support/status_matchers.h"

namespace consilium {

class RoundHarness {
 public:
  explicit RoundHarness(std::vector<std::string> members = {"a", "b", "c"},
                        RoundConfig config = {}) {
    RoundPlan plan;
    plan.id = 12;
    plan.base_version = 7;
    plan.config = std::move(config);
    for (std::string& name : members) {
      plan.members.push_back(std::move(name));
    }
    absl::StatusOr<RoundState> planned = PlanRound(std::move(plan), now);
    CONSILIUM_CHECK(planned.ok());
    state = *std::move(planned);
  }

  // Applies the event; effects of the last event that went well are kept.
  absl::StatusOr<Answer> Send(RoundEvent event) {
    absl::StatusOr<Transition> next = Apply(state, event, now);
    if (!next.ok()) return next.status();
    state = std::move(next->state);
    effects = std::move(next->effects);
    text = std::move(next->text);
    for (const RoundEffect& effect : effects) {
      if (const auto* w = std::get_if<ScheduleWake>(&effect)) wake = w->at;
    }
    return next->answer;
  }
  // Send() of what must be accepted.
  void Do(RoundEvent event) {
    const std::string_view name = RoundEventName(event);
    const absl::StatusOr<Answer> answer = Send(std::move(event));
    ASSERT_TRUE(answer.ok()) << name << ": " << answer.status();
    EXPECT_EQ(*answer, Answer::kAccepted) << name << ": " << text;
  }
  void Advance(absl::Duration by) { now += by; }
  void AdvanceAndTick(absl::Duration by) {
    now += by;
    Do(Tick{});
  }

  void Upload(const std::string& institution, int64_t examples = 100) {
    Do(UploadBegan{institution});
    Do(ContributionCommitted{institution, examples});
  }

  template <typename Effect>
  const Effect* Find() const {
    for (const RoundEffect& effect : effects) {
      if (const auto* found = std::get_if<Effect>(&effect)) return found;
    }
    return nullptr;
  }
  const RoundMember& member(const std::string& name) const {
    const RoundMember* found = FindMember(state, name);
    CONSILIUM_CHECK(found != nullptr);
    return *found;
  }

  RoundState state;
  absl::Time now = absl::FromUnixSeconds(1767225600);  // 2026-01-01
  std::vector<RoundEffect> effects;
  std::string text;
  std::optional<absl::Time> wake;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_COORDINATOR_ROUND_ROUND_HARNESS_H_

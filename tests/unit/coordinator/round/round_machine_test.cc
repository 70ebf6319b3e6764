// Every event in every phase, against the table of round_machine.h.

#include "coordinator/round/round_machine.h"

#include <array>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// a has committed, b uploads, c trains, d's contribution is in quarantine.
RoundHarness InPhase(RoundPhase phase) {
  RoundConfig config;
  config.quorum = 1;
  RoundHarness h({"a", "b", "c", "d"}, config);
  if (phase == RoundPhase::kPlanned) return h;
  h.Do(Start{});
  if (phase == RoundPhase::kOpen) return h;
  h.Upload("d");
  h.Do(ContributionQuarantined{"d", "norm"});
  h.Upload("a");
  h.Do(ProgressReported{"c", 0.4, ""});
  h.Do(UploadBegan{"b"});
  if (phase == RoundPhase::kCollecting) return h;
  if (phase == RoundPhase::kFailed) {
    h.Do(MemberRemoved{"a", Removal::kRevoked, "key lost"});
    h.Do(Declined{"b", "no data"});
    h.Do(Declined{"c", "no data"});
    return h;
  }
  if (phase == RoundPhase::kCancelled) {
    h.Do(Cancel{"test"});
    return h;
  }
  h.Do(ContributionCommitted{"b", 50});
  h.Do(CloseNow{});
  if (phase == RoundPhase::kAggregating) return h;
  h.Do(FoldFinished{1, 8, 3, {}});
  if (phase == RoundPhase::kEvaluating) return h;
  if (phase == RoundPhase::kPromoted) {
    h.Do(EvaluationReported{"a", 10, {{"loss", 0.5}}, {}});
    h.Do(EvaluationReported{"b", 10, {{"loss", 0.5}}, {}});
  } else {
    for (const char* name : {"a", "b", "c"}) {
      h.Do(EvaluationDeclined{name, "no data"});
      if (IsTerminal(h.state.phase)) break;
    }
  }
  return h;
}

RoundEvent Example(std::string_view name, absl::Time now) {
  const std::map<std::string_view, RoundEvent> events = {
      {"Start", Start{}},
      {"ProgressReported", ProgressReported{"c", 0.5, "epoch 2"}},
      {"UploadBegan", UploadBegan{"c"}},
      {"UploadLost", UploadLost{"b", "stream reset"}},
      {"ContributionCommitted", ContributionCommitted{"b", 50}},
      {"ContributionQuarantined", ContributionQuarantined{"a", "odd"}},
      {"ContributionReleased", ContributionReleased{"d"}},
      {"Declined", Declined{"c", "no data"}},
      {"MemberRemoved", MemberRemoved{"c", Removal::kSuspended, "contract"}},
      {"MemberRestored", MemberRestored{"c"}},
      {"Tick", Tick{}},
      {"Extend", Extend{now + absl::Hours(5)}},
      {"CloseNow", CloseNow{}},
      {"Cancel", Cancel{"operator"}},
      {"FoldFinished", FoldFinished{1, 8, 3, {}}},
      {"FoldFailed", FoldFailed{1, "corrupt", true}},
      {"PublishFailed", PublishFailed{1, "disk full"}},
      {"EvaluationReported", EvaluationReported{"a", 10, {{"loss", 0.4}}, {}}},
      {"EvaluationDeclined", EvaluationDeclined{"a", "no data"}},
      {"BaseAbandoned", BaseAbandoned{7, "bad"}},
      {"Restarted", Restarted{}}};
  return events.at(name);
}

// ok, late, same, F as in the header; "none": handled, but this member or this
// round has nothing for it.
struct Row {
  const char* event;
  std::array<const char*, 6> want;  // planned .. evaluating, final
};
constexpr Row kTable[] = {
    {"Start", {"ok", "F", "F", "F", "F", "F"}},
    {"ProgressReported", {"F", "ok", "ok", "late", "ok", "late"}},
    {"UploadBegan", {"F", "ok", "ok", "late", "late", "late"}},
    {"UploadLost", {"F", "same", "ok", "same", "same", "same"}},
    {"ContributionCommitted", {"F", "F", "ok", "late", "late", "late"}},
    {"ContributionQuarantined", {"F", "F", "ok", "ok", "ok", "final"}},
    {"ContributionReleased", {"F", "F", "ok", "F", "F", "F"}},
    {"Declined", {"F", "ok", "ok", "late", "late", "late"}},
    {"MemberRemoved", {"ok", "ok", "ok", "ok", "ok", "same"}},
    {"MemberRestored", {"same", "same", "same", "same", "same", "same"}},
    {"Tick", {"same", "ok", "ok", "ok", "ok", "same"}},
    {"Extend", {"F", "ok", "ok", "F", "ok", "F"}},
    {"CloseNow", {"F", "none", "ok", "F", "none", "F"}},
    {"Cancel", {"ok", "ok", "ok", "ok", "ok", "F"}},
    {"FoldFinished", {"F", "F", "F", "ok", "same", "same"}},
    {"FoldFailed", {"F", "F", "F", "ok", "same", "same"}},
    {"PublishFailed", {"F", "F", "F", "ok", "same", "same"}},
    {"EvaluationReported", {"F", "F", "F", "F", "ok", "late"}},
    {"EvaluationDeclined", {"F", "F", "F", "F", "ok", "late"}},
    {"BaseAbandoned", {"ok", "ok", "ok", "ok", "ok", "same"}},
    {"Restarted", {"same", "ok", "ok", "ok", "ok", "same"}},
};
static_assert(std::size(kTable) == std::variant_size_v<RoundEvent>);

class EventInPhase
    : public ::testing::TestWithParam<std::tuple<int, RoundPhase>> {};

TEST_P(EventInPhase, IsHandledAsTheTableSays) {
  const Row& row = kTable[std::get<0>(GetParam())];
  const RoundPhase phase = std::get<1>(GetParam());
  const RoundHarness h = InPhase(phase);
  ASSERT_EQ(h.state.phase, phase) << h.state.reason;
  std::string want = row.want[std::min(static_cast<size_t>(phase), size_t{5})];
  const bool has_version =
      phase == RoundPhase::kPromoted || phase == RoundPhase::kRejected;
  if (want == "final")
    want = has_version || phase != RoundPhase::kFailed ? "ok" : "none";

  const RoundEvent event = Example(row.event, h.now);
  EXPECT_EQ(RoundEventName(event), row.event);
  const absl::StatusOr<Transition> next = Apply(h.state, event, h.now);
  if (want == "F") {
    EXPECT_THAT(next,
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr(std::string(RoundPhaseName(phase))),
                               HasSubstr(row.event))));
    return;
  }
  if (want == "none") {
    EXPECT_THAT(next, StatusIs(absl::StatusCode::kFailedPrecondition));
    return;
  }
  ASSERT_OK(next);
  if (want == "ok") {
    EXPECT_EQ(next->answer, Answer::kAccepted) << next->text;
  } else {
    EXPECT_EQ(next->answer,
              want == "late" ? Answer::kLate : Answer::kUnchanged);
    EXPECT_EQ(next->text.empty(), want != "late");
    EXPECT_EQ(next->state, h.state);
    EXPECT_TRUE(next->effects.empty());
  }
  if (IsTerminal(phase)) {
    EXPECT_EQ(next->state.phase, phase);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, EventInPhase,
    ::testing::Combine(
        ::testing::Range(0, static_cast<int>(std::size(kTable))),
        ::testing::Values(RoundPhase::kPlanned, RoundPhase::kOpen,
                          RoundPhase::kCollecting, RoundPhase::kAggregating,
                          RoundPhase::kEvaluating, RoundPhase::kPromoted,
                          RoundPhase::kRejected, RoundPhase::kFailed,
                          RoundPhase::kCancelled)),
    [](const ::testing::TestParamInfo<EventInPhase::ParamType>& info) {
      return std::string(kTable[std::get<0>(info.param)].event) + "In_" +
             std::string(RoundPhaseName(std::get<1>(info.param)));
    });

TEST(RoundMachineTest, AStrangerIsNotFoundWhereverAMemberIsNamed) {
  RoundHarness h = InPhase(RoundPhase::kCollecting);
  for (const RoundEvent& event : std::vector<RoundEvent>{
           ProgressReported{"x", 0.1, ""}, UploadBegan{"x"},
           UploadLost{"x", ""}, ContributionCommitted{"x", 1},
           ContributionQuarantined{"x", ""}, ContributionReleased{"x"},
           Declined{"x", ""}, MemberRemoved{"x", Removal::kRevoked, ""},
           MemberRestored{"x"}}) {
    EXPECT_THAT(h.Send(event),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"x\"")))
        << RoundEventName(event);
  }
  h = InPhase(RoundPhase::kEvaluating);
  EXPECT_THAT(h.Send(EvaluationReported{"x", 1, {}, {}}),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(h.Send(EvaluationDeclined{"x", ""}),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(RoundMachineTest, ValuesOutOfRangeAreNamed) {
  RoundHarness h = InPhase(RoundPhase::kCollecting);
  EXPECT_THAT(h.Send(ProgressReported{"c", 1.5, ""}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1.5")));
  EXPECT_THAT(h.Send(ProgressReported{"c", std::nan(""), ""}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nan")));
  EXPECT_THAT(h.Send(Extend{h.now - absl::Seconds(1)}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      h.Send(Extend{*h.state.deadline}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not later")));
  EXPECT_THAT(h.Send(Extend{absl::InfiniteFuture()}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  h = InPhase(RoundPhase::kAggregating);
  EXPECT_THAT(h.Send(FoldFinished{2, 8, 3, {}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(h.Send(FoldFinished{1, 0, 3, {}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PlanRoundTest, RefusesWhatCannotBecomeARound) {
  const absl::Time now = absl::FromUnixSeconds(1);
  const auto plan = [&](std::vector<std::string> members, int64_t id = 1) {
    RoundPlan p;
    p.id = id;
    p.members = std::move(members);
    return PlanRound(std::move(p), now).status();
  };
  const std::vector<std::string> two = {"a", "b"};
  EXPECT_OK(plan(two));
  EXPECT_THAT(
      plan(std::vector<std::string>(1, "a")),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("needs 2")));
  EXPECT_THAT(plan(std::vector<std::string>(2, "a")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("twice")));
  EXPECT_THAT(plan(std::vector<std::string>{"A", "b"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"A\"")));
  EXPECT_THAT(plan(two, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PlanRoundTest, AnUnreachableEvaluationQuorumIsRefused) {
  RoundPlan p;
  p.id = 1;
  p.config.evaluation.quorum = 3;
  p.members = {"a", "b"};
  EXPECT_THAT(PlanRound(p, absl::UnixEpoch()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("evaluation quorum")));
}

TEST(PlanRoundTest, MembersAreKeptInOrderOfName) {
  RoundHarness h({"hospital-2", "bank", "hospital-10"});
  ASSERT_EQ(h.state.members.size(), 3u);
  EXPECT_EQ(h.state.members[0].institution, "bank");
  EXPECT_EQ(h.state.members[1].institution, "hospital-10");
  EXPECT_EQ(h.state.members[2].institution, "hospital-2");
  EXPECT_EQ(h.state.clock, h.now);
}

TEST(RoundMachineTest, NamesOfEffectsAndAnswers) {
  EXPECT_EQ(RoundEffectName(BeginFold{}), "BeginFold");
  EXPECT_EQ(RoundEffectName(Alert{}), "Alert");
  EXPECT_EQ(RoundEffectName(ScheduleWake{}), "ScheduleWake");
  EXPECT_EQ(AnswerName(Answer::kRefused), "refused");
}

}  // namespace
}  // namespace consilium

#include "coordinator/round/round_types.h"

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

template <typename Enum, typename NameOf, typename ParseIt>
void NamesRoundTrip(int count, NameOf name, ParseIt parse) {
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<Enum>(i);
    EXPECT_THAT(parse(name(value)), IsOkAndHolds(value));
  }
  EXPECT_THAT(parse("nonsense"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"nonsense\", must be one of")));
}

TEST(RoundTypesTest, NamesRoundTrip) {
  NamesRoundTrip<RoundPhase>(9, RoundPhaseName, ParseRoundPhase);
  NamesRoundTrip<MemberState>(8, MemberStateName, ParseMemberState);
  NamesRoundTrip<EvaluationState>(4, EvaluationStateName, ParseEvaluationState);
  NamesRoundTrip<Promotion>(2, PromotionName, ParsePromotion);
  NamesRoundTrip<OnRegression>(2, OnRegressionName, ParseOnRegression);
  NamesRoundTrip<WithoutQuorum>(2, WithoutQuorumName, ParseWithoutQuorum);
}

TEST(RoundTypesTest, TheDefaultsAreValid) {
  EXPECT_OK(ValidateRoundConfig(RoundConfig()));
}

TEST(RoundTypesTest, MembersAreFoundByName) {
  RoundState state;
  for (const char* name : {"a", "b", "d"}) {
    state.members.emplace_back().institution = name;
  }
  ASSERT_NE(FindMember(state, "b"), nullptr);
  EXPECT_EQ(FindMember(state, "b")->institution, "b");
  EXPECT_EQ(FindMember(state, "c"), nullptr);
  EXPECT_EQ(FindMember(state, "e"), nullptr);
}

}  // namespace
}  // namespace consilium

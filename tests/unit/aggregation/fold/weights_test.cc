#include "consilium/aggregation/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(QuantizeWeightTest, IsTheShareOfTheLargestInFortyBits) {
  EXPECT_THAT(QuantizeWeight(100, 100), IsOkAndHolds(kWeightOne));
  EXPECT_THAT(QuantizeWeight(50, 100), IsOkAndHolds(kWeightOne / 2));
  EXPECT_THAT(QuantizeWeight(1, 3), IsOkAndHolds(366503875925));
  EXPECT_THAT(QuantizeWeight(0, 100), IsOkAndHolds(0));
}

TEST(QuantizeWeightTest, IsClampedAtBothEnds) {
  EXPECT_THAT(QuantizeWeight(1e9, 100), IsOkAndHolds(kWeightOne));
  EXPECT_THAT(QuantizeWeight(100.5, 100), IsOkAndHolds(kWeightOne));
  // Somebody who has trained never counts as nobody.
  EXPECT_THAT(QuantizeWeight(1e-9, 1e9), IsOkAndHolds(1));
}

TEST(QuantizeWeightTest, RefusesWhatIsNoWeight) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double w : {-1.0, inf, -inf, nan}) {
    EXPECT_THAT(QuantizeWeight(w, 1), StatusIs(kInvalid));
  }
  for (const double w_max : {0.0, -1.0, inf, nan}) {
    EXPECT_THAT(QuantizeWeight(1, w_max), StatusIs(kInvalid));
  }
}

class PlanWeightsTest : public ::testing::Test {
 protected:
  Coverage Covering(std::initializer_list<size_t> groups) const {
    Coverage coverage(layout_.groups().size());
    for (const size_t g : groups) coverage.Set(g);
    return coverage;
  }

  const Layout layout_ = *Layout::Parse(
      "consilium-layout 1\n"
      "shared F32 1 s\n"
      "expert/0/0 F32 1 e0\n"
      "expert/0/1 F32 1 e1\n"
      "router/0 F32 1 r\n");
  const WeightPolicy policy_ = {.max_examples = 1024, .max_tokens = 4096};
  static constexpr int64_t kOne = kWeightOne;
};

TEST_F(PlanWeightsTest, CountsExamplesAndFreezesRouters) {
  const Coverage all = Covering({0, 1, 2, 3});
  const Coverage some = Covering({0, 2, 3});
  const WeightInput inputs[] = {{.coverage = &all, .examples = 512},
                                {.coverage = &some, .examples = 256}};
  ASSERT_OK_AND_ASSIGN(auto plan, PlanWeights(layout_, inputs, policy_));
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_THAT(plan[0], ElementsAre(kOne / 2, kOne / 2, kOne / 2, 0));
  EXPECT_THAT(plan[1], ElementsAre(kOne / 4, 0, kOne / 4, 0));

  WeightPolicy policy = policy_;
  policy.router = RouterPolicy::kExamples;
  ASSERT_OK_AND_ASSIGN(plan, PlanWeights(layout_, inputs, policy));
  EXPECT_EQ(plan[0][3], kOne / 2);
  EXPECT_EQ(plan[1][3], kOne / 4);
}

TEST_F(PlanWeightsTest, CountsTokensOfAnExpertWhereEveryoneGivesThem) {
  const Coverage all = Covering({0, 1, 2});
  const Coverage some = Covering({0, 2});
  // Group 0 is shared: its tokens do not count. Expert 1 is given by both,
  // expert 0 by all who cover it, namely one.
  const GroupTokens first[] = {{0, 5}, {1, 1024}, {2, 4096}};
  const GroupTokens second[] = {{2, 0}};
  const WeightInput inputs[] = {
      {.coverage = &all, .examples = 1024, .group_tokens = first},
      {.coverage = &some, .examples = 512, .group_tokens = second}};
  ASSERT_OK_AND_ASSIGN(const auto plan, PlanWeights(layout_, inputs, policy_));
  EXPECT_THAT(plan[0], ElementsAre(kOne, kOne / 4, kOne, 0));
  EXPECT_THAT(plan[1], ElementsAre(kOne / 2, 0, 0, 0));
}

TEST_F(PlanWeightsTest, FallsBackToExamplesWhenOneGivesNoTokens) {
  const Coverage all = Covering({0, 1, 2});
  const GroupTokens tokens[] = {{1, 1024}};
  const WeightInput inputs[] = {
      {.coverage = &all, .examples = 1024, .group_tokens = tokens},
      {.coverage = &all, .examples = 512}};
  ASSERT_OK_AND_ASSIGN(const auto plan, PlanWeights(layout_, inputs, policy_));
  EXPECT_THAT(plan[0], ElementsAre(kOne, kOne, kOne, 0));
  EXPECT_THAT(plan[1], ElementsAre(kOne / 2, kOne / 2, kOne / 2, 0));
}

TEST_F(PlanWeightsTest, RefusesForeignCoverageAndTooMany) {
  const Coverage foreign(3);
  const WeightInput one[] = {{.coverage = &foreign, .examples = 1}};
  EXPECT_THAT(PlanWeights(layout_, one, policy_),
              StatusIs(kInvalid, HasSubstr("layout has 4")));
  const Coverage all = Covering({0});
  const std::vector<WeightInput> many(kMaxContributions + 1,
                                      {.coverage = &all, .examples = 1});
  EXPECT_THAT(PlanWeights(layout_, many, policy_),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace consilium

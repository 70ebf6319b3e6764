#include "coordinator/round/cohort.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SelectCohortTest, WithoutATargetEverybodyIsInvited) {
  EXPECT_THAT(SelectCohort({{"c", 1}, {"a", 2}, {"b", 0}}, RoundConfig()),
              ElementsAre("a", "b", "c"));
  EXPECT_THAT(SelectCohort({}, RoundConfig()), IsEmpty());
}

TEST(SelectCohortTest, ATargetInvitesAFewMoreThanItNeeds) {
  RoundConfig config;
  config.target = 2;
  config.over_selection = 1;
  EXPECT_THAT(SelectCohort({{"a", 5}, {"b", 4}, {"c", 5}, {"d", 0}}, config),
              ElementsAre("a", "b", "d"));
  EXPECT_THAT(SelectCohort({{"a", 5}, {"b", 4}}, config),
              ElementsAre("a", "b"));
}

TEST(SelectCohortTest, NobodyWaitsLongerThanOneTurnOfEverybody) {
  RoundConfig config;
  config.target = 2;
  std::map<std::string, int64_t> last = {
      {"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}, {"e", 0}};
  for (int64_t round = 1; round <= 100; ++round) {
    std::vector<CohortCandidate> candidates;
    for (const auto& [name, invited] : last) {
      candidates.push_back({name, invited});
    }
    for (const std::string& name : SelectCohort(candidates, config)) {
      last[name] = round;
    }
    for (const auto& [name, invited] : last) {
      EXPECT_LT(round - invited, 3) << name << " in round " << round;
    }
  }
}

}  // namespace
}  // namespace consilium

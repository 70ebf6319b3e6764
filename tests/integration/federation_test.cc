// Rounds from end to end over real mTLS.

#include <gtest/gtest.h>

#include <cmath>
#include <thread>
#include <variant>

#include "consilium/aggregation/weights.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr double kMaxWeight = 1e7;

// base + sum(u x) / sum(u), rounded once, as the fold promises.
float Expected(float base, std::vector<std::pair<float, uint64_t>> updates) {
  double sum = 0;
  int64_t weights = 0;
  for (const auto& [value, examples] : updates) {
    const int64_t u =
        *QuantizeWeight(static_cast<double>(examples), kMaxWeight);
    sum += static_cast<double>(u) * static_cast<double>(value);
    weights += u;
  }
  return static_cast<float>(static_cast<double>(base) +
                            sum / static_cast<double>(weights));
}

void ExpectReceipt(const absl::StatusOr<client::SubmitOutcome>& outcome) {
  ASSERT_THAT(outcome, IsOk());
  const auto* refused = std::get_if<client::Refused>(&*outcome);
  EXPECT_EQ(refused, nullptr) << refused->message;
}

class FederationTest : public testing::TestWithParam<bool> {};

TEST_P(FederationTest, TwoInstitutionsMakeTheExactMean) {
  TestFederation::Options options;
  options.sealing = GetParam();
  TestFederation federation(options);
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  const auto a = federation.Connect("bank-a");
  const auto b = federation.Connect("bank-b");
  float value = 0;
  for (int round = 1; round <= 2; ++round) {
    const uint64_t id = federation.StartRound();
    ExpectReceipt(SubmitConstant(*a, WaitForTask(*a), 0.25f, 100));
    ExpectReceipt(SubmitConstant(*b, WaitForTask(*b), -1.5f, 333));
    const v1::RoundInfo end = federation.WaitForEnd(id);
    EXPECT_EQ(end.phase(), "promoted") << end.reason();
    EXPECT_EQ(end.contributions(), 2u);
    value = Expected(value, {{0.25f, 100}, {-1.5f, 333}});
    for (const float x : federation.CurrentParameters(*a)) {
      ASSERT_EQ(x, value);
    }
  }
}

TEST_P(FederationTest, ACommittedContributionSurvivesARestart) {
  TestFederation::Options options;
  options.sealing = GetParam();
  TestFederation federation(options);
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  const auto a = federation.Connect("bank-a");
  const auto b = federation.Connect("bank-b");
  const uint64_t id = federation.StartRound();
  ExpectReceipt(SubmitConstant(*a, WaitForTask(*a), 2.0f, 10));
  federation.Restart();
  ExpectReceipt(SubmitConstant(*b, WaitForTask(*b), 4.0f, 30));
  const v1::RoundInfo end = federation.WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(federation.CurrentParameters(*a).front(),
            Expected(0, {{2.0f, 10}, {4.0f, 30}}));
}

INSTANTIATE_TEST_SUITE_P(Sealing, FederationTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

// Rounds from end to end over real mTLS.

#include <gtest/gtest.h>

#include <cmath>
#include <thread>
#include <variant>
#include <vector>

#include "consilium/aggregation/weights.h"
#include "consilium/base/strings.h"
#include "tests/integration/checks.h"
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

// Five institutions upload in frames of a quarter, also those that begin after
// a restart with room for the largest ones.
TEST_P(FederationTest, ALargerCohortUploadsInSmallerFrames) {
  TestFederation::Options options;
  options.sealing = GetParam();
  TestFederation federation(options);
  std::vector<Delta> deltas;
  for (uint64_t i = 1; i <= 5; ++i) {
    deltas.push_back({Cat("bank-", i), i, 10 * i});
    federation.Enroll(deltas.back().institution);
  }
  const uint64_t id = federation.StartRound({{"quorum", "5"}});
  const auto submit = [&](const Delta& delta) {
    SubmitTask(federation, *federation.Connect(delta.institution), delta);
  };
  submit(deltas[0]);
  submit(deltas[1]);
  federation.NextConfig().limits.frame_memory = int64_t{1} << 30;
  federation.Restart();
  for (size_t i = 2; i < deltas.size(); ++i) submit(deltas[i]);
  ExpectExactMean(federation, id, deltas);
  EXPECT_EQ(federation.WaitForEnd(id).elements_per_frame(), 64512u);
  // 606,240 elements and the metadata.
  for (const v1::ContributionInfo& info : ContributionsOf(federation, id)) {
    v1::VerifyContributionRequest request;
    request.set_id(info.id());
    v1::VerifyContributionResponse verified;
    grpc::ClientContext context;
    const grpc::Status status =
        federation.admin().VerifyContribution(&context, request, &verified);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(verified.ok()) << info.institution();
    EXPECT_EQ(verified.chunks(), 11u) << info.institution();
  }
  const uint64_t next = federation.StartRound({{"quorum", "5"}});
  for (const Delta& delta : deltas) submit(delta);
  ExpectExactMean(federation, next, deltas);
  EXPECT_EQ(federation.WaitForEnd(next).elements_per_frame(), 258048u);
}

INSTANTIATE_TEST_SUITE_P(Sealing, FederationTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

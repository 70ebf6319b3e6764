// Release groups: each has its own contributors, its own mean, its own
// minimum.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

const std::vector<std::string> kShared = {"trunk.lora_a", "trunk.lora_b"};

std::vector<std::string> With(std::vector<std::string> tensors,
                              const std::string& name) {
  tensors.push_back(name);
  return tensors;
}

std::map<std::string, v1::GroupReport> Groups(const v1::VersionInfo& version) {
  std::map<std::string, v1::GroupReport> groups;
  for (const v1::GroupReport& g : version.groups()) groups[g.group()] = g;
  return groups;
}

// The first element of each slot.
std::vector<float> Firsts(TimedFederation& f) {
  const std::vector<float> flat = f->CurrentParameters(f["bank-a"]);
  std::vector<float> firsts;
  for (const TensorSlot& slot : f->layout().slots()) {
    firsts.push_back(flat[static_cast<size_t>(slot.first_element)]);
  }
  return firsts;
}

TEST(GroupsTest, AGroupIsTheMeanOfThoseWhoHadIt) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  ExpectReceipt(SubmitTensors(f["bank-a"], WaitForTask(f["bank-a"]),
                              With(kShared, "experts.0.up"), 1, 100));
  ExpectReceipt(
      SubmitTensors(f["bank-b"], WaitForTask(f["bank-b"]), kShared, 4, 200));
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  // Shared by both, weighted; expert 0 only of one; expert 1 of nobody.
  EXPECT_THAT(Firsts(f), ElementsAre(3.0f, 3.0f, 1.0f, 0.0f));
  const auto groups = Groups(VersionOf(*f, 1));
  EXPECT_EQ(groups.at("shared").contributors(), 2u);
  // Weights travel as integers of 2^-40 of the largest one.
  EXPECT_NEAR(groups.at("shared").weight(), 300, 1e-4);
  EXPECT_EQ(groups.at("expert/0/0").contributors(), 1u);
  EXPECT_FALSE(groups.at("expert/0/0").held());
  EXPECT_TRUE(groups.at("expert/0/1").held());
}

TEST(GroupsTest, AGroupBelowItsMinimumKeepsItsValue) {
  TimedFederation f({{"minimum_group_contributors", "2"}},
                    {"bank-a", "bank-b"});
  uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 2);
  Contribute(f["bank-b"], 2);
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  id = f->StartRound();
  ExpectReceipt(SubmitTensors(f["bank-a"], WaitForTask(f["bank-a"]),
                              With(kShared, "experts.0.up"), 1, 100));
  ExpectReceipt(SubmitTensors(f["bank-b"], WaitForTask(f["bank-b"]),
                              With(kShared, "experts.1.up"), 1, 100));
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_THAT(Firsts(f), ElementsAre(3.0f, 3.0f, 2.0f, 2.0f));
  const auto groups = Groups(VersionOf(*f, 2));
  EXPECT_FALSE(groups.at("shared").held());
  EXPECT_TRUE(groups.at("expert/0/0").held());
  EXPECT_TRUE(groups.at("expert/0/1").held());
}

// Nothing would change: that is no new version.
TEST(GroupsTest, ARoundThatHoldsEveryGroupIsRejected) {
  TimedFederation f({{"minimum_group_contributors", "2"}},
                    {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  ExpectReceipt(SubmitTensors(f["bank-a"], WaitForTask(f["bank-a"]),
                              {"experts.0.up"}, 1, 100));
  ExpectReceipt(SubmitTensors(f["bank-b"], WaitForTask(f["bank-b"]),
                              {"experts.1.up"}, 1, 100));
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "rejected");
  EXPECT_THAT(end.reason(), testing::HasSubstr("release groups were held"));
  EXPECT_EQ(f->engine().current_version()->number, 0);
}

// Routed tokens, where every contributor of an expert counts them.
TEST(GroupsTest, ExpertsWeighByRoutedTokens) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const uint64_t id = f->StartRound();
  const auto submit = [&](const char* name, float value, uint64_t examples,
                          uint64_t tokens) {
    client::UpdateSource source;
    source.fill = [value](std::string_view, int64_t, std::span<float> out) {
      for (float& x : out) x = value;
      return absl::OkStatus();
    };
    source.report.examples = examples;
    source.report.group_tokens = {{"expert/0/0", tokens}};
    ExpectReceipt(f[name].Submit(WaitForTask(f[name]), source));
  };
  submit("bank-a", 0, 100, 3000);
  submit("bank-b", 4, 100, 1000);
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_THAT(Firsts(f), testing::Pointwise(testing::FloatNear(1e-6f),
                                            {2.0f, 2.0f, 1.0f, 2.0f}));
  EXPECT_NEAR(Groups(VersionOf(*f, 1)).at("expert/0/0").weight(), 4000, 1e-3);
}

}  // namespace
}  // namespace consilium

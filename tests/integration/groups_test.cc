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

// Neither an open round nor a replay weighs by what was decided afterwards.
TEST(GroupsTest, ALaterPolicyOrLimitChangesNoRound) {
  TestFederation::Options options;
  std::vector<SlotSpec> slots = {{.name = "trunk", .shape = {5}},
                                 {.name = "expert", .shape = {5}},
                                 {.name = "router", .shape = {5}}};
  slots[1].group = {.kind = GroupKind::kExpert, .layer = 0, .expert = 0};
  slots[2].group = {.kind = GroupKind::kRouter, .layer = 0};
  options.layout = *Layout::Create(std::move(slots));
  TestFederation f(std::move(options));
  f.Enroll("bank-a");
  f.Enroll("bank-b");
  const auto a = f.Connect("bank-a");
  const auto b = f.Connect("bank-b");
  const auto submit = [](client::Client& client, float value, uint64_t tokens) {
    client::UpdateSource source;
    source.fill = [value](std::string_view, int64_t, std::span<float> out) {
      for (float& x : out) x = value;
      return absl::OkStatus();
    };
    source.report.examples = 100;
    source.report.group_tokens = {{"expert/0/0", tokens}};
    ExpectReceipt(client.Submit(WaitForTask(client), source));
  };
  const uint64_t id = f.StartRound();
  submit(*a, 0, 3000);

  v1::SetFederationRequest request;
  (*request.mutable_policy())["router"] = "examples";
  v1::FederationInfo changed;
  grpc::ClientContext set;
  ASSERT_TRUE(f.admin().SetFederation(&set, request, &changed).ok());
  f.Stop();
  f.NextConfig().limits.max_tokens = 10;
  f.NextConfig().limits.max_metadata_bytes = 1024;
  f.StartAgain();
  submit(*b, 4, 1000);
  EXPECT_EQ(f.WaitForEnd(id).phase(), "promoted");
  // The router is frozen; the expert's mean is by tokens that 10 would level.
  const std::vector<float> flat = f.CurrentParameters(*a);
  EXPECT_NEAR(flat[5], 1.0f, 1e-6f);
  EXPECT_EQ(flat[10], 0.0f);

  v1::ReplayRoundRequest replay;
  replay.set_round(id);
  v1::ReplayRoundResponse replayed;
  grpc::ClientContext context;
  const grpc::Status status =
      f.admin().ReplayRound(&context, replay, &replayed);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(replayed.equal());
}

}  // namespace
}  // namespace consilium

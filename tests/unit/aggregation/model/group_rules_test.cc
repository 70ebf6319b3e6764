#include "consilium/aggregation/group_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string GroupIn(const GroupRules& rules, const std::string& name) {
  const auto group = rules.GroupOf(name);
  return group.ok() ? group->ToString() : std::string(group.status().message());
}

TEST(GroupRulesTest, BuiltInFamiliesKnowTheirNames) {
  struct Case {
    const char* family;
    const char* name;
    const char* group;
  };
  const Case cases[] = {
      {"deepseek", "model.layers.3.mlp.experts.255.gate_proj.lora_A.weight",
       "expert/3/255"},
      {"deepseek", "model.layers.3.mlp.experts.7.gate_up_proj", "expert/3/7"},
      {"deepseek", "model.layers.3.mlp.gate.weight", "router/3"},
      {"deepseek", "model.layers.3.mlp.shared_experts.up_proj", "shared"},
      {"deepseek", "model.layers.0.mlp.down_proj", "shared"},
      {"deepseek", "model.layers.0.self_attn.kv_b_proj", "shared"},
      {"deepseek", "lm_head", "shared"},
      {"mixtral", "model.layers.31.block_sparse_moe.experts.7.w2",
       "expert/31/7"},
      {"mixtral", "model.layers.31.block_sparse_moe.gate", "router/31"},
      {"mixtral", "model.layers.0.mlp.experts.3.down_proj", "expert/0/3"},
      {"qwen_moe", "model.layers.5.mlp.experts.127.up_proj", "expert/5/127"},
      {"qwen_moe", "model.layers.5.mlp.gate", "router/5"},
      {"qwen_moe", "model.layers.5.mlp.shared_expert.up_proj", "shared"},
      {"qwen_moe", "model.layers.5.mlp.shared_expert_gate", "shared"},
      {"olmoe", "model.layers.15.mlp.experts.63.down_proj", "expert/15/63"},
      {"gpt_oss", "model.layers.1.mlp.experts.2.gate_up_proj", "expert/1/2"},
      {"gpt_oss", "model.layers.1.mlp.router.weight", "router/1"},
      {"llama", "model.layers.9.mlp.gate_proj", "shared"},
      {"llama", "model.norm.weight", "shared"},
      {"bert", "encoder.layer.0.attention.self.query", "shared"},
      {"bert", "pooler.dense", "shared"},
      {"bert", "bert.encoder.layer.0.output.dense", "shared"},
  };
  for (const Case& c : cases) {
    ASSERT_OK_AND_ASSIGN(const GroupRules rules, GroupRules::BuiltIn(c.family));
    EXPECT_EQ(GroupIn(rules, c.name), c.group) << c.family << " " << c.name;
  }
}

TEST(GroupRulesTest, FamiliesThatAreNotThereAreAnsweredWithThoseThatAre) {
  EXPECT_THAT(GroupRules::BuiltIn("gpt2"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no rules for \"gpt2\"; there are: bert, "
                                 "deepseek, gpt_oss, llama, mixtral, olmoe, "
                                 "qwen_moe")));
  EXPECT_THAT(GroupRules::BuiltInFamilies(),
              ElementsAre("bert", "deepseek", "gpt_oss", "llama", "mixtral",
                          "olmoe", "qwen_moe"));
}

TEST(GroupRulesTest, AnUnknownNameShowsTheNearestRule) {
  ASSERT_OK_AND_ASSIGN(const GroupRules rules, GroupRules::BuiltIn("deepseek"));
  EXPECT_THAT(
      rules.GroupOf("model.layers.3.mlp.expert.7.up_proj"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("the nearest is")));
  EXPECT_THAT(rules.GroupOf("model.layers.3.mlp.router.weight"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("\"**.layers.{layer}.mlp.gate.**\"")));
  // Where a number is meant.
  EXPECT_THAT(rules.GroupOf("model.layers.3.mlp.experts.last.up"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("{layer}.mlp.experts.{expert}")));
}

TEST(GroupRulesTest, TheFirstRuleThatMatchesDecides) {
  ASSERT_OK_AND_ASSIGN(const GroupRules rules,
                       GroupRules::Parse("[groups]\n"
                                         "\"a.*.x_*\" = \"shared\"\n"
                                         "\"a.{layer}.**\" = \"router\"\n"
                                         "\"**\" = \"shared\"\n"));
  EXPECT_EQ(GroupIn(rules, "a.4.x_y"), "shared");
  EXPECT_EQ(GroupIn(rules, "a.4.y"), "router/4");
  EXPECT_EQ(GroupIn(rules, "a.4"), "router/4");
  EXPECT_EQ(GroupIn(rules, "a.b.y"), "shared");
}

TEST(GroupRulesTest, StarsMatchWithinAPartAndTwoAcrossParts) {
  const auto matches = [](const std::string& pattern, const std::string& name) {
    const auto rules =
        GroupRules::Parse("[groups]\n\"" + pattern + "\" = \"shared\"\n");
    EXPECT_OK(rules.status());
    return rules.ok() && rules->GroupOf(name).ok();
  };
  EXPECT_TRUE(matches("a.*.c", "a.b.c"));
  EXPECT_FALSE(matches("a.*.c", "a.b.b.c"));
  EXPECT_TRUE(matches("a.**.c", "a.b.b.c"));
  EXPECT_TRUE(matches("a.**.c", "a.c"));
  EXPECT_TRUE(matches("**.c.**", "c"));
  EXPECT_TRUE(matches("**.b.**.b.c", "a.b.b.b.c"));
  EXPECT_FALSE(matches("**.b.**.b.c", "a.b.c"));
  EXPECT_TRUE(matches("*_*_proj", "gate_up_proj"));
  EXPECT_FALSE(matches("*_*_proj", "gate_proj"));
  EXPECT_TRUE(matches("a*b*", "aXbbY"));
  EXPECT_FALSE(matches("a", "ab"));
}

TEST(GroupRulesTest, NumbersBeyondThirtyTwoBitsAreRefused) {
  ASSERT_OK_AND_ASSIGN(const GroupRules rules, GroupRules::BuiltIn("mixtral"));
  EXPECT_THAT(rules.GroupOf("model.layers.0.mlp.experts.4294967296.w1"),
              StatusIs(absl::StatusCode::kOutOfRange,
                       HasSubstr("expert 4294967296 is above")));
}

TEST(GroupRulesTest, MistakesAreNamedWithTheirLine) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"", "no rules in [groups]"},
      {"[rules]\n\"a\" = \"shared\"", "line 1: table [rules]"},
      {"\"a\" = \"shared\"", "line 1: a pattern stands in quotes, in [groups]"},
      {"[groups]\na.b = \"shared\"", "line 2: a pattern stands in quotes"},
      {"[groups]\n\"a\" = 3", "line 2: the group is a text"},
      {"[groups]\n\"a\" = \"none\"", "its group is \"none\""},
      {"[groups]\n\"a..b\" = \"shared\"", "a part between dots is empty"},
      {"[groups]\n\"a{layer}\" = \"shared\"", "mixes"},
      {"[groups]\n\"{leyer}\" = \"shared\"", "mixes"},
      {"[groups]\n\"a**\" = \"shared\"", "mixes"},
      {"[groups]\n\"a.{layer}\" = \"shared\"", "{layer} stands there 1 times"},
      {"[groups]\n\"a.{layer}\" = \"expert\"", "{expert} 0 times"},
      {"[groups]\n\"a.{layer}.{layer}\" = \"router\"",
       "{layer} stands there 2 times"},
  };
  for (const auto& [text, words] : mistakes) {
    EXPECT_THAT(GroupRules::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << text;
  }
}

}  // namespace
}  // namespace consilium

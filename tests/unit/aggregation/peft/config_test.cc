#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "consilium/aggregation/peft.h"
#include "tests/support/status_matchers.h"

namespace consilium::peft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string With(const std::string& more) {
  return R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8)" + more + "}";
}

TEST(PeftConfigTest, WhatIsMeantIsRead) {
  ASSERT_OK_AND_ASSIGN(const Config config,
                       ParseConfig(With(R"(, "use_rslora": true, "bias": "none",
        "use_dora": false, "alpha_pattern": {"layers.0.q": 3},
        "target_parameters": ["e.up", "e.down"], "modules_to_save": ["head"],
        "corda_config": null, "loftq_config": {})")));
  EXPECT_EQ(config.rank, 4);
  EXPECT_EQ(config.alpha, 8);
  EXPECT_TRUE(config.rslora);
  EXPECT_EQ(config.alpha_pattern.at("layers.0.q"), 3);
  EXPECT_THAT(config.target_parameters, ElementsAre("e.up", "e.down"));
  EXPECT_THAT(config.modules_to_save, ElementsAre("head"));
}

TEST(PeftConfigTest, MistakesAreNamed) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{\"r\": 4", "not a JSON object"},
      {R"({"peft_type": "LORA", "lora_alpha": 8})", "r is null"},
      {R"({"peft_type": "LORA", "r": 0, "lora_alpha": 8})", "r is 0"},
      {R"({"peft_type": "LORA", "r": 18446744073709551615, "lora_alpha": 8})",
       "r is 18446744073709551615"},
      {R"({"peft_type": "LORA", "r": 4.5, "lora_alpha": 8})", "r is 4.5"},
      {R"({"peft_type": "LORA", "r": 4})", "lora_alpha is null"},
      {R"({"peft_type": "LORA", "r": 4, "lora_alpha": -1})",
       "lora_alpha is -1"},
      {R"({"peft_type": "LORA", "r": 4, "lora_alpha": 1e300})",
       "lora_alpha is 1e+300"},
      {With(R"(, "use_rslora": 1)"), "use_rslora is 1"},
      {With(R"(, "target_parameters": "all")"), "target_parameters is \"all\""},
      {With(R"(, "modules_to_save": [3])"), "modules_to_save is 3"},
      {With(R"(, "alpha_pattern": {"q": "x"})"), "alpha_pattern is \"x\""},
  };
  for (const auto& [json, words] : mistakes) {
    EXPECT_THAT(ParseConfig(json),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << json;
  }
}

TEST(PeftConfigTest, WhatIsNotSupportedIsNamed) {
  const std::vector<std::pair<std::string, std::string>> features = {
      {R"({"peft_type": "LOHA", "r": 4, "lora_alpha": 8})", "\"LOHA\""},
      {R"({"r": 4, "lora_alpha": 8})", "peft_type is missing"},
      {With(R"(, "use_dora": true)"), "use_dora is true"},
      {With(R"(, "bias": "all")"), "bias is \"all\""},
      {With(R"(, "lora_bias": true)"), "lora_bias is true"},
      {With(R"(, "alpha_pattern": {"q.*": 3})"), "regular expression \"q.*\""},
      {With(R"(, "rank_pattern": {"q": 3}, "target_parameters": ["e.up"])"),
       "rank_pattern together with target_parameters"},
      {With(R"(, "layer_replication": [[0, 4]])"),
       "layer_replication is a list"},
      {With(R"(, "init_lora_weights": "pissa")"),
       "init_lora_weights is \"pissa\""},
      {With(R"(, "target_parameters": ["up"])"), "write it as \"experts.up\""},
  };
  for (const auto& [json, words] : features) {
    EXPECT_THAT(ParseConfig(json),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(words)))
        << json;
  }
}

TEST(PeftConfigTest, NestingIsBounded) {
  const std::string deep(400'000, '[');
  const std::string closed(400'000, ']');
  EXPECT_THAT(ParseConfig(With(", \"use_dora\": " + deep + closed)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("nested 400001 deep, the limit is 32")));
  EXPECT_OK(
      ParseConfig(With(R"(, "x": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[")"))
          .status());
}

TEST(PeftConfigTest, ItsSizeIsBounded) {
  EXPECT_THAT(ParseConfig(std::string(kMaxConfigBytes + 1, ' ')),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the limit is 1048576")));
}

}  // namespace
}  // namespace consilium::peft

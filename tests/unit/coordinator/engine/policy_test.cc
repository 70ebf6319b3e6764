#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/round_json.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(OverridesTest, SetTypedKeysByTheirDottedNames) {
  const RoundConfig base;
  ASSERT_OK_AND_ASSIGN(
      const RoundConfig config,
      ApplyOverrides(base, {{"quorum", "3"},
                            {"deadline", "15m"},
                            {"promotion", "immediate"},
                            {"maximum_norm", "2.5"},
                            {"evaluation.enabled", "false"},
                            {"evaluation.rule.metric", "loss"}}));
  EXPECT_EQ(config.quorum, 3);
  EXPECT_EQ(config.deadline, absl::Minutes(15));
  EXPECT_EQ(config.promotion, Promotion::kImmediate);
  EXPECT_EQ(config.maximum_norm, 2.5);
  EXPECT_FALSE(config.evaluation.enabled);
  EXPECT_EQ(config.evaluation.rule.metric, "loss");
  // The rest is untouched.
  EXPECT_EQ(config.grace, base.grace);
  ASSERT_OK_AND_ASSIGN(const RoundConfig same, ApplyOverrides(base, {}));
  EXPECT_EQ(same, base);
}

TEST(OverridesTest, MistakesNameKeyValueAndWhatIsAllowed) {
  const auto bad = [](const Settings& settings, auto says) {
    EXPECT_THAT(ApplyOverrides(RoundConfig(), settings),
                StatusIs(kInvalid, says));
  };
  bad({{"quorom", "3"}}, AllOf(HasSubstr("\"quorom\""), HasSubstr("quorum")));
  bad({{"evaluation", "3"}}, HasSubstr("is a group"));
  bad({{"evaluation.nothing", "3"}}, HasSubstr("\"evaluation.nothing\""));
  bad({{"quorum.deep", "3"}}, HasSubstr("\"quorum.deep\""));
  bad({{"quorum", "many"}}, HasSubstr("quorum"));
  bad({{"quorum", "-1"}}, HasSubstr("quorum"));
  bad({{"quorum", "[1]"}}, HasSubstr("quorum"));
  bad({{"quorum", "15m"}}, HasSubstr("quorum"));
  bad({{"maximum_norm", "15m"}}, HasSubstr("maximum_norm must be a number"));
  bad({{"deadline", "soon"}}, HasSubstr("deadline"));
  bad({{"promotion", "never"}}, HasSubstr("promotion"));
  bad({{"", "1"}}, HasSubstr("there is no setting"));
}

TEST(OverridesTest, WhatIsShownCanBeSet) {
  RoundConfig config;
  config.quorum = 5;
  config.evaluation.rule.metric = "accuracy";
  config.wait_after_quorum = absl::Minutes(3);
  ASSERT_OK_AND_ASSIGN(const RoundConfig again,
                       ApplyOverrides(RoundConfig(), SettingsOf(config)));
  EXPECT_EQ(again, config);
}

TEST(PolicyTest, SurvivesTheStore) {
  FederationPolicy policy;
  ASSERT_OK(policy.Set({{"quorum", "4"},
                        {"router", "examples"},
                        {"training.epochs", "5"},
                        {"training.rate", "1e-3"}}));
  EXPECT_EQ(policy.router, RouterPolicy::kExamples);
  ASSERT_OK_AND_ASSIGN(
      const FederationPolicy again,
      FederationPolicy::FromJson(policy.ToJson(), RoundConfig()));
  EXPECT_EQ(again.rounds, policy.rounds);
  EXPECT_EQ(again.router, policy.router);
  EXPECT_EQ(again.training, policy.training);
  const Settings shown = again.ToSettings();
  EXPECT_EQ(shown.at("quorum"), "4");
  EXPECT_EQ(shown.at("router"), "examples");
  EXPECT_EQ(shown.at("training.rate"), "1e-3");
}

TEST(PolicyTest, WhatTheStoreDoesNotSayComesFromTheDefaults) {
  RoundConfig defaults;
  defaults.quorum = 7;
  defaults.grace = absl::Seconds(9);
  ASSERT_OK_AND_ASSIGN(const FederationPolicy empty,
                       FederationPolicy::FromJson("{}", defaults));
  EXPECT_EQ(empty.rounds, defaults);
  EXPECT_EQ(empty.router, RouterPolicy::kFrozen);
  // As an older program stored it, without a key that came later.
  ASSERT_OK_AND_ASSIGN(
      const FederationPolicy partly,
      FederationPolicy::FromJson(R"({"rounds": {"quorum": 3}})", defaults));
  EXPECT_EQ(partly.rounds.quorum, 3);
  EXPECT_EQ(partly.rounds.grace, absl::Seconds(9));
}

// What an operator did not set follows consilium.toml, also later.
TEST(PolicyTest, OnlyWhatWasSetIsStored) {
  FederationPolicy policy;
  ASSERT_OK(policy.Set({{"quorum", "4"}, {"evaluation.quorum", "3"}}));
  ASSERT_OK(policy.Set({{"grace", "90s"}}));
  RoundConfig defaults;
  defaults.deadline = absl::Hours(7);
  defaults.grace = absl::Seconds(9);
  defaults.evaluation.deadline = absl::Hours(8);
  RoundConfig want = defaults;
  want.quorum = 4;
  want.grace = absl::Seconds(90);
  want.evaluation.quorum = 3;
  ASSERT_OK_AND_ASSIGN(FederationPolicy again,
                       FederationPolicy::FromJson(policy.ToJson(), defaults));
  EXPECT_EQ(again.rounds, want);
  ASSERT_OK(again.Set({{"quorum", "5"}}));
  want.quorum = 5;
  EXPECT_EQ(again.rounds, want);
  EXPECT_THAT(again.ToJson(), Not(HasSubstr("\"deadline\"")));
  // Older programs stored everything; all of that counts as set.
  RoundConfig all;
  all.deadline = absl::Hours(2);
  const std::string old = Cat("{\"rounds\": ", RoundConfigToJson(all), "}");
  ASSERT_OK_AND_ASSIGN(again, FederationPolicy::FromJson(old, defaults));
  EXPECT_EQ(again.rounds, all);
}

TEST(PolicyTest, DefaultsThatDoNotFitWhatWasSetAreNamed) {
  FederationPolicy policy;
  ASSERT_OK(policy.Set({{"target", "3"}}));
  RoundConfig defaults;
  defaults.quorum = 5;
  EXPECT_THAT(FederationPolicy::FromJson(policy.ToJson(), defaults),
              StatusIs(kInvalid, AllOf(HasSubstr("consilium.toml"),
                                       HasSubstr("quorum of 5"))));
}

TEST(PolicyTest, DamagedJsonIsAnError) {
  for (const char* text : {"", "[]", "{", "3"}) {
    EXPECT_THAT(FederationPolicy::FromJson(text, RoundConfig()),
                StatusIs(absl::StatusCode::kDataLoss))
        << text;
  }
  EXPECT_FALSE(
      FederationPolicy::FromJson(R"({"rounds": {"quorum": -1}})", RoundConfig())
          .ok());
  EXPECT_FALSE(
      FederationPolicy::FromJson(R"({"router": "always"})", RoundConfig())
          .ok());
}

TEST(PolicyTest, ARefusedChangeChangesNothing) {
  FederationPolicy policy;
  ASSERT_OK(policy.Set({{"training.epochs", "5"}, {"quorum", "3"}}));
  const Settings before = policy.ToSettings();
  EXPECT_THAT(policy.Set({{"router", "examples"},
                          {"training.epochs", "6"},
                          {"quorum", "none"}}),
              StatusIs(kInvalid));
  EXPECT_EQ(policy.ToSettings(), before);
  EXPECT_THAT(policy.Set({{"router", "always"}}),
              StatusIs(kInvalid, HasSubstr("\"frozen\" or \"examples\"")));
  EXPECT_EQ(policy.ToSettings(), before);
}

TEST(PolicyTest, TrainingSettingsAreBoundedAndCanBeTakenBack) {
  FederationPolicy policy;
  for (int i = 0; i < 256; ++i) {
    ASSERT_OK(policy.Set({{Cat("training.k", i), "1"}}));
  }
  EXPECT_THAT(policy.Set({{"training.more", "1"}}),
              StatusIs(kInvalid, HasSubstr("at most 256")));
  // One that is there may change.
  EXPECT_OK(policy.Set({{"training.k7", "2"}}));
  EXPECT_OK(policy.Set({{"training.k7", ""}}));
  EXPECT_OK(policy.Set({{"training.more", "1"}}));
  EXPECT_THAT(policy.Set({{"training.", "1"}}), StatusIs(kInvalid));
  EXPECT_THAT(policy.Set({{"training.big", std::string(5000, 'x')}}),
              StatusIs(kInvalid, Not(HasSubstr("xxxxx"))));
}

}  // namespace
}  // namespace consilium

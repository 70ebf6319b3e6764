#include "coordinator/round/round_json.h"

#include <limits>
#include <string>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/coordinator/round/round_harness.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(RoundJsonTest, ConfigurationsRoundTrip) {
  RoundConfig config;
  EXPECT_THAT(RoundConfigFromJson(RoundConfigToJson(config)),
              IsOkAndHolds(config));
  config.quorum = 3;
  config.target = 5;
  config.over_selection = 2;
  config.deadline = absl::Hours(72) + absl::Microseconds(1);
  config.grace = absl::ZeroDuration();
  config.wait_after_quorum = absl::Milliseconds(1500);
  config.maximum_weight = 1e6 / 3.0;
  config.maximum_norm = 0.1;
  config.promotion = Promotion::kImmediate;
  config.evaluation.enabled = false;
  config.evaluation.without_quorum = WithoutQuorum::kPromote;
  config.evaluation.on_regression = OnRegression::kAlert;
  config.evaluation.rule = {"accuracy", true, 0.02};
  EXPECT_THAT(RoundConfigFromJson(RoundConfigToJson(config)),
              IsOkAndHolds(config));
}

TEST(RoundJsonTest, AbsentKeysKeepTheirDefault) {
  RoundConfig want;
  want.quorum = 3;
  want.evaluation.quorum = 2;
  EXPECT_THAT(
      RoundConfigFromJson(R"({"quorum": 3, "evaluation": {"quorum": 2}})"),
      IsOkAndHolds(want));
  EXPECT_THAT(RoundConfigFromJson("{}"), IsOkAndHolds(RoundConfig()));
}

TEST(RoundJsonTest, DurationsMayBeSecondsOrDays) {
  RoundConfig want;
  want.deadline = absl::Hours(48);
  want.grace = absl::Milliseconds(2500);
  EXPECT_THAT(RoundConfigFromJson(R"({"deadline": "2d", "grace": 2.5})"),
              IsOkAndHolds(want));
}

TEST(RoundJsonTest, EveryMistakeIsNamed) {
  const auto bad = [](const char* json, const char* says) {
    EXPECT_THAT(RoundConfigFromJson(json),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << json;
  };
  bad("", "not JSON");
  bad("{", "not JSON");
  bad("[]", "must be an object");
  bad(R"({"quorumm": 3})", "unknown key \"quorumm\"");
  bad(R"({"evaluation": {"rule": {"metrik": ""}}})", "in evaluation.rule");
  bad(R"({"quorum": "abc"})",
      "quorum must be a whole number such as 3, is \"abc\"");
  bad(R"({"quorum": 2.0})", "quorum must be a whole number");
  bad(R"({"quorum": 18446744073709551615})", "quorum must be a whole number");
  bad(R"({"quorum": 0})", "quorum is 0, must be between 1");
  bad(R"({"quorum": 3, "target": 2})", "at least the quorum of 3");
  bad(R"({"deadline": true})", "deadline must be a duration");
  bad(R"({"deadline": "soon"})", "deadline must be a duration");
  bad(R"({"deadline": 1e300})", "deadline is");
  bad(R"({"deadline": "-5s"})", "deadline is -5");
  bad(R"({"deadline": "inf"})", "deadline is");
  bad(R"({"deadline": "forever"})", "deadline is");
  bad(R"({"grace": "10ns"})", "whole microseconds");
  bad(R"({"promotion": "later"})", "after_evaluation, immediate");
  bad(R"({"maximum_weight": 0})", "maximum_weight is 0");
  bad(R"({"evaluation": {"enabled": 1}})", "true or false");
  bad(R"({"evaluation": {"rule": {"metric": "a b"}}})", "evaluation.rule");
}

TEST(RoundJsonTest, WithoutEndIsForeverWhereverItIsWritten) {
  const std::string text = RoundConfigToJson(RoundConfig());
  EXPECT_THAT(text, HasSubstr(R"("wait_after_quorum":"forever")"));
  for (const char* word : {"forever", "inf"}) {
    const auto config =
        RoundConfigFromJson(Cat(R"({"wait_after_quorum": ")", word, R"("})"));
    ASSERT_OK(config.status());
    EXPECT_EQ(config->wait_after_quorum, absl::InfiniteDuration());
  }
}

TEST(RoundJsonTest, StatesRoundTripWithEveryField) {
  RoundConfig config;
  config.promotion = Promotion::kImmediate;
  RoundHarness h({"a", "b", "c"}, config);
  h.Do(Start{});
  h.Upload("a");
  h.Do(ProgressReported{"b", 1.0 / 3.0, "epoch 1 \"quoted\" \xc3\xa9"});
  h.state.training = {{"epochs", "5"}, {"rate", "1e-3"}};
  EXPECT_THAT(RoundStateFromJson(RoundStateToJson(h.state)),
              IsOkAndHolds(h.state));
  h.Upload("b");
  h.Do(Declined{"c", "out of memory"});
  h.Do(FoldFinished{1, 8, 3, {"expert/0/1"}});
  h.Do(EvaluationReported{"a", 10, {{"loss", 0.1}}, {{"loss", 0.2}}});
  EXPECT_THAT(RoundStateFromJson(RoundStateToJson(h.state)),
              IsOkAndHolds(h.state));
}

// Rounds from before frames had a size of their own go on with what they
// announced.
TEST(RoundJsonTest, AStateWithoutAFrameSizeHasTheOneOfItsTime) {
  RoundHarness h;
  h.state.elements_per_frame = 64512;
  std::string json = RoundStateToJson(h.state);
  ASSERT_OK_AND_ASSIGN(RoundState read, RoundStateFromJson(json));
  EXPECT_EQ(read.elements_per_frame, 64512);
  const std::string field = R"("elements_per_frame":64512,)";
  const size_t at = json.find(field);
  ASSERT_NE(at, std::string::npos) << json;
  json.erase(at, field.size());
  ASSERT_OK_AND_ASSIGN(read, RoundStateFromJson(json));
  EXPECT_EQ(read.elements_per_frame, 258048);
  h.state.elements_per_frame = 258048;
  EXPECT_EQ(read, h.state);
  // Later ones have it, and fields after it still have to be there.
  json.insert(at, R"("elements_per_frame":"many",)");
  EXPECT_THAT(RoundStateFromJson(json),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("elements_per_frame must be a whole number")));
}

TEST(RoundJsonTest, DamagedStatesAreRefused) {
  RoundHarness h;
  std::string json = RoundStateToJson(h.state);
  EXPECT_THAT(RoundStateFromJson("{}"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("id is not there")));
  const size_t a = json.find(R"("institution":"a")");
  ASSERT_NE(a, std::string::npos);
  json.replace(a, 17, R"("institution":"z")");
  EXPECT_THAT(RoundStateFromJson(json),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ascending order")));
  json = RoundStateToJson(h.state);
  const size_t phase = json.find("planned\"");
  json.replace(phase, 7, "paused!");
  EXPECT_THAT(RoundStateFromJson(json),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("phase")));
}

}  // namespace
}  // namespace consilium

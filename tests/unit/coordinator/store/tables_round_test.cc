#include <limits>

#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class RoundTablesTest : public StoreTest {
 protected:
  static std::vector<int64_t> Ids(const std::vector<RoundRow>& rows) {
    std::vector<int64_t> out;
    for (const auto& row : rows) out.push_back(row.id);
    return out;
  }
};

TEST_F(RoundTablesTest, EveryColumnComesBack) {
  RoundRow row = Round(7, "evaluating");
  row.attempt = 3;
  row.reason = "why";
  row.candidate_version = 0;
  row.config_json = R"({"quorum": 2})";
  row.state_json = R"({"phase": "evaluating"})";
  row.opened_at = kTestNow + absl::Seconds(1);
  row.deadline = absl::InfiniteFuture();
  row.closed_at = kTestNow + absl::Seconds(3);
  row.eval_deadline = kTestNow + absl::Seconds(4);
  row.round_public_key = std::string(32, '\0');
  row.round_key_state = RoundKeyState::kLive;
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    EXPECT_THAT(InsertRound(tx, row), IsOkAndHolds(7));
    CONSILIUM_ASSIGN_OR_RETURN(const RoundRow got, GetRound(tx, 7));
    EXPECT_EQ(got.attempt, 3);
    EXPECT_EQ(got.state, "evaluating");
    EXPECT_EQ(got.reason, "why");
    EXPECT_EQ(got.candidate_version, 0);
    EXPECT_EQ(got.config_json, row.config_json);
    EXPECT_EQ(got.state_json, row.state_json);
    EXPECT_EQ(got.planned_at, row.planned_at);
    EXPECT_EQ(got.opened_at, row.opened_at);
    EXPECT_EQ(got.deadline, absl::InfiniteFuture());
    EXPECT_EQ(got.closed_at, row.closed_at);
    EXPECT_EQ(got.eval_deadline, row.eval_deadline);
    EXPECT_EQ(got.finished_at, std::nullopt);
    EXPECT_EQ(got.round_public_key, row.round_public_key);
    EXPECT_EQ(got.round_key_state, RoundKeyState::kLive);
    EXPECT_EQ(got.trigger, "manual");
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, IdsAreGivenAndNotReused) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    EXPECT_THAT(InsertRound(tx, Round(0)), IsOkAndHolds(1));
    EXPECT_THAT(InsertRound(tx, Round(0)), IsOkAndHolds(2));
    EXPECT_THAT(InsertRound(tx, Round(2)).status(),
                StatusIs(absl::StatusCode::kAlreadyExists));
    EXPECT_THAT(InsertRound(tx, Round(10)), IsOkAndHolds(10));
    EXPECT_THAT(InsertRound(tx, Round(0)), IsOkAndHolds(11));
    CONSILIUM_ASSIGN_OR_RETURN(const auto latest, FindLatestRound(tx));
    EXPECT_EQ(latest->id, 11);
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, ARoundHasAnEndExactlyWhenItIsOver) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    RoundRow row = Round(1);
    row.finished_at = kTestNow;
    EXPECT_THAT(InsertRound(tx, row).status(),
                StatusIs(absl::StatusCode::kInvalidArgument));
    row.state = "promoted";
    EXPECT_OK(InsertRound(tx, row).status());
    row.finished_at = std::nullopt;
    EXPECT_THAT(UpdateRound(tx, row),
                StatusIs(absl::StatusCode::kInvalidArgument));
    row.state = "daydreaming";
    EXPECT_FALSE(UpdateRound(tx, row).ok());
    row = Round(99);
    EXPECT_THAT(UpdateRound(tx, row),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("round 99")));
    row.base_version = 44;
    EXPECT_THAT(InsertRound(tx, row).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, ListsByPageAndState) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 1; i <= 5; ++i) {
      CONSILIUM_RETURN_IF_ERROR(
          InsertRound(tx, Round(i, i % 2 == 0 ? "failed" : "planned"))
              .status());
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto all, ListRounds(tx, {}));
    EXPECT_THAT(Ids(all), ElementsAre(1, 2, 3, 4, 5));
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto last, ListRounds(tx, {.limit = 2, .descending = true}));
    EXPECT_THAT(Ids(last), ElementsAre(5, 4));
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto failed,
        ListRounds(tx, {.after = 4, .descending = true}, "failed"));
    EXPECT_THAT(Ids(failed), ElementsAre(2));
    CONSILIUM_ASSIGN_OR_RETURN(const auto open, ListOpenRounds(tx));
    EXPECT_THAT(Ids(open), ElementsAre(1, 3, 5));
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, EventsKeepTheirOrder) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(2)).status());
    for (int i = 0; i < 6; ++i) {
      RoundEventRow event;
      event.round = 1 + i % 2;
      event.attempt = 1;
      event.at = kTestNow;
      event.kind = Cat("k", i);
      if (i == 0) event.institution = "bank-a";
      EXPECT_THAT(AppendRoundEvent(tx, event), IsOkAndHolds(i + 1));
    }
    const auto kinds = [&](std::optional<int64_t> round, Page page) {
      std::vector<std::string> out;
      const auto rows = ListRoundEvents(tx, round, page);
      EXPECT_OK(rows.status());
      for (const auto& row : *rows) out.push_back(row.kind);
      return out;
    };
    EXPECT_THAT(kinds(1, {}), ElementsAre("k0", "k2", "k4"));
    EXPECT_THAT(kinds(1, {.after = 1, .limit = 1}), ElementsAre("k2"));
    EXPECT_THAT(kinds(2, {.limit = 2, .descending = true}),
                ElementsAre("k5", "k3"));
    EXPECT_THAT(kinds(std::nullopt, {.after = 4}), ElementsAre("k4", "k5"));
    EXPECT_THAT(kinds(std::nullopt, {.limit = 1, .descending = true}),
                ElementsAre("k5"));
    CONSILIUM_ASSIGN_OR_RETURN(const auto events, ListRoundEvents(tx, 1));
    EXPECT_EQ(events[0].institution, "bank-a");
    EXPECT_EQ(events[1].institution, "");
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, CohortMembersAreReplaced) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    CohortMemberRow row;
    row.round = 1;
    row.attempt = 1;
    row.state = "invited";
    row.updated_at = kTestNow;
    for (const int64_t id : {3, 1, 2}) {
      row.institution_id = id;
      CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, row));
    }
    row.state = "training";
    row.progress = 0.25;
    row.progress_text = "epoch 1 of 4";
    CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, row));
    row.attempt = 2;
    CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, row));
    CONSILIUM_ASSIGN_OR_RETURN(const auto cohort, ListCohort(tx, 1, 1));
    EXPECT_EQ(cohort.size(), 3u);
    EXPECT_EQ(cohort[0].institution_id, 1);
    EXPECT_EQ(cohort[0].progress, std::nullopt);
    EXPECT_EQ(cohort[1].state, "training");
    EXPECT_EQ(cohort[1].progress, 0.25);
    EXPECT_EQ(cohort[1].progress_text, "epoch 1 of 4");
    row.progress = 1.5;
    EXPECT_THAT(UpsertCohortMember(tx, row),
                StatusIs(absl::StatusCode::kInvalidArgument));
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, TheLastInvitationOfEach) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CohortMemberRow row;
    row.state = "invited";
    row.updated_at = kTestNow;
    for (int64_t round = 1; round <= 40; ++round) {
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(round)).status());
      row.round = round;
      row.attempt = 1 + round % 2;
      row.institution_id = round <= 2 ? 1 : 3;
      CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, row));
    }
    EXPECT_THAT(LastInvitations(tx),
                IsOkAndHolds(ElementsAre(Pair(1, 2), Pair(3, 40))));
    return absl::OkStatus();
  }));
}

TEST_F(RoundTablesTest, MeansAreWeightedByExamplesAndTheLatestReportCounts) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    const auto report = [&](std::optional<int64_t> institution,
                            const char* name, double value, int64_t examples,
                            int64_t version = 0) {
      MetricRow row;
      row.round = 1;
      row.attempt = 1;
      row.version = version;
      row.institution_id = institution;
      row.phase = MetricPhase::kEvaluate;
      row.name = name;
      row.value = value;
      row.examples = examples;
      row.at = kTestNow;
      return InsertMetric(tx, row).status();
    };
    EXPECT_OK(report(1, "accuracy", 0.1, 1));  // replaced below
    EXPECT_OK(report(2, "accuracy", 0.5, 300));
    EXPECT_OK(report(1, "accuracy", 0.9, 100));
    EXPECT_OK(report(3, "accuracy", 0.0, 0));  // no examples: no weight
    EXPECT_OK(report(1, "loss", 2.0, 10));
    EXPECT_OK(report(std::nullopt, "loss", 50.0, 10));  // the coordinator's
    EXPECT_THAT(report(1, "loss", std::numeric_limits<double>::quiet_NaN(), 1),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_FALSE(report(1, "loss", 1, -1).ok());
    CONSILIUM_ASSIGN_OR_RETURN(const auto means,
                               WeightedMeans(tx, 1, 1, MetricPhase::kEvaluate));
    EXPECT_EQ(means.size(), 2u);
    EXPECT_EQ(means[0].name, "accuracy");
    EXPECT_EQ(means[0].mean, (0.9 * 100 + 0.5 * 300) / 400);
    EXPECT_EQ(means[0].examples, 400);
    EXPECT_EQ(means[0].institutions, 2);
    EXPECT_EQ(means[1].mean, 2.0);
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto other, WeightedMeans(tx, 1, 1, MetricPhase::kEvaluate, 7));
    EXPECT_TRUE(other.empty());
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto of_zero, WeightedMeans(tx, 1, 1, MetricPhase::kEvaluate, 0));
    EXPECT_EQ(of_zero.size(), 2u);
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListMetrics(tx, 1));
    EXPECT_EQ(rows.size(), 6u);
    CONSILIUM_ASSIGN_OR_RETURN(const auto train,
                               ListMetrics(tx, 1, MetricPhase::kTrain));
    EXPECT_TRUE(train.empty());
    return absl::OkStatus();
  }));
}

}  // namespace
}  // namespace consilium

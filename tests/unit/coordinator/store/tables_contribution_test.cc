#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using S = ContributionState;

class ContributionTableTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
      return InsertRound(tx, Round(2)).status();
    }));
  }
};

TEST_F(ContributionTableTest, EveryColumnComesBack) {
  ContributionRow row = Contribution("aa11", 1, 2);
  row.manifest = std::string("\0\1\2", 3);
  row.sealed = true;
  row.wrapped_key = std::string("\0key", 4);
  row.examples = 1234;
  row.norm = 0.5;
  row.stats_json = "{}";
  row = Committed(row);
  row.committed_at = kTestNow + absl::Microseconds(9);
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    EXPECT_OK(InsertContribution(tx, row));
    CONSILIUM_ASSIGN_OR_RETURN(const auto got, FindContribution(tx, "aa11"));
    EXPECT_EQ(got->round, 1);
    EXPECT_EQ(got->attempt, 1);
    EXPECT_EQ(got->institution_id, 2);
    EXPECT_EQ(got->state, S::kCommitted);
    EXPECT_EQ(got->reason, "");
    EXPECT_EQ(got->manifest, row.manifest);
    EXPECT_EQ(got->payload_digest, row.payload_digest);
    EXPECT_EQ(got->payload_bytes, 300);
    EXPECT_EQ(got->spool_path, "spool/1-1/bank-aa11.spool");
    EXPECT_EQ(got->wrapped_key, row.wrapped_key);
    EXPECT_TRUE(got->sealed);
    EXPECT_EQ(got->examples, 1234);
    EXPECT_EQ(got->norm, 0.5);
    EXPECT_EQ(got->stats_json, "{}");
    EXPECT_EQ(got->receipt, "receipt");
    EXPECT_EQ(got->begun_at, kTestNow);
    EXPECT_EQ(got->committed_at, row.committed_at);
    EXPECT_THAT(FindContribution(tx, "bb"), IsOkAndHolds(std::nullopt));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, IdsAreFoundByHowTheyBegin) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    int64_t institution = 1;
    for (const char* id : {"ab", "abff", "zz"}) {
      CONSILIUM_RETURN_IF_ERROR(
          InsertContribution(tx, Contribution(id, 1, institution++)));
    }
    EXPECT_THAT(FindContributionIds(tx, "ab", 9),
                IsOkAndHolds(ElementsAre("ab", "abff")));
    EXPECT_THAT(FindContributionIds(tx, "abf", 9),
                IsOkAndHolds(ElementsAre("abff")));
    EXPECT_THAT(FindContributionIds(tx, "z", 9),
                IsOkAndHolds(ElementsAre("zz")));
    EXPECT_THAT(FindContributionIds(tx, "b", 9), IsOkAndHolds(IsEmpty()));
    EXPECT_THAT(FindContributionIds(tx, "", 2),
                IsOkAndHolds(ElementsAre("ab", "abff")));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, OnlyWhatCountsIsCounted) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (const int64_t round : {1, 2}) {
      CONSILIUM_RETURN_IF_ERROR(InsertContribution(
          tx, Committed(Contribution(Cat("c", round), round, 1))));
    }
    CONSILIUM_RETURN_IF_ERROR(SetContributionState(tx, "c1", S::kFolded, ""));
    CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, Contribution("u", 1, 2)));
    EXPECT_THAT(CountCountedContributions(tx, 1), IsOkAndHolds(2));
    EXPECT_THAT(CountCountedContributions(tx, 2), IsOkAndHolds(0));
    return SetContributionState(tx, "c2", S::kQuarantined, "odd");
  }));
  EXPECT_OK(Read([](ReadTx& tx) -> absl::Status {
    EXPECT_THAT(CountCountedContributions(tx, 1), IsOkAndHolds(1));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, OneLiveAndOneCountedPerInstitution) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, Contribution("a1", 1, 1)));
    EXPECT_THAT(InsertContribution(tx, Contribution("a2", 1, 1)),
                StatusIs(absl::StatusCode::kAlreadyExists,
                         HasSubstr("institution #1")));
    EXPECT_THAT(InsertContribution(tx, Contribution("a1", 1, 2)),
                StatusIs(absl::StatusCode::kAlreadyExists));
    // Another institution, another round: no conflict.
    EXPECT_OK(InsertContribution(tx, Contribution("b1", 1, 2)));
    EXPECT_OK(InsertContribution(tx, Contribution("c1", 2, 1)));
    // Superseded before commit.
    EXPECT_OK(SetContributionState(tx, "a1", S::kSuperseded, "by a2"));
    EXPECT_OK(InsertContribution(tx, Contribution("a2", 1, 1)));
    EXPECT_OK(UpdateContribution(tx, Committed(Contribution("a2", 1, 1))));
    // Committed twice.
    EXPECT_OK(InsertContribution(tx, Contribution("a3", 1, 1)));
    EXPECT_THAT(UpdateContribution(tx, Committed(Contribution("a3", 1, 1))),
                StatusIs(absl::StatusCode::kAlreadyExists));
    CONSILIUM_ASSIGN_OR_RETURN(const auto live,
                               FindLiveContribution(tx, 1, 1, 1));
    EXPECT_EQ(live->id, "a2");
    EXPECT_THAT(FindLiveContribution(tx, 1, 2, 1), IsOkAndHolds(std::nullopt));
    EXPECT_THAT(UpdateContribution(tx, Contribution("zz", 1, 1)),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("zz")));
    EXPECT_THAT(SetContributionState(tx, "zz", S::kExpired, ""),
                StatusIs(absl::StatusCode::kNotFound));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, NothingCountsWithoutAReceipt) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, Contribution("a1", 1, 1)));
    EXPECT_THAT(SetContributionState(tx, "a1", S::kCommitted, ""),
                StatusIs(absl::StatusCode::kInvalidArgument));
    ContributionRow row = Committed(Contribution("a1", 1, 1));
    row.spool_path.clear();
    EXPECT_FALSE(UpdateContribution(tx, row).ok());
    row = Committed(Contribution("a1", 1, 1));
    EXPECT_OK(UpdateContribution(tx, row));
    EXPECT_OK(SetContributionState(tx, "a1", S::kFolded, ""));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, CountsThoseOfAnInstitutionInARound) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    const auto insert = [&](std::string id, int64_t round, int64_t attempt,
                            int64_t institution, S state) {
      ContributionRow row = Contribution(std::move(id), round, institution);
      row.attempt = attempt;
      row.state = state;
      EXPECT_OK(InsertContribution(tx, row));
    };
    insert("a1", 1, 1, 1, S::kSuperseded);
    insert("a2", 1, 2, 1, S::kSuperseded);
    insert("a3", 1, 1, 1, S::kUploading);
    insert("b1", 1, 1, 2, S::kSuperseded);
    insert("c1", 2, 1, 1, S::kSuperseded);
    EXPECT_THAT(CountContributions(tx, 1, 1, S::kSuperseded), IsOkAndHolds(2));
    EXPECT_THAT(CountContributions(tx, 1, 1, S::kUploading), IsOkAndHolds(1));
    EXPECT_THAT(CountContributions(tx, 2, 2, S::kSuperseded), IsOkAndHolds(0));
    return absl::OkStatus();
  }));
}

TEST_F(ContributionTableTest, ListsInTheOrderOfTheFold) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (const auto& [id, round, who] :
         std::vector<std::tuple<const char*, int64_t, int64_t>>{
             {"c3", 2, 3}, {"c2", 1, 2}, {"c1", 1, 1}, {"c4", 2, 1}}) {
      CONSILIUM_RETURN_IF_ERROR(
          InsertContribution(tx, Contribution(id, round, who)));
    }
    CONSILIUM_RETURN_IF_ERROR(
        SetContributionState(tx, "c2", S::kQuarantined, "NaN"));
    const auto ids = [&](const ContributionQuery& query) {
      std::vector<std::string> out;
      const auto rows = ListContributions(tx, query);
      EXPECT_OK(rows.status());
      for (const auto& row : *rows) out.push_back(row.id);
      return out;
    };
    EXPECT_THAT(ids({}), ElementsAre("c1", "c2", "c4", "c3"));
    EXPECT_THAT(ids({.round = 2}), ElementsAre("c4", "c3"));
    EXPECT_THAT(ids({.institution_id = 1}), ElementsAre("c1", "c4"));
    EXPECT_THAT(ids({.state = S::kQuarantined}), ElementsAre("c2"));
    EXPECT_THAT(ids({.round = 1, .attempt = 2}), ElementsAre());
    EXPECT_THAT(ids({.limit = 2}), ElementsAre("c1", "c2"));
    EXPECT_FALSE(ListContributions(tx, {.limit = 0}).ok());
    return absl::OkStatus();
  }));
}

}  // namespace
}  // namespace consilium

// What operators are told of a store, also of a large one.
#include "coordinator/rpc/admin_queries.h"

#include <string>

#include "coordinator/rpc/caller.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class AdminQueriesTest : public StoreTest {
 protected:
  AdminQueries Queries() {
    return AdminQueries(store_.get(), nullptr, kTestNow, absl::Hours(1));
  }
  // Ended uploads of one institution, "id000000" on.
  void AddUploads(int64_t round, int count) {
    ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
      for (int i = 0; i < count; ++i) {
        std::string id = Cat(1'000'000 + i);
        id.replace(0, 1, "id");
        ContributionRow row = Contribution(id, round, 1);
        row.state = ContributionState::kExpired;
        row.spool_path.clear();
        CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, row));
      }
      return absl::OkStatus();
    }));
  }
  // A version of its own bytes.
  int64_t AddVersion(const std::string& text, bool pruned) {
    int64_t number = 0;
    EXPECT_OK(Write([&](WriteTx& tx) -> absl::Status {
      VersionRow row;
      row.digest = Sha256(text);
      row.blob_bytes = static_cast<int64_t>(text.size());
      row.state = VersionState::kRejected;
      if (pruned) row.pruned_at = kTestNow;
      CONSILIUM_ASSIGN_OR_RETURN(const auto inserted,
                                 InsertVersion(tx, row, nullptr));
      number = inserted.row.number;
      return absl::OkStatus();
    }));
    return number;
  }
};

TEST_F(AdminQueriesTest, AShortIdIsFoundBehindTenThousandOthers) {
  ASSERT_OK(
      Write([](WriteTx& tx) { return InsertRound(tx, Round(1)).status(); }));
  AddUploads(1, 10'001);
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(2)).status());
    return InsertContribution(tx, Contribution("zz99", 2, 2));
  }));
  EXPECT_THAT(Queries().ContributionId("zz"), IsOkAndHolds("zz99"));
  EXPECT_THAT(Queries().ContributionId("zz99"), IsOkAndHolds("zz99"));
  EXPECT_THAT(Queries().ContributionId("id00"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("more than one contribution begins")));
  EXPECT_THAT(Queries().ContributionId("y"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no contribution begins")));
}

TEST_F(AdminQueriesTest, TheNewestEventsAreShownOldestFirst) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    for (int i = 0; i <= 10'000; ++i) {
      RoundEventRow event;
      event.round = 1;
      event.attempt = 1;
      event.kind = Cat("event ", i);
      CONSILIUM_RETURN_IF_ERROR(AppendRoundEvent(tx, event).status());
    }
    return absl::OkStatus();
  }));
  v1::RoundInfo info;
  ASSERT_OK(Queries().Round(1, true, &info));
  ASSERT_EQ(info.events_size(), 10'000);
  EXPECT_EQ(info.events(0).kind(), "event 1");
  EXPECT_EQ(info.events(9'999).kind(), "event 10000");
}

TEST_F(AdminQueriesTest, AVersionThatRetentionDeletedIsNoDamage) {
  const auto number = static_cast<uint64_t>(AddVersion("gone", true));
  v1::DiffVersionsResponse diff;
  EXPECT_THAT(Queries().Diff(0, number, &diff),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("version 1 was deleted by "
                                 "storage.version_retention on 2026-01-01")));
  // A blob that is missing is.
  const auto lost = static_cast<uint64_t>(AddVersion("lost", false));
  EXPECT_THAT(Queries().Diff(0, lost, &diff),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is missing")));
}

TEST(ReasonTest, IsBounded) {
  EXPECT_OK(CheckReason(std::string(4096, 'r')));
  EXPECT_THAT(CheckReason(std::string(4097, 'r')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("has 4097 bytes, at most 4096")));
}

TEST_F(AdminQueriesTest, StatusCountsEachBlobOnce) {
  AddVersion("four", false);
  AddVersion("four", false);
  AddVersion("pruned away", true);
  v1::StatusInfo status;
  ASSERT_OK(Queries().Status(&status));
  EXPECT_EQ(status.blob_bytes(), 12u + 4u);
}

TEST_F(AdminQueriesTest, AnInstitutionsContributionsAreThoseThatCount) {
  ASSERT_OK(
      Write([](WriteTx& tx) { return InsertRound(tx, Round(1)).status(); }));
  AddUploads(1, 3);
  ASSERT_OK(Write([](WriteTx& tx) {
    return InsertContribution(tx, Committed(Contribution("c", 1, 1)));
  }));
  v1::InstitutionInfo info;
  ASSERT_OK(Queries().Institution("bank-a", &info));
  EXPECT_EQ(info.contributions(), 1u);
}

}  // namespace
}  // namespace consilium

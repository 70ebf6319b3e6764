#include <map>
#include <string>
#include <string_view>

#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class VersionTableTest : public StoreTest {
 protected:
  // A promoted child of `parent`; returns its number.
  static int64_t Add(WriteTx& tx, int64_t parent) {
    VersionRow row;
    row.digest = Sha256(Cat("child of ", parent, " #", next_++));
    row.parent = parent;
    row.state = VersionState::kPromoted;
    row.created_at = kTestNow;
    const auto inserted = InsertVersion(tx, row, nullptr);
    EXPECT_OK(inserted.status());
    return inserted.ok() ? inserted->row.number : -1;
  }
  static inline int next_ = 0;
};

TEST_F(VersionTableTest, InsertIsIdempotentPerRoundAttemptAndDigest) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    VersionRow row;
    row.digest = Sha256("result");
    row.blob_bytes = 6;
    row.parent = 0;
    row.round = 1;
    row.attempt = 1;
    row.created_at = kTestNow;
    int signings = 0;
    const auto sign = [&](const VersionRow& v) -> absl::StatusOr<std::string> {
      ++signings;
      return Cat("signed ", v.number);
    };
    CONSILIUM_ASSIGN_OR_RETURN(const auto first, InsertVersion(tx, row, sign));
    EXPECT_TRUE(first.inserted);
    EXPECT_EQ(first.row.number, 1);
    CONSILIUM_ASSIGN_OR_RETURN(const auto again, InsertVersion(tx, row, sign));
    EXPECT_FALSE(again.inserted);
    EXPECT_EQ(again.row.number, 1);
    EXPECT_EQ(again.row.signature, "signed 1");
    EXPECT_EQ(signings, 1);
    // A replay that leaves somebody out gives other bytes: a new version.
    row.digest = Sha256("other");
    CONSILIUM_ASSIGN_OR_RETURN(const auto other, InsertVersion(tx, row, sign));
    EXPECT_TRUE(other.inserted);
    EXPECT_EQ(other.row.number, 2);
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow got, GetVersion(tx, 2));
    EXPECT_EQ(got.signature, "signed 2");
    EXPECT_EQ(got.round, 1);
    EXPECT_EQ(got.digest, row.digest);
    EXPECT_EQ(got.state, VersionState::kCandidate);
    CONSILIUM_ASSIGN_OR_RETURN(const auto found,
                               FindVersionByDigest(tx, row.digest));
    EXPECT_EQ(found->number, 2);
    return absl::OkStatus();
  }));
}

// A later round that came to the same parameters and was rejected does not hide
// the version that is served.
TEST_F(VersionTableTest, ADigestFindsTheVersionThatIsNotPruned) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    VersionRow row;
    row.digest = Sha256("same");
    for (int i = 1; i <= 3; ++i) {
      CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, row, nullptr).status());
    }
    const auto found = [&]() -> absl::StatusOr<int64_t> {
      CONSILIUM_ASSIGN_OR_RETURN(const auto version,
                                 FindVersionByDigest(tx, row.digest));
      return version->number;
    };
    EXPECT_THAT(found(), IsOkAndHolds(3));
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 3, kTestNow));
    EXPECT_THAT(found(), IsOkAndHolds(2));
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 1, kTestNow));
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 2, kTestNow));
    EXPECT_THAT(found(), IsOkAndHolds(3));
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, AFailedSignatureInsertsNothing) {
  EXPECT_THAT(
      Write([](WriteTx& tx) {
        return InsertVersion(
                   tx, {},
                   [](const VersionRow&) -> absl::StatusOr<std::string> {
                     return absl::InternalError("no key");
                   })
            .status();
      }),
      StatusIs(absl::StatusCode::kInternal, "no key"));
  ASSERT_OK(Read([](ReadTx& tx) {
    EXPECT_THAT(NextVersionNumber(tx), IsOkAndHolds(1));
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, ARowMustFit) {
  ASSERT_OK(Write([](WriteTx& tx) {
    VersionRow row;
    row.parent = 55;
    EXPECT_FALSE(InsertVersion(tx, row, nullptr).ok());  // no such parent
    row.parent = std::nullopt;
    row.round = 3;
    row.attempt = 1;
    EXPECT_THAT(InsertVersion(tx, row, nullptr).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    row.round = std::nullopt;  // an attempt of no round
    EXPECT_THAT(InsertVersion(tx, row, nullptr).status(),
                StatusIs(absl::StatusCode::kInvalidArgument));
    row.attempt = std::nullopt;
    row.blob_bytes = -1;
    EXPECT_THAT(InsertVersion(tx, row, nullptr).status(),
                StatusIs(absl::StatusCode::kInvalidArgument));
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, StatesAndTimes) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    VersionRow row;
    row.digest = Sha256("x");
    CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, row, nullptr).status());
    using S = VersionState;
    EXPECT_OK(SetVersionState(tx, 1, S::kPromoted, "", kTestNow));
    EXPECT_OK(
        SetVersionState(tx, 1, S::kPromoted, "", kTestNow + absl::Hours(1)));
    CONSILIUM_ASSIGN_OR_RETURN(VersionRow got, GetVersion(tx, 1));
    EXPECT_EQ(got.promoted_at, kTestNow);
    EXPECT_OK(SetVersionState(tx, 1, S::kRolledBack, "worse", kTestNow));
    EXPECT_THAT(SetVersionState(tx, 1, S::kCandidate, "", kTestNow),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 1, kTestNow));
    EXPECT_THAT(
        SetVersionState(tx, 1, S::kPromoted, "", kTestNow),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("pruned")));
    CONSILIUM_ASSIGN_OR_RETURN(got, GetVersion(tx, 1));
    EXPECT_EQ(got.state, S::kRolledBack);
    EXPECT_EQ(got.reason, "worse");
    EXPECT_THAT(GetVersion(tx, 7).status(),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("version 7")));
    return absl::OkStatus();
  }));
}

//  0 - 1 - 2 - 4
//        \ 3     5 is a child of 0
TEST_F(VersionTableTest, LineageAndTaint) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    EXPECT_EQ(Add(tx, 0), 1);
    EXPECT_EQ(Add(tx, 1), 2);
    EXPECT_EQ(Add(tx, 1), 3);
    EXPECT_EQ(Add(tx, 2), 4);
    EXPECT_EQ(Add(tx, 0), 5);
    EXPECT_THAT(VersionDescendants(tx, 1), IsOkAndHolds(ElementsAre(2, 3, 4)));
    EXPECT_THAT(VersionDescendants(tx, 5), IsOkAndHolds(IsEmpty()));
    EXPECT_THAT(VersionAncestors(tx, 4), IsOkAndHolds(ElementsAre(2, 1, 0)));
    EXPECT_THAT(VersionAncestors(tx, 0), IsOkAndHolds(IsEmpty()));
    EXPECT_THAT(TaintVersions(tx, 2, "bank-a quarantined"),
                IsOkAndHolds(ElementsAre(2, 4)));
    EXPECT_THAT(TaintVersions(tx, 1, "bank-b quarantined"),
                IsOkAndHolds(ElementsAre(1, 3)));
    EXPECT_THAT(TaintVersions(tx, 99, "").status(),
                StatusIs(absl::StatusCode::kNotFound));
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow four, GetVersion(tx, 4));
    EXPECT_TRUE(four.tainted);
    EXPECT_EQ(four.reason, "bank-a quarantined");
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow five, GetVersion(tx, 5));
    EXPECT_FALSE(five.tainted);
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, AReasonOfATaintLastsAsLongAsTheTaint) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    EXPECT_EQ(Add(tx, 0), 1);
    EXPECT_EQ(Add(tx, 1), 2);
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    for (const auto& [id, institution] :
         std::map<std::string, int64_t>{{"a1", 1}, {"b1", 2}}) {
      ContributionRow row = Committed(Contribution(id, 1, institution));
      CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, row));
      CONSILIUM_RETURN_IF_ERROR(AddVersionContribution(tx, 1, id));
    }
    const auto quarantine = [&](const char* id, const char* name) {
      CONSILIUM_RETURN_IF_ERROR(SetContributionState(
          tx, id, ContributionState::kQuarantined, Cat("odd ", id)));
      return TaintVersionsWith(tx, id,
                               Cat("contribution of ", name, ": odd ", id));
    };
    const auto release = [&](const char* id, const char* name) {
      CONSILIUM_RETURN_IF_ERROR(
          SetContributionState(tx, id, ContributionState::kFolded, ""));
      return ClearTaintWith(tx, id,
                            Cat("contribution of ", name, ": odd ", id));
    };
    const auto expect = [&](bool tainted, std::string_view reason) {
      for (const int64_t number : {1, 2}) {
        const auto row = GetVersion(tx, number);
        EXPECT_OK(row.status());
        EXPECT_EQ(row->tainted, tainted) << number;
        EXPECT_EQ(row->reason, reason) << number;
      }
    };
    CONSILIUM_RETURN_IF_ERROR(quarantine("a1", "bank-a"));
    CONSILIUM_RETURN_IF_ERROR(quarantine("b1", "bank-b"));
    expect(true, "contribution of bank-a: odd a1");
    // Promoted without a word about it.
    for (const int64_t number : {1, 2}) {
      CONSILIUM_RETURN_IF_ERROR(
          SetVersionState(tx, number, VersionState::kPromoted, "", kTestNow));
    }
    expect(true, "contribution of bank-a: odd a1");
    CONSILIUM_RETURN_IF_ERROR(release("a1", "bank-a"));
    expect(true, "contribution of bank-b: odd b1");
    CONSILIUM_RETURN_IF_ERROR(release("b1", "bank-b"));
    expect(false, "");
    // A reason that is no taint's goes with the state it was for.
    CONSILIUM_RETURN_IF_ERROR(
        SetVersionState(tx, 2, VersionState::kRejected, "worse", kTestNow));
    CONSILIUM_RETURN_IF_ERROR(
        SetVersionState(tx, 2, VersionState::kPromoted, "", kTestNow));
    expect(false, "");
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, PagesMeetAndDoNotOverlap) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 0; i < 6; ++i) Add(tx, i);
    const auto numbers = [&](Page page) {
      std::vector<int64_t> out;
      const auto rows = ListVersions(tx, page);
      EXPECT_OK(rows.status());
      for (const auto& row : *rows) out.push_back(row.number);
      return out;
    };
    EXPECT_THAT(numbers({.limit = 3}), ElementsAre(0, 1, 2));
    EXPECT_THAT(numbers({.after = 2, .limit = 3}), ElementsAre(3, 4, 5));
    EXPECT_THAT(numbers({.after = 5, .limit = 3}), ElementsAre(6));
    EXPECT_THAT(numbers({.limit = 2, .descending = true}), ElementsAre(6, 5));
    EXPECT_THAT(numbers({.after = 5, .limit = 2, .descending = true}),
                ElementsAre(4, 3));
    EXPECT_THAT(ListVersions(tx, {.limit = 0}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_FALSE(ListVersions(tx, {.limit = 10001}).ok());
    return absl::OkStatus();
  }));
}

TEST_F(VersionTableTest, LiveBlobsNameEachDigestOnce) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    VersionRow row;
    row.digest = Sha256("version zero");
    row.blob_bytes = 12;
    CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, row, nullptr).status());
    CONSILIUM_ASSIGN_OR_RETURN(auto blobs, ListLiveBlobs(tx));
    EXPECT_EQ(blobs.size(), 1u);
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 0, kTestNow));
    CONSILIUM_ASSIGN_OR_RETURN(blobs, ListLiveBlobs(tx));
    EXPECT_EQ(blobs.size(), 1u);  // version 1 has the same bytes
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 1, kTestNow));
    CONSILIUM_ASSIGN_OR_RETURN(blobs, ListLiveBlobs(tx));
    EXPECT_THAT(blobs, IsEmpty());
    // The layout's text is a blob too.
    CONSILIUM_ASSIGN_OR_RETURN(FederationRow federation, GetFederation(tx));
    federation.layout_digest = Sha256("layout");
    federation.layout_bytes = 6;
    CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, federation));
    CONSILIUM_ASSIGN_OR_RETURN(blobs, ListLiveBlobs(tx));
    EXPECT_EQ(blobs.size(), 1u);
    return absl::OkStatus();
  }));
}

}  // namespace
}  // namespace consilium

#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using S = ContributionState;

class RecoveryTest : public StoreTest {
 protected:
  RecoveryReport Recover() {
    const auto report = store_->Recover(kTestNow);
    EXPECT_OK(report.status());
    return report.ok() ? *report : RecoveryReport{};
  }
  void ExpectClean() {
    ASSERT_OK_AND_ASSIGN(const CheckReport report,
                         CheckStore(*store_, {.deep = true}));
    for (const CheckProblem& problem : report.problems) {
      ADD_FAILURE() << problem.kind << " " << problem.object << ": "
                    << problem.detail;
    }
  }
  void Insert(const RoundRow& row) {
    ASSERT_OK(
        Write([&](WriteTx& tx) { return InsertRound(tx, row).status(); }));
  }
  void Insert(const ContributionRow& row) {
    ASSERT_OK(Write([&](WriteTx& tx) { return InsertContribution(tx, row); }));
  }
  ContributionRow Get(const std::string& id) {
    ContributionRow out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindContribution(tx, id));
      out = row.value();
      return absl::OkStatus();
    }));
    return out;
  }
  RoundRow GetRoundRow(int64_t id) {
    RoundRow out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(out, GetRound(tx, id));
      return absl::OkStatus();
    }));
    return out;
  }
  void MakeKey(int64_t round, int64_t attempt) {
    RoundKeyRecord key;
    key.round = round;
    key.attempt = attempt;
    key.wrapped_private_key = "wrapped";
    ASSERT_OK(store_->round_keys().Create(key));
  }
  static std::vector<std::string> Ids(const std::vector<ContributionRow>& v) {
    std::vector<std::string> out;
    for (const auto& row : v) out.push_back(row.id);
    return out;
  }
};

TEST_F(RecoveryTest, AHealthyStoreIsLeftAlone) {
  Insert(Round(1));
  Insert(Contribution("a1", 1, 1));
  MakeSpool(Contribution("a1", 1, 1), 2);
  Insert(Committed(Contribution("b1", 1, 2)));
  MakeSpool(Contribution("b1", 1, 2));
  Reopen();
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.temps_removed, 0);
  EXPECT_EQ(report.blobs_removed, 0);
  EXPECT_EQ(report.spools_removed, 0);
  EXPECT_EQ(report.keys_removed, 0);
  EXPECT_THAT(report.keys_missing, IsEmpty());
  EXPECT_THAT(Ids(report.uploading), ElementsAre("a1"));
  EXPECT_THAT(Ids(report.committed), ElementsAre("b1"));
  EXPECT_THAT(report.lost, IsEmpty());
  ExpectClean();
}

TEST_F(RecoveryTest, FilesThatNoRowNamesAreRemoved) {
  ASSERT_OK(store_->blobs().Put(AsBytes("published, no row")).status());
  ASSERT_OK(WriteFileAtomic(&disk_.fs(), "/data/tmp/0.blob-tmp",
                            AsBytes("half a fold")));
  MakeSpool(Contribution("dead", 4, 1));
  MakeKey(4, 1);
  ASSERT_OK(WriteFileAtomic(&disk_.fs(), "/data/round-keys/9-1.key.tmp",
                            AsBytes("half a key")));
  Reopen();
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.blobs_removed, 1);
  EXPECT_EQ(report.temps_removed, 1);
  EXPECT_EQ(report.spools_removed, 1);
  EXPECT_EQ(report.keys_removed, 2);
  EXPECT_FALSE(disk_.fs().Exists("/data/spool/4-1"));
  ExpectClean();
}

TEST_F(RecoveryTest, UploadsOfFinishedRoundsAndOldAttemptsExpire) {
  RoundRow open = Round(1);
  open.attempt = 2;
  Insert(open);
  Insert(Round(2, "failed"));
  Insert(Contribution("old", 1, 1));  // attempt 1 of round 1
  MakeSpool(Contribution("old", 1, 1));
  Insert(Contribution("late", 2, 1));
  MakeSpool(Contribution("late", 2, 1));
  Insert(Committed(Contribution("kept", 2, 2)));  // until its retention
  MakeSpool(Contribution("kept", 2, 2));
  const RecoveryReport report = Recover();
  EXPECT_THAT(report.uploading, IsEmpty());
  EXPECT_EQ(report.spools_removed, 2);
  EXPECT_EQ(Get("old").state, S::kExpired);
  EXPECT_EQ(Get("late").state, S::kExpired);
  EXPECT_EQ(Get("late").spool_path, "");
  EXPECT_EQ(Get("kept").state, S::kCommitted);
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto events, ListRoundEvents(tx, 2));
    EXPECT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, "upload_expired");
    EXPECT_EQ(events[0].institution, "bank-a");
    return absl::OkStatus();
  }));
  ExpectClean();
}

TEST_F(RecoveryTest, ALostSpoolIsReported) {
  Insert(Round(1));
  Insert(Committed(Contribution("gone", 1, 1)));
  const RecoveryReport report = Recover();
  EXPECT_THAT(Ids(report.lost), ElementsAre("gone"));
  EXPECT_THAT(report.committed, IsEmpty());
}

TEST_F(RecoveryTest, ASupersededUploadWhoseFileIsGoneIsNoProblem) {
  Insert(Round(1));
  ContributionRow row = Contribution("old", 1, 1);
  row.state = S::kSuperseded;
  Insert(row);
  ExpectClean();
  Recover();
  EXPECT_EQ(Get("old").spool_path, "");
}

TEST_F(RecoveryTest, KeysFollowTheirRows) {
  RoundRow open = Round(1);
  open.round_key_state = RoundKeyState::kLive;
  Insert(open);
  MakeKey(1, 1);
  RoundRow lost = Round(2);  // open, and its key is gone
  lost.round_key_state = RoundKeyState::kLive;
  Insert(lost);
  RoundRow dying = Round(3, "promoted");  // a destruction was interrupted
  dying.round_key_state = RoundKeyState::kLive;
  Insert(dying);
  MakeKey(3, 1);
  ASSERT_OK(disk_.fs().Corrupt("/data/round-keys/3-1.key", 0));
  RoundRow dead = Round(4, "promoted");
  dead.round_key_state = RoundKeyState::kDestroyed;
  Insert(dead);
  MakeKey(4, 1);
  RoundRow restarted = Round(5);  // attempt 2; the key of attempt 1 is over
  restarted.attempt = 2;
  restarted.round_key_state = RoundKeyState::kLive;
  Insert(restarted);
  MakeKey(5, 1);
  MakeKey(5, 2);

  const RecoveryReport report = Recover();
  EXPECT_THAT(report.keys_missing, ElementsAre(Pair(2, 1), Pair(3, 1)));
  EXPECT_THAT(store_->round_keys().List(),
              IsOkAndHolds(ElementsAre(Pair(1, 1), Pair(5, 2))));
  EXPECT_EQ(report.keys_removed, 2);
  EXPECT_EQ(GetRoundRow(1).round_key_state, RoundKeyState::kLive);
  EXPECT_EQ(GetRoundRow(2).round_key_state, RoundKeyState::kLive);
  EXPECT_EQ(GetRoundRow(3).round_key_state, RoundKeyState::kDestroyed);
}

TEST_F(RecoveryTest, RecoveryIsIdempotentAcrossCrashes) {
  for (int64_t k = 1;; ++k) {
    ASSERT_LT(k, 300);
    FaultDisk disk;
    disk_.fs().KillProcess();
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(disk.Options()));
    ASSERT_OK(Seed(*store_));
    RoundRow open = Round(1);
    open.round_key_state = RoundKeyState::kLive;
    Insert(open);
    MakeKey(1, 1);
    Insert(Committed(Contribution("b1", 1, 2)));
    MakeSpool(Contribution("b1", 1, 2));
    Insert(Round(2, "failed"));
    Insert(Contribution("late", 2, 1));
    MakeSpool(Contribution("late", 2, 1));
    MakeSpool(Contribution("nobody", 9, 1));
    MakeKey(9, 1);
    ASSERT_OK(store_->blobs().Put(AsBytes("no row")).status());
    store_.reset();
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(disk.Options()));
    disk.fs().CrashAt(k);
    const bool done = store_->Recover(kTestNow).ok();
    store_.reset();
    disk.fs().Crash(static_cast<uint64_t>(k) * 31);
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(disk.Options()));
    const RecoveryReport report = Recover();
    EXPECT_THAT(Ids(report.committed), ElementsAre("b1"));
    EXPECT_THAT(report.lost, IsEmpty());
    EXPECT_THAT(report.keys_missing, IsEmpty());
    ExpectClean();
    store_.reset();
    if (done) break;
  }
}

// --- retention ---------------------------------------------------------------

class RetentionTest : public RecoveryTest {
 protected:
  RetentionReport Apply(absl::Duration spool_retention, int64_t keep,
                        absl::Time now = kTestNow) {
    const auto report = store_->ApplyRetention(
        {.spool_retention = spool_retention, .keep_versions = keep}, now);
    EXPECT_OK(report.status());
    return report.ok() ? *report : RetentionReport{};
  }
  // A version with its own blob.
  int64_t AddVersion(VersionState state, std::optional<int64_t> round = {}) {
    const std::string text = Cat("parameters ", next_++);
    const auto digest = store_->blobs().Put(AsBytes(text));
    EXPECT_OK(digest.status());
    int64_t number = 0;
    EXPECT_OK(Write([&](WriteTx& tx) -> absl::Status {
      VersionRow row;
      row.digest = *digest;
      row.blob_bytes = static_cast<int64_t>(text.size());
      row.state = state;
      row.created_at = kTestNow;
      if (round.has_value()) {
        row.round = round;
        row.attempt = 1;
      }
      CONSILIUM_ASSIGN_OR_RETURN(const auto inserted,
                                 InsertVersion(tx, row, nullptr));
      number = inserted.row.number;
      return absl::OkStatus();
    }));
    store_->blobs().Release(*digest);
    return number;
  }
  int next_ = 0;
};

TEST_F(RetentionTest, KeyFirstThenSpools) {
  RoundRow round = Round(1, "promoted");
  round.round_key_state = RoundKeyState::kLive;
  Insert(round);
  MakeKey(1, 1);
  ContributionRow folded = Committed(Contribution("f1", 1, 1));
  folded.state = S::kFolded;
  Insert(folded);
  MakeSpool(folded);
  Insert(Committed(Contribution("c1", 1, 2)));
  MakeSpool(Contribution("c1", 1, 2));

  // One microsecond before its time nothing happens.
  RetentionReport report = Apply(
      absl::Hours(1), 10, kTestNow + absl::Hours(1) - absl::Microseconds(1));
  EXPECT_THAT(report.keys_destroyed, IsEmpty());
  EXPECT_EQ(report.spools_removed, 0);
  report = Apply(absl::Hours(1), 10, kTestNow + absl::Hours(1));
  EXPECT_THAT(report.keys_destroyed, ElementsAre(Pair(1, 1)));
  EXPECT_EQ(report.spools_removed, 2);
  EXPECT_GT(report.bytes_freed, 2 * 4096);
  EXPECT_EQ(GetRoundRow(1).round_key_state, RoundKeyState::kDestroyed);
  EXPECT_EQ(Get("f1").state, S::kFolded);
  EXPECT_EQ(Get("f1").spool_path, "");
  EXPECT_EQ(Get("c1").state, S::kExpired);
  EXPECT_FALSE(disk_.fs().Exists("/data/spool/1-1"));
  EXPECT_THAT(store_->round_keys().Load(1, 1).status(),
              StatusIs(absl::StatusCode::kNotFound));
  ExpectClean();
  report = Apply(absl::Hours(1), 10, kTestNow + absl::Hours(2));
  EXPECT_EQ(report.spools_removed, 0);
}

TEST_F(RetentionTest, OpenRoundsKeepEverything) {
  RoundRow round = Round(1, "evaluating");
  round.round_key_state = RoundKeyState::kLive;
  Insert(round);
  MakeKey(1, 1);
  Insert(Committed(Contribution("c1", 1, 1)));
  MakeSpool(Contribution("c1", 1, 1));
  const RetentionReport report =
      Apply(absl::ZeroDuration(), 0, kTestNow + absl::Hours(999));
  EXPECT_EQ(report.spools_removed, 0);
  EXPECT_TRUE(store_->round_keys().Exists(1, 1));
}

TEST_F(RetentionTest, VersionsThatAreNeededStay) {
  // 0 current; 1..6 promoted, 7 rejected, 8 candidate.
  for (int i = 1; i <= 6; ++i) {
    EXPECT_EQ(AddVersion(VersionState::kPromoted), i);
  }
  EXPECT_EQ(AddVersion(VersionState::kRejected), 7);
  EXPECT_EQ(AddVersion(VersionState::kCandidate), 8);
  RoundRow open = Round(1);
  open.base_version = 2;
  Insert(open);
  RoundRow replayable = Round(2, "promoted");
  replayable.base_version = 3;
  Insert(replayable);
  ContributionRow folded = Committed(Contribution("f", 2, 1));
  folded.state = S::kFolded;
  Insert(folded);
  MakeSpool(folded);

  const RetentionReport report = Apply(absl::Hours(1), 1);
  // Newest: 8. Newest promoted besides the current: 6.
  EXPECT_THAT(report.versions_pruned, ElementsAre(1, 4, 5, 7));
  EXPECT_GT(report.bytes_freed, 0);
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow four, GetVersion(tx, 4));
    EXPECT_EQ(four.pruned_at, kTestNow);
    EXPECT_EQ(four.state, VersionState::kPromoted);  // history stays
    return absl::OkStatus();
  }));
  ExpectClean();
  EXPECT_THAT(Apply(absl::Hours(1), 1).versions_pruned, IsEmpty());
}

// What a replay made and nobody took does not stay for ever.
TEST_F(RetentionTest, CandidatesOfRoundsThatAreOverGoAsRejectedOnesDo) {
  Insert(Round(1, "promoted"));
  Insert(Round(2, "evaluating"));
  EXPECT_EQ(AddVersion(VersionState::kCandidate, 1), 1);
  EXPECT_EQ(AddVersion(VersionState::kCandidate, 2), 2);
  EXPECT_EQ(AddVersion(VersionState::kCandidate, 1), 3);
  EXPECT_THAT(Apply(absl::Hours(1), 1).versions_pruned, ElementsAre(1));
  EXPECT_EQ(AddVersion(VersionState::kRejected), 4);
  EXPECT_THAT(Apply(absl::Hours(1), 1).versions_pruned, ElementsAre(3));
}

TEST_F(RetentionTest, ABlobLivesAsLongAsOneVersionNamesIt) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 0; i < 2; ++i) {
      VersionRow row;  // the same bytes as version 0
      row.digest = Sha256("version zero");
      row.blob_bytes = 12;
      row.state = VersionState::kRejected;
      row.created_at = kTestNow;
      CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, row, nullptr).status());
    }
    return absl::OkStatus();
  }));
  const RetentionReport report = Apply(absl::Hours(1), 0);
  EXPECT_THAT(report.versions_pruned, ElementsAre(1, 2));
  EXPECT_EQ(report.bytes_freed, 0);
  ExpectClean();
}

TEST_F(RetentionTest, NegativePoliciesAreRefused) {
  EXPECT_THAT(
      store_->ApplyRetention({.spool_retention = absl::Seconds(-1)}, kTestNow)
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store_->ApplyRetention({.keep_versions = -1}, kTestNow).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// A key that the disk cannot read now is not gone.
TEST_F(RecoveryTest, AKeyThatCannotBeReadIsKept) {
  RoundRow round = Round(1);
  round.state = "promoted";
  round.finished_at = kTestNow;
  round.round_key_state = RoundKeyState::kLive;
  Insert(round);
  MakeKey(1, 1);
  Reopen();
  const std::string folder = JoinPath(store_->data_dir(), "round-keys");
  ASSERT_OK_AND_ASSIGN(const auto names, disk_.fs().List(folder));
  ASSERT_EQ(names.size(), 1u);
  const std::string key = JoinPath(folder, names[0]);
  disk_.fs().FailReads(key, ErrnoStatus(EIO, "read", key));
  EXPECT_THAT(store_->Recover(kTestNow).status(),
              StatusIs(absl::StatusCode::kDataLoss));
  disk_.fs().CancelFaults();
  EXPECT_THAT(Recover().keys_missing, IsEmpty());
  EXPECT_OK(store_->round_keys().Load(1, 1).status());
  EXPECT_EQ(GetRoundRow(1).round_key_state, RoundKeyState::kLive);
}

}  // namespace
}  // namespace consilium

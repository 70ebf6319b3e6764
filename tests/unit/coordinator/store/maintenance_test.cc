#include "coordinator/store/maintenance.h"

#include <utility>
#include <vector>

#include "coordinator/round/round_json.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/store/round_state.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CheckTest : public StoreTest {
 protected:
  // "kind object" of each problem.
  std::vector<std::string> Problems(bool deep = false) {
    std::vector<std::string> out;
    const auto report = CheckStore(*store_, {.deep = deep});
    EXPECT_OK(report.status());
    for (const CheckProblem& problem : report->problems) {
      EXPECT_FALSE(problem.detail.empty());
      EXPECT_FALSE(problem.fix.empty());
      out.push_back(Cat(problem.kind, " ", problem.object));
    }
    return out;
  }
  static std::string BlobPath() {
    const std::string hex = Sha256("version zero").Hex();
    return Cat("/data/blobs/", hex.substr(0, 2), "/", hex);
  }
};

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

TEST_F(CheckTest, CountsAHealthyStore) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    CONSILIUM_RETURN_IF_ERROR(
        InsertContribution(tx, Committed(Contribution("c1", 1, 1))));
    return AppendAudit(tx, {}).status();
  }));
  MakeSpool(Contribution("c1", 1, 1));
  ASSERT_OK_AND_ASSIGN(const CheckReport report,
                       CheckStore(*store_, {.deep = true}));
  EXPECT_TRUE(report.clean());
  EXPECT_EQ(report.schema_version, EmbeddedMigrations().back().number);
  EXPECT_EQ(report.rounds, 1);
  EXPECT_EQ(report.versions, 1);
  EXPECT_EQ(report.contributions, 1);
  EXPECT_EQ(report.audit_entries, 1);
  EXPECT_EQ(report.blobs, 1);
  EXPECT_EQ(report.blob_bytes, 12);
  EXPECT_EQ(report.spools, 1);
  EXPECT_EQ(report.spool_bytes, 4096 + 3 * (16 + 5));
}

TEST_F(CheckTest, FindsMissingShortAndDamagedBlobs) {
  ASSERT_OK(disk_.fs().Corrupt(BlobPath(), 3));
  EXPECT_THAT(Problems(), IsEmpty());
  EXPECT_THAT(Problems(/*deep=*/true), ElementsAre("blob version 0"));
  ASSERT_OK(disk_.fs().Truncate(BlobPath(), 5));
  EXPECT_THAT(Problems(), ElementsAre("blob version 0"));
  ASSERT_OK(disk_.fs().Remove(BlobPath()));
  EXPECT_THAT(Problems(), ElementsAre("blob version 0"));
}

TEST_F(CheckTest, FindsSpoolsThatDoNotFitTheirRows) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(1)).status());
    CONSILIUM_RETURN_IF_ERROR(
        InsertContribution(tx, Contribution("missing", 1, 1)));
    CONSILIUM_RETURN_IF_ERROR(
        InsertContribution(tx, Committed(Contribution("short", 1, 2))));
    ContributionRow other = Contribution("other", 1, 3);
    other.manifest = "another manifest";
    return InsertContribution(tx, other);
  }));
  MakeSpool(Contribution("short", 1, 2), 2);
  MakeSpool(Contribution("other", 1, 3), 2);
  EXPECT_THAT(Problems(), ElementsAre("spool contribution missing",
                                      "spool contribution short",
                                      "spool contribution other"));
}

TEST_F(CheckTest, FindsKeysThatAreMissingOrWrong) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (const int64_t id : {1, 2}) {
      RoundRow row = Round(id);
      row.round_key_state = RoundKeyState::kLive;
      row.round_public_key = std::string(32, 'p');
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, row).status());
    }
    return absl::OkStatus();
  }));
  RoundKeyRecord key;
  key.round = 2;
  key.attempt = 1;
  key.wrapped_private_key = "w";
  ASSERT_OK(store_->round_keys().Create(key));  // public key: zeros
  EXPECT_THAT(Problems(),
              ElementsAre("key round 1 attempt 1", "key round 2 attempt 1"));
}

TEST_F(CheckTest, FindsWhatNobodyNames) {
  const std::string hex = Sha256("stray").Hex();
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest,
                       store_->blobs().Put(AsBytes("stray")));
  // Its row is still to come: not a stray yet.
  EXPECT_THAT(Problems(), IsEmpty());
  store_->blobs().Release(digest);
  ASSERT_OK(WriteFileAtomic(&disk_.fs(), "/data/tmp/5.blob-tmp", {}));
  MakeSpool(Contribution("nobody", 3, 1));
  RoundKeyRecord key;
  key.round = 3;
  key.attempt = 1;
  key.wrapped_private_key = "w";
  ASSERT_OK(store_->round_keys().Create(key));
  EXPECT_THAT(Problems(), UnorderedElementsAre(
                              Cat("stray ", store_->blobs().PathOf(digest)),
                              "stray /data/tmp/5.blob-tmp",
                              "stray spool/3-1/bank-nobody.spool",
                              "stray round 3 attempt 1"));
}

TEST_F(CheckTest, FindsBrokenReferencesAndAWrongCurrentVersion) {
  ASSERT_OK(Write([](WriteTx& tx) {
    return SetVersionState(tx, 0, VersionState::kRolledBack, "", kTestNow);
  }));
  EXPECT_THAT(Problems(), ElementsAre("reference version 0"));
  ASSERT_OK(store_->Close());
  // Somebody edits the file by hand, without foreign keys.
  {
    ASSERT_OK_AND_ASSIGN(
        const auto db,
        Connection::Open({.path = "/data/history.db", .vfs = disk_.vfs()}));
    ASSERT_OK(
        db->Script("PRAGMA foreign_keys = OFF; "
                   "INSERT INTO round_event (round, attempt, at, kind) "
                   "VALUES (77, 1, 0, 'x')"));
  }
  Reopen();
  EXPECT_THAT(Problems(), ElementsAre("reference table round_event row 1",
                                      "reference version 0"));
}

TEST_F(CheckTest, ADamagedDatabaseIsAProblemNotAnError) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 0; i < 500; ++i) {
      AuditEntry entry;
      entry.detail = std::string(100, 'd');
      CONSILIUM_RETURN_IF_ERROR(AppendAudit(tx, entry).status());
    }
    return absl::OkStatus();
  }));
  ASSERT_OK(store_->Close());
  ASSERT_OK_AND_ASSIGN(const FileInfo info,
                       disk_.fs().Stat("/data/history.db"));
  // Overwrite a page in the middle, as a failing disk might.
  {
    ASSERT_OK_AND_ASSIGN(const auto file,
                         disk_.fs().Open("/data/history.db", {.write = true}));
    const std::vector<std::byte> noise(4096, std::byte{0xa5});
    ASSERT_OK(file->WriteAt(info.size / 2 / 4096 * 4096, noise));
  }
  Reopen();
  const std::vector<std::string> problems = Problems();
  ASSERT_FALSE(problems.empty());
  EXPECT_EQ(problems[0], "database history.db");
}

TEST_F(CheckTest, WorksReadOnly) {
  StoreOptions options = disk_.Options();
  options.create = false;
  options.read_only = true;
  Reopen(options);
  EXPECT_THAT(Problems(/*deep=*/true), IsEmpty());
}

// --- backup and restore, on real files ---------------------------------------

class BackupTest : public StoreTest {
 protected:
  void SetUp() override {
    options_.data_dir = dir_ / "data";
    options_.create = true;
    options_.min_free_bytes = 0;
    Reopen(options_);
    ASSERT_OK(Seed(*store_));
  }
  void TearDown() override { store_.reset(); }

  FileSystem& fs() { return *PosixFileSystem(); }
  // Adds an open round with a key and an upload, and a round in evaluation.
  void Fill() {
    ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
      RoundRow row = Round(1);
      row.round_key_state = RoundKeyState::kLive;
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, row).status());
      CONSILIUM_ASSIGN_OR_RETURN(const RoundState open, Collecting(1));
      CONSILIUM_RETURN_IF_ERROR(StoreRoundState(tx, {}, open));
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(2, "promoted")).status());
      CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, Round(3)).status());
      CONSILIUM_ASSIGN_OR_RETURN(RoundState judged, Collecting(3));
      judged.phase = RoundPhase::kEvaluating;
      CONSILIUM_RETURN_IF_ERROR(StoreRoundState(tx, {}, judged));
      CONSILIUM_RETURN_IF_ERROR(
          InsertContribution(tx, Committed(Contribution("c1", 1, 1))));
      ContributionRow folded = Committed(Contribution("f1", 2, 1));
      folded.state = ContributionState::kFolded;
      CONSILIUM_RETURN_IF_ERROR(InsertContribution(tx, folded));
      return AppendAudit(tx, {}).status();
    }));
    MakeSpool(Contribution("c1", 1, 1));
    MakeSpool(Contribution("f1", 2, 1));
    RoundKeyRecord key;
    key.round = 1;
    key.attempt = 1;
    key.wrapped_private_key = "wrapped";
    ASSERT_OK(store_->round_keys().Create(key));
  }
  // bank-a has committed, bank-b uploads, bank-c trains.
  static absl::StatusOr<RoundState> Collecting(int64_t id) {
    RoundPlan plan;
    plan.id = id;
    plan.config.evaluation.enabled = false;
    for (const char* name : {"bank-a", "bank-b", "bank-c"}) {
      plan.members.push_back(name);
    }
    CONSILIUM_ASSIGN_OR_RETURN(RoundState state, PlanRound(plan, kTestNow));
    for (const RoundEvent& event : std::vector<RoundEvent>{
             Start{}, UploadBegan{"bank-a"},
             ContributionCommitted{"bank-a", 100}, UploadBegan{"bank-b"},
             ProgressReported{"bank-c", 0.5, ""}}) {
      CONSILIUM_ASSIGN_OR_RETURN(Transition next,
                                 Apply(state, event, kTestNow));
      state = std::move(next.state);
    }
    return state;
  }
  RestoreOptions Restore(const std::string& to) {
    RestoreOptions options;
    options.backup_dir = dir_ / "backup";
    options.data_dir = to;
    options.actor = "consilium://cards/operator/eve";
    return options;
  }
  BackupReport Backup() {
    const auto report = BackupStore(*store_, dir_ / "backup", kTestNow);
    EXPECT_OK(report.status());
    return report.ok() ? *report : BackupReport{};
  }

  TempDir dir_;
  StoreOptions options_;
};

TEST_F(BackupTest, HoldsHistoryAndBlobsAndNothingElse) {
  Fill();
  const BackupReport report = Backup();
  EXPECT_EQ(report.blobs, 1);
  EXPECT_EQ(report.blob_bytes, 12);
  EXPECT_GT(report.database_bytes, 4096);
  EXPECT_THAT(fs().List(dir_ / "backup"),
              IsOkAndHolds(ElementsAre("backup.txt", "blobs", "history.db")));
  ASSERT_OK_AND_ASSIGN(
      const std::string text,
      ReadWholeFile(&fs(), dir_ / "backup/backup.txt", 1 << 20));
  EXPECT_THAT(text, ::testing::StartsWith("consilium-backup 1\n"));
  EXPECT_THAT(text,
              HasSubstr(Cat("blob ", Sha256("version zero").Hex(), " 12\n")));
  EXPECT_THAT(text, ::testing::EndsWith("\nend\n"));
  // The store goes on, and a second backup needs a new folder.
  EXPECT_OK(Write([](WriteTx& tx) { return AppendAudit(tx, {}).status(); }));
  EXPECT_THAT(
      BackupStore(*store_, dir_ / "backup", kTestNow).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not empty")));
}

TEST_F(BackupTest, RestoresWithoutWhatABackupCannotHold) {
  Fill();
  Backup();
  // After the backup: not in the restored store.
  ASSERT_OK(Write([](WriteTx& tx) {
    return InsertInstitution(tx, Institution("later")).status();
  }));
  const absl::Time later = kTestNow + absl::Hours(5);
  ASSERT_OK_AND_ASSIGN(const RestoreReport report,
                       RestoreStore(Restore(dir_ / "copy"), later));
  EXPECT_EQ(report.blobs, 1);
  EXPECT_EQ(report.rounds_cancelled, 1);
  EXPECT_EQ(report.contributions_expired, 1);

  StoreOptions options = options_;
  options.data_dir = dir_ / "copy";
  options.create = false;
  ASSERT_OK_AND_ASSIGN(const auto copy, Store::Open(options));
  ASSERT_OK_AND_ASSIGN(const CheckReport check,
                       CheckStore(*copy, {.deep = true}));
  EXPECT_TRUE(check.clean());
  ASSERT_OK(copy->history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto institutions, ListInstitutions(tx));
    EXPECT_EQ(institutions.size(), 3u);
    CONSILIUM_ASSIGN_OR_RETURN(const RoundRow round, GetRound(tx, 1));
    EXPECT_EQ(round.state, "cancelled");
    EXPECT_EQ(round.finished_at, later);
    EXPECT_EQ(round.round_key_state, RoundKeyState::kDestroyed);
    EXPECT_EQ(round.reason,
              "restored from a backup of 2026-01-01T00:00:00Z, which holds no "
              "contributions to rounds under way");
    // The machine's own state says the same, and so do the members.
    CONSILIUM_ASSIGN_OR_RETURN(const RoundState state,
                               RoundStateFromJson(round.state_json));
    EXPECT_EQ(state.phase, RoundPhase::kCancelled);
    EXPECT_EQ(state.reason, round.reason);
    CONSILIUM_ASSIGN_OR_RETURN(const auto cohort, ListCohort(tx, 1, 1));
    EXPECT_EQ(cohort.size(), 3u);
    for (const CohortMemberRow& member : cohort) {
      EXPECT_NE(member.state, "uploading");
      EXPECT_NE(member.state, "training");
    }
    // Its candidate is in the backup: the evaluation goes on.
    CONSILIUM_ASSIGN_OR_RETURN(const RoundRow judged, GetRound(tx, 3));
    EXPECT_EQ(judged.state, "evaluating");
    EXPECT_FALSE(judged.finished_at.has_value());
    CONSILIUM_ASSIGN_OR_RETURN(const auto c1, FindContribution(tx, "c1"));
    EXPECT_EQ(c1->state, ContributionState::kExpired);
    CONSILIUM_ASSIGN_OR_RETURN(const auto f1, FindContribution(tx, "f1"));
    EXPECT_EQ(f1->state, ContributionState::kFolded);
    EXPECT_EQ(f1->spool_path, "");
    CONSILIUM_ASSIGN_OR_RETURN(const auto audit, ListAudit(tx));
    EXPECT_EQ(audit.back().action, "db.restore");
    EXPECT_EQ(audit.back().actor, "consilium://cards/operator/eve");
    return absl::OkStatus();
  }));
}

TEST_F(BackupTest, RestoreInPlaceKeepsTheOldDirectory) {
  Backup();
  ASSERT_OK(Write([](WriteTx& tx) {
    return InsertInstitution(tx, Institution("later")).status();
  }));
  RestoreOptions options = Restore(options_.data_dir);
  EXPECT_THAT(
      RestoreStore(options, kTestNow).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not empty")));
  options.force = true;
  EXPECT_THAT(RestoreStore(options, kTestNow).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));  // running
  store_.reset();
  ASSERT_OK(RestoreStore(options, kTestNow).status());
  Reopen(options_);
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    EXPECT_THAT(FindInstitution(tx, "later"), IsOkAndHolds(std::nullopt));
    return absl::OkStatus();
  }));
  EXPECT_TRUE(fs().Exists(dir_ / "data.before-restore/history.db"));
  store_.reset();
  EXPECT_THAT(RestoreStore(options, kTestNow).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("move it away")));
}

TEST_F(BackupTest, DamagedBackupsAreRefusedAndTouchNothing) {
  Backup();
  const std::string hex = Sha256("version zero").Hex();
  const std::string blob =
      dir_ / Cat("backup/blobs/", hex.substr(0, 2), "/", hex);
  const std::string to = dir_ / "copy";
  const auto refused = [&](const char* why) {
    EXPECT_THAT(RestoreStore(Restore(to), kTestNow).status(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(why)));
    EXPECT_FALSE(fs().Exists(to));
  };
  ASSERT_OK(WriteFileAtomic(&fs(), blob, AsBytes("version null")));
  refused("is damaged");
  ASSERT_OK(WriteFileAtomic(&fs(), blob, AsBytes("version zero")));
  {
    ASSERT_OK_AND_ASSIGN(const auto file, fs().Open(dir_ / "backup/history.db",
                                                    {.write = true}));
    ASSERT_OK(file->WriteAt(5000, AsBytes("!")));
  }
  refused("is damaged");
  const std::string manifest = dir_ / "backup/backup.txt";
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       ReadWholeFile(&fs(), manifest, 1 << 20));
  ASSERT_OK(WriteFileAtomic(&fs(), manifest,
                            AsBytes(text.substr(0, text.size() - 6))));
  refused("cut off");
  ASSERT_OK(WriteFileAtomic(&fs(), manifest, AsBytes("hello\n")));
  refused("not known");
  ASSERT_OK(fs().Remove(manifest));
  refused("did not finish");
}

TEST_F(BackupTest, AMissingBlobFailsTheBackup) {
  const std::string hex = Sha256("version zero").Hex();
  ASSERT_OK(fs().Remove(dir_ / Cat("data/blobs/", hex.substr(0, 2), "/", hex)));
  EXPECT_THAT(BackupStore(*store_, dir_ / "backup", kTestNow).status(),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_FALSE(fs().Exists(dir_ / "backup/backup.txt"));
}

// The same code on the fault VFS, as the crash tests use it.
TEST(BackupFaultTest, SurvivesTheLossOfPower) {
  FaultDisk disk;
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(disk.Options()));
  ASSERT_OK(store->history().Write([](WriteTx& tx) {
    ScheduleRow row;
    row.kind = "continuous";
    return SetSchedule(tx, row);
  }));
  ASSERT_OK(BackupStore(*store, "/backup", kTestNow).status());
  store.reset();
  disk.fs().CrashKeepingNothingUnsynced();
  ASSERT_OK_AND_ASSIGN(const auto db,
                       Connection::Open({.path = "/backup/history.db",
                                         .vfs = disk.vfs(),
                                         .read_only = true}));
  EXPECT_THAT(db->OneInt("SELECT count(*) FROM schedule"), IsOkAndHolds(1));
}

}  // namespace
}  // namespace consilium

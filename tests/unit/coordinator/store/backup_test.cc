// Backup and restore, on real files and on disks that fail.
#include <utility>
#include <vector>

#include "coordinator/round/round_json.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/round_state.h"
#include "coordinator/store/sqlite.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST_F(BackupTest, TokensThatWereNotUsedWorkNoMore) {
  const auto token = [](char name) {
    TokenRow row;
    row.token_hash = std::string(64, name);
    row.institution_id = 1;
    row.role = "institution";
    row.expires_at = kTestNow + absl::Hours(24);
    row.created_at = kTestNow;
    return row;
  };
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, token('a')));
    CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, token('b')));
    return ConsumeToken(tx, std::string(64, 'b'), kTestNow).status();
  }));
  Backup();
  // After the backup.
  ASSERT_OK(Write([](WriteTx& tx) {
    return ConsumeToken(tx, std::string(64, 'a'), kTestNow).status();
  }));
  ASSERT_OK_AND_ASSIGN(const RestoreReport report,
                       RestoreStore(Restore(dir_ / "copy"), kTestNow));
  EXPECT_EQ(report.tokens_voided, 1);
  StoreOptions options = options_;
  options.data_dir = dir_ / "copy";
  ASSERT_OK_AND_ASSIGN(const auto copy, Store::Open(options));
  EXPECT_THAT(copy->history().Write([](WriteTx& tx) {
    return ConsumeToken(tx, std::string(64, 'a'), kTestNow).status();
  }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(copy->history().Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto used,
                               FindToken(tx, std::string(64, 'b')));
    EXPECT_TRUE(used.has_value());
    return absl::OkStatus();
  }));
}

CertificateRow CertificateFor(std::string serial, int64_t institution) {
  CertificateRow row;
  row.serial = std::move(serial);
  row.subject_uri = "consilium://cards/institution/x";
  row.institution_id = institution;
  row.role = "institution";
  row.fingerprint = std::string(64, 'f');
  row.not_before = kTestNow;
  row.not_after = kTestNow + absl::Hours(1000);
  row.issued_at = kTestNow;
  return row;
}

TEST_F(BackupTest, WhoeverWasRevokedSinceStaysRevoked) {
  ASSERT_OK(Write([](WriteTx& tx) {
    return InsertCertificate(tx, CertificateFor("a1", 1));
  }));
  Backup();
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, CertificateFor("a2", 1)));
    InstitutionRow late = Institution("eve");
    late.role = "operator";
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t eve, InsertInstitution(tx, late));
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, CertificateFor("e1", eve)));
    for (const int64_t id : {int64_t{1}, eve}) {
      CONSILIUM_RETURN_IF_ERROR(
          SetInstitutionState(tx, id, InstitutionState::kRevoked, kTestNow));
      CONSILIUM_RETURN_IF_ERROR(
          RevokeCertificatesOf(tx, id, kTestNow, "key lost").status());
    }
    return absl::OkStatus();
  }));
  store_.reset();
  RestoreOptions options = Restore(options_.data_dir);
  options.force = true;
  ASSERT_OK_AND_ASSIGN(const RestoreReport report,
                       RestoreStore(options, kTestNow));
  EXPECT_TRUE(report.revocations_known);
  EXPECT_THAT(report.revoked_again, ElementsAre("bank-a", "eve"));
  Reopen(options_);
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    for (const char* name : {"bank-a", "eve"}) {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, name));
      EXPECT_EQ(row->state, InstitutionState::kRevoked) << name;
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto other, FindInstitution(tx, "bank-b"));
    EXPECT_EQ(other->state, InstitutionState::kActive);
    EXPECT_THAT(ListRevokedSerials(tx, kTestNow),
                IsOkAndHolds(ElementsAre("a1", "a2", "e1")));
    CONSILIUM_ASSIGN_OR_RETURN(const auto audit, ListAudit(tx));
    EXPECT_THAT(audit.back().detail, HasSubstr("eve revoked again"));
    return absl::OkStatus();
  }));
}

TEST_F(BackupTest, RevocationsThatCannotBeReadAreToBeRepeated) {
  Backup();
  ASSERT_OK_AND_ASSIGN(const RestoreReport fresh,
                       RestoreStore(Restore(dir_ / "copy"), kTestNow));
  EXPECT_FALSE(fresh.revocations_known);
  EXPECT_EQ(fresh.created, "2026-01-01T00:00:00Z");
  // The reason for most restores: the old history is damaged.
  store_.reset();
  ASSERT_OK(WriteFileAtomic(&fs(), dir_ / "data/history.db",
                            AsBytes(std::string(9000, 'x'))));
  RestoreOptions options = Restore(options_.data_dir);
  options.force = true;
  ASSERT_OK_AND_ASSIGN(const RestoreReport report,
                       RestoreStore(options, kTestNow));
  EXPECT_FALSE(report.revocations_known);
  Reopen(options_);
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto audit, ListAudit(tx));
    EXPECT_THAT(audit.back().detail,
                HasSubstr("revocations since 2026-01-01T00:00:00Z are not "
                          "known and must be repeated"));
    return absl::OkStatus();
  }));
}

// Whatever fails, the folder can be given again.
TEST(BackupFaultTest, AFailedBackupLeavesNothing) {
  for (const bool there : {false, true}) {
    absl::Status status = absl::UnknownError("not yet");
    for (int64_t k = 1; !status.ok(); ++k) {
      ASSERT_LT(k, 200);
      FaultDisk disk;
      ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
      ASSERT_OK_AND_ASSIGN(const Sha256Digest digest,
                           store->blobs().Put(AsBytes("zero")));
      ASSERT_OK(store->history().Write([&](WriteTx& tx) -> absl::Status {
        VersionRow version;
        version.digest = digest;
        version.blob_bytes = 4;
        return InsertVersion(tx, version, nullptr).status();
      }));
      if (there) {
        ASSERT_OK(disk.fs().MakeDirs("/backup"));
      }
      disk.fs().FailAt(k, absl::ResourceExhaustedError("no space left"));
      status = BackupStore(*store, "/backup", kTestNow).status();
      if (status.ok()) break;
      EXPECT_EQ(disk.fs().Exists("/backup"), there) << k;
      EXPECT_OK(BackupStore(*store, "/backup", kTestNow).status()) << k;
    }
  }
}

TEST(BackupFaultTest, ACancelledBackupLeavesNothing) {
  FaultDisk disk;
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
  CancelSource stop;
  stop.Cancel("shutting down");
  EXPECT_THAT(BackupStore(*store, "/backup", kTestNow, stop.token()).status(),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(disk.fs().Exists("/backup"));
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

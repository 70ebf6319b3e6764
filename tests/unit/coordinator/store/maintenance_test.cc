#include "coordinator/store/maintenance.h"

#include <functional>
#include <thread>
#include <vector>

#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

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

// Hashing gigabytes under a snapshot would keep the log of writes from being
// moved into the database.
class BlobHook final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    if (hook && path.find("/blobs/") != std::string::npos) hook();
    return ForwardingFileSystem::Open(path, options);
  }
  std::function<void()> hook;
};

TEST(CheckSnapshotTest, NoneIsHeldWhileBlobsAreRead) {
  FaultDisk disk;
  BlobHook fs(&disk.fs());
  StoreOptions options = disk.Options();
  options.fs = &fs;
  options.max_readers = 1;
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest,
                       store->blobs().Put(AsBytes("zero")));
  ASSERT_OK(store->history().Write([&](WriteTx& tx) -> absl::Status {
    VersionRow version;
    version.digest = digest;
    version.blob_bytes = 4;
    return InsertVersion(tx, version, nullptr).status();
  }));
  store->blobs().Release(digest);
  // With one reader, the second waits for the first.
  struct Seen {
    Mutex mu;
    CondVar changed;
    bool read = false;
  } seen;
  std::vector<std::thread> readers;
  bool free = false;
  fs.hook = [&] {
    readers.emplace_back([&] {
      EXPECT_OK(
          store->history().Read([](ReadTx&) { return absl::OkStatus(); }));
      MutexLock lock(&seen.mu);
      seen.read = true;
      seen.changed.SignalAll();
    });
    MutexLock lock(&seen.mu);
    if (!seen.read) seen.changed.WaitFor(&seen.mu, absl::Seconds(10));
    free = seen.read;
  };
  EXPECT_OK(CheckStore(*store, {.deep = true}).status());
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(readers.size(), 1u);
  EXPECT_TRUE(free);
}

TEST_F(CheckTest, ItEndsWhenItIsCancelled) {
  CancelSource stop;
  stop.Cancel("shutting down");
  EXPECT_THAT(CheckStore(*store_, {.cancel = stop.token()}).status(),
              StatusIs(absl::StatusCode::kCancelled));
  ASSERT_OK(Write([](WriteTx& tx) { return AppendAudit(tx, {}).status(); }));
  EXPECT_THAT(
      Read([&](ReadTx& tx) { return VerifyAudit(tx, stop.token()).status(); }),
      StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace consilium

#include "coordinator/store/history_store.h"

#include <atomic>
#include <thread>

#include "consilium/base/local_error.h"
#include "coordinator/store/sqlite.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Lets one thread wait for another without a clock.
class Gate {
 public:
  void Open() {
    MutexLock lock(&mu_);
    open_ = true;
    changed_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mu_);
    while (!open_) changed_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool open_ = false;
};

class HistoryStoreTest : public StoreTest {
 protected:
  HistoryStore& history() { return store_->history(); }

  static absl::Status Add(WriteTx& tx, const std::string& name) {
    return InsertInstitution(tx, Institution(name)).status();
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListInstitutions(tx));
      for (const auto& row : rows) names.push_back(row.name);
      return absl::OkStatus();
    }));
    names.erase(names.begin(), names.begin() + 3);  // those of Seed
    return names;
  }
};

TEST_F(HistoryStoreTest, PragmasAreAsPromised) {
  ASSERT_OK(Write([](WriteTx& tx) {
    const auto pragma = [&tx](const char* name) {
      return tx.connection().OneInt(Cat("PRAGMA ", name));
    };
    EXPECT_THAT(pragma("synchronous"), IsOkAndHolds(2));
    EXPECT_THAT(pragma("foreign_keys"), IsOkAndHolds(1));
    EXPECT_THAT(pragma("application_id"), IsOkAndHolds(0x43534c4d));
    std::string mode;
    EXPECT_OK(tx.connection().Each(
        "PRAGMA journal_mode", [&](Statement& row) { mode = row.Text(0); }));
    EXPECT_EQ(mode, "wal");
    return absl::OkStatus();
  }));
  // Every table is STRICT.
  ASSERT_OK(Read([](ReadTx& tx) {
    return tx.connection().Each(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' "
        "AND name NOT LIKE 'sqlite_%'",
        [](Statement& row) { EXPECT_EQ(row.Int(1), 1) << row.Text(0); });
  }));
}

TEST_F(HistoryStoreTest, AnErrorUndoesTheWholeTransaction) {
  EXPECT_THAT(Write([](WriteTx& tx) -> absl::Status {
                CONSILIUM_RETURN_IF_ERROR(Add(tx, "one"));
                CONSILIUM_RETURN_IF_ERROR(Add(tx, "two"));
                return absl::AbortedError("changed my mind");
              }),
              StatusIs(absl::StatusCode::kAborted, "changed my mind"));
  EXPECT_THAT(Names(), ElementsAre());
  EXPECT_OK(Write([](WriteTx& tx) { return Add(tx, "three"); }));
  EXPECT_THAT(Names(), ElementsAre("three"));
}

TEST_F(HistoryStoreTest, AWriterSeesItsOwnWrites) {
  EXPECT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(Add(tx, "one"));
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, "one"));
    EXPECT_TRUE(row.has_value());
    return absl::OkStatus();
  }));
}

TEST_F(HistoryStoreTest, QueuedWritesShareACommitAndFailAlone) {
  Gate started;
  Gate go_on;
  history().WriteAsync(
      [&](WriteTx& tx) {
        started.Open();
        go_on.Wait();  // the others queue up behind
        return Add(tx, "first");
      },
      [](const absl::Status& status) { EXPECT_OK(status); });
  started.Wait();
  const int64_t commits = history().stats().commits;
  std::vector<absl::Status> done;  // filled on the writer thread, in order
  Gate last;
  const auto queue = [&](std::string name, bool fails, bool is_last = false) {
    history().WriteAsync(
        [name, fails](WriteTx& tx) -> absl::Status {
          CONSILIUM_RETURN_IF_ERROR(Add(tx, name));
          if (fails) return absl::AbortedError(name);
          return absl::OkStatus();
        },
        [&done, &last, is_last](const absl::Status& status) {
          done.push_back(status);
          if (is_last) last.Open();
        });
  };
  queue("a", false);
  queue("b", true);
  queue("c", false);
  queue("bank-a", false);  // a name in use: the schema refuses it
  queue("d", false, true);
  go_on.Open();
  last.Wait();
  EXPECT_THAT(done,
              ElementsAre(IsOk(), StatusIs(absl::StatusCode::kAborted), IsOk(),
                          StatusIs(absl::StatusCode::kAlreadyExists), IsOk()));
  EXPECT_THAT(Names(), ElementsAre("first", "a", "c", "d"));
  EXPECT_EQ(history().stats().commits, commits + 2);
  EXPECT_EQ(history().stats().failed, 2);
}

TEST_F(HistoryStoreTest, AGroupWithoutASuccessCommitsNothing) {
  const int64_t commits = history().stats().commits;
  EXPECT_FALSE(Write([](WriteTx&) { return absl::AbortedError("no"); }).ok());
  EXPECT_EQ(history().stats().commits, commits);
}

TEST_F(HistoryStoreTest, AReaderKeepsItsSnapshotAndSeesWhatWasAcknowledged) {
  ASSERT_OK(Write([](WriteTx& tx) { return Add(tx, "before"); }));
  ASSERT_OK(Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto first, ListInstitutions(tx));
    // A write by the writer thread while this snapshot is open.
    EXPECT_OK(Write([](WriteTx& w) { return Add(w, "meanwhile"); }));
    CONSILIUM_ASSIGN_OR_RETURN(const auto second, ListInstitutions(tx));
    EXPECT_EQ(first.size(), second.size());
    return absl::OkStatus();
  }));
  EXPECT_THAT(Names(), ElementsAre("before", "meanwhile"));
}

TEST_F(HistoryStoreTest, ReadersCannotWrite) {
  EXPECT_THAT(
      Read([](ReadTx& tx) {
        return tx.connection().Run("UPDATE federation SET name = 'other'");
      }),
      StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(HistoryStoreTest, WriteInsideAWriteIsRefusedAndDoesNotHang) {
  absl::Status inner;
  EXPECT_OK(Write([&](WriteTx&) {
    inner = Write([](WriteTx&) { return absl::OkStatus(); });
    return absl::OkStatus();
  }));
  EXPECT_THAT(inner, StatusIs(absl::StatusCode::kFailedPrecondition,
                              HasSubstr("writer thread")));
}

TEST_F(HistoryStoreTest, ManyThreadsWriteAndRead) {
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const std::string name = Cat("t", t, "-", i);
        if (!Write([&](WriteTx& tx) { return Add(tx, name); }).ok()) ++failures;
        bool seen = false;
        if (!Read([&](ReadTx& tx) -> absl::Status {
               CONSILIUM_ASSIGN_OR_RETURN(const auto row,
                                          FindInstitution(tx, name));
               seen = row.has_value();
               return absl::OkStatus();
             }).ok() ||
            !seen) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_EQ(Names().size(), 160u);
  EXPECT_LE(history().stats().commits, history().stats().transactions);
}

TEST_F(HistoryStoreTest, CloseFinishesWhatIsQueuedAndRefusesMore) {
  int done = 0;
  for (int i = 0; i < 10; ++i) {
    history().WriteAsync(
        [i](WriteTx& tx) { return Add(tx, Cat("n", i)); },
        [&done](const absl::Status& status) { done += status.ok(); });
  }
  EXPECT_OK(history().Close());
  EXPECT_EQ(done, 10);
  EXPECT_OK(history().Close());
  EXPECT_THAT(
      Write([](WriteTx&) { return absl::OkStatus(); }),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("closed")));
  EXPECT_THAT(Read([](ReadTx&) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  Reopen();
  EXPECT_EQ(Names().size(), 10u);
}

TEST_F(HistoryStoreTest, CloseLeavesOneFile) {
  ASSERT_OK(history().Close());
  EXPECT_TRUE(disk_.fs().Exists("/data/history.db"));
  EXPECT_FALSE(disk_.fs().Exists("/data/history.db-wal"));
}

TEST_F(HistoryStoreTest, DiskFullIsTypedAndTheStoreGoesOn) {
  disk_.fs().FailWithNoSpaceAfter(0);
  const std::string big(200000, 'x');
  EXPECT_THAT(Write([&](WriteTx& tx) -> absl::Status {
                FederationRow row;
                row.name = "cards";
                row.policy_json = big;
                return SetFederation(tx, row);
              }),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("/data/history.db")));
  disk_.fs().FailWithNoSpaceAfter(-1);
  EXPECT_OK(Write([](WriteTx& tx) { return Add(tx, "after"); }));
  EXPECT_THAT(Names(), ElementsAre("after"));
  ASSERT_OK_AND_ASSIGN(const CheckReport report, CheckStore(*store_, {}));
  EXPECT_TRUE(report.clean());
}

// The shared commit fails: everybody in the group hears it, nobody is applied.
TEST_F(HistoryStoreTest, AFailedCommitFailsTheWholeGroup) {
  Gate started;
  Gate go_on;
  history().WriteAsync(
      [&](WriteTx& tx) {
        started.Open();
        go_on.Wait();
        return Add(tx, "first");
      },
      [](const absl::Status&) {});
  started.Wait();
  std::vector<absl::StatusCode> codes;
  Gate last;
  for (int i = 0; i < 3; ++i) {
    history().WriteAsync(
        [i, this](WriteTx& tx) {
          if (i == 2) {
            disk_.fs().FailAt(1, absl::ResourceExhaustedError("full"));
          }
          return Add(tx, Cat("n", i));
        },
        [&, i](const absl::Status& status) {
          codes.push_back(status.code());
          if (i == 2) last.Open();
        });
  }
  go_on.Open();
  last.Wait();
  const auto full = absl::StatusCode::kResourceExhausted;
  EXPECT_THAT(codes, ElementsAre(full, full, full));
  EXPECT_THAT(Names(), ElementsAre("first"));
}

TEST_F(HistoryStoreTest, AFailedSyncIsAnErrorAndANewProcessWorks) {
  // The log's frames, then its sync.
  absl::Status status;
  int64_t k = 0;
  do {
    ASSERT_LT(k, 20);
    // A file of which a sync failed is not to be trusted again.
    Reopen();
    disk_.fs().FailAt(++k, absl::DataLossError("no such luck"));
    status = Write([&](WriteTx& tx) { return Add(tx, Cat("k", k)); });
    disk_.fs().CancelFaults();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(status.ok() || IsLocalError(status)) << status;
  } while (!status.ok());
  EXPECT_GT(k, 1);
  Reopen();
  ASSERT_OK_AND_ASSIGN(const CheckReport report, CheckStore(*store_, {}));
  EXPECT_TRUE(report.clean());
}

TEST_F(HistoryStoreTest, ReadOnlyRefusesWritesAndReads) {
  ASSERT_OK(Write([](WriteTx& tx) { return Add(tx, "here"); }));
  StoreOptions options = disk_.Options();
  options.create = false;
  options.read_only = true;
  Reopen(options);
  EXPECT_THAT(Names(), ElementsAre("here"));
  EXPECT_THAT(
      Write([](WriteTx&) { return absl::OkStatus(); }),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("read-only")));
  EXPECT_THAT(store_->Recover(kTestNow).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(store_->ApplyRetention({}, kTestNow).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(HistoryStoreTest, ReadOnlySeesTheLogOfAKilledProcess) {
  ASSERT_OK(Write([](WriteTx& tx) { return Add(tx, "in-the-log"); }));
  disk_.fs().KillProcess();
  StoreOptions options = disk_.Options();
  options.create = false;
  options.read_only = true;
  Reopen(options);
  EXPECT_THAT(Names(), ElementsAre("in-the-log"));
}

TEST(HistoryStoreOpenTest, ErrorsSayWhatToDo) {
  FaultDisk disk;
  ASSERT_OK(disk.fs().MakeDirs("/data"));
  HistoryStoreOptions options;
  options.path = "/data/history.db";
  options.vfs = disk.vfs();
  EXPECT_THAT(HistoryStore::Open(options).status(),
              StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(
      disk.fs().Open(options.path, {.write = true, .create = true}).status());
  EXPECT_THAT(HistoryStore::Open(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("consilium init")));
  options.create = true;
  options.max_readers = 0;
  EXPECT_THAT(HistoryStore::Open(options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options.max_readers = 1;
  EXPECT_OK(HistoryStore::Open(options).status());
  ASSERT_OK(WriteFileAtomic(&disk.fs(), options.path,
                            AsBytes(std::string(8192, 'x'))));
  EXPECT_THAT(HistoryStore::Open(options).status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("db check")));
}

// The same on the machine's own file system and SQLite's own VFS.
TEST(HistoryStoreOpenTest, WorksOnTheRealFileSystem) {
  TempDir dir;
  StoreOptions options;
  options.data_dir = dir / "data";
  options.min_free_bytes = 0;
  EXPECT_THAT(
      Store::Open(options).status(),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("consilium init")));
  options.create = true;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Store> store, Store::Open(options));
  ASSERT_OK_AND_ASSIGN(const FileInfo info,
                       PosixFileSystem()->Stat(dir / "data/history.db"));
  EXPECT_EQ(info.mode, 0600u);
  EXPECT_THAT(Store::Open(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));  // locked
  ASSERT_OK(store->history().Write([](WriteTx& tx) {
    ScheduleRow row;
    row.kind = "continuous";
    return SetSchedule(tx, row);
  }));
  store.reset();
  options.create = false;
  options.read_only = true;
  ASSERT_OK_AND_ASSIGN(store, Store::Open(options));
  ASSERT_OK(store->history().Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const ScheduleRow row, GetSchedule(tx));
    EXPECT_EQ(row.kind, "continuous");
    return absl::OkStatus();
  }));
}

}  // namespace
}  // namespace consilium

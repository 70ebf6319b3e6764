// The VFS under the crash tests must itself be trusted: locks, shared memory,
// durability, against what SQLite needs.
#include <thread>

#include "coordinator/store/file_system_vfs.h"
#include "coordinator/store/file_system_vfs_locks.h"
#include "coordinator/store/sqlite.h"
#include "tests/unit/coordinator/store/store_test_util.h"

#include <sqlite3.h>

namespace consilium {
namespace {

class VfsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(
        disk_.fs().Open("/x.db", {.write = true, .create = true}).status());
  }
  std::unique_ptr<Connection> Connect(
      bool read_only = false,
      absl::Duration busy_timeout = absl::ZeroDuration()) {
    auto connection = Connection::Open({.path = "/x.db",
                                        .vfs = disk_.vfs(),
                                        .read_only = read_only,
                                        .busy_timeout = busy_timeout});
    EXPECT_OK(connection.status());
    return *std::move(connection);
  }
  FaultDisk disk_;
};

TEST_F(VfsTest, ConnectionsOfOneProcessShareTheLog) {
  const auto writer = Connect();
  ASSERT_OK(writer->Script(
      "PRAGMA journal_mode = WAL; CREATE TABLE t (i); INSERT INTO t "
      "VALUES (1)"));
  const auto reader = Connect(true);
  ASSERT_OK(reader->Script("BEGIN"));
  EXPECT_THAT(reader->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(1));
  ASSERT_OK(writer->Script("INSERT INTO t VALUES (2)"));
  EXPECT_THAT(reader->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(1));
  ASSERT_OK(reader->Script("COMMIT"));
  EXPECT_THAT(reader->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(2));
}

TEST_F(VfsTest, ASecondWriterIsBusy) {
  const auto one = Connect();
  ASSERT_OK(one->Script("PRAGMA journal_mode = WAL; CREATE TABLE t (i)"));
  const auto two = Connect();
  ASSERT_OK(one->Script("BEGIN IMMEDIATE"));
  EXPECT_THAT(two->Script("BEGIN IMMEDIATE"),
              StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_OK(one->Script("COMMIT"));
  EXPECT_OK(two->Script("BEGIN IMMEDIATE; COMMIT"));
}

TEST_F(VfsTest, RollbackJournalLocksToo) {
  const auto one = Connect();
  ASSERT_OK(one->Script("CREATE TABLE t (i)"));
  const auto two = Connect();
  ASSERT_OK(one->Script("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"));
  EXPECT_THAT(two->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(0));
  EXPECT_THAT(two->Script("BEGIN IMMEDIATE"),
              StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_OK(one->Script("COMMIT"));
  EXPECT_THAT(two->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(1));
}

TEST_F(VfsTest, ACommittedTransactionSurvivesAndAnOpenOneDoesNot) {
  auto one = Connect();
  ASSERT_OK(one->Script(
      "PRAGMA journal_mode = WAL; CREATE TABLE t (i); INSERT INTO t "
      "VALUES (1)"));
  ASSERT_OK(disk_.fs().SyncDir("/"));
  ASSERT_OK(one->Script("BEGIN; INSERT INTO t VALUES (2)"));
  disk_.fs().CrashKeepingNothingUnsynced();
  one.reset();
  EXPECT_THAT(Connect()->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(1));
}

TEST_F(VfsTest, WithoutASyncACommitIsLost) {
  auto one = Connect();
  ASSERT_OK(one->Script("PRAGMA journal_mode = WAL; CREATE TABLE t (i)"));
  ASSERT_OK(disk_.fs().SyncDir("/"));
  ASSERT_OK(one->Script("PRAGMA synchronous = OFF; INSERT INTO t VALUES (1)"));
  disk_.fs().CrashKeepingNothingUnsynced();
  one.reset();
  EXPECT_THAT(Connect()->OneInt("SELECT count(*) FROM t"), IsOkAndHolds(0));
}

TEST_F(VfsTest, ManyThreadsReadWhileOneWrites) {
  // As the store opens them: a reader that meets a log header half written asks
  // for the writer's lock, and for that moment the writer waits.
  constexpr absl::Duration kPatience = absl::Seconds(60);
  const auto writer = Connect(false, kPatience);
  ASSERT_OK(
      writer->Script("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 4;"
                     "CREATE TABLE t (i); INSERT INTO t VALUES (0), (0)"));
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&] {
      const auto reader = Connect(true, kPatience);
      while (!stop.load()) {
        // Both rows always change together.
        const auto spread = reader->OneInt("SELECT max(i) - min(i) FROM t");
        if (!spread.ok() || *spread != 0) ++torn;
      }
    });
  }
  for (int i = 1; i <= 100; ++i) {
    EXPECT_OK(writer->Run("UPDATE t SET i = ?", i));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn.load(), 0);
}

TEST_F(VfsTest, LocksFollowSqlitesRules) {
  VfsNode node;
  VfsHolder a;
  VfsHolder b;
  VfsHolder c;
  EXPECT_EQ(node.Lock(a, SQLITE_LOCK_SHARED), SQLITE_OK);
  EXPECT_EQ(node.Lock(b, SQLITE_LOCK_SHARED), SQLITE_OK);
  EXPECT_FALSE(node.Reserved());
  EXPECT_EQ(node.Lock(a, SQLITE_LOCK_RESERVED), SQLITE_OK);
  EXPECT_TRUE(node.Reserved());
  EXPECT_EQ(node.Lock(b, SQLITE_LOCK_RESERVED), SQLITE_BUSY);
  EXPECT_EQ(node.Lock(a, SQLITE_LOCK_EXCLUSIVE), SQLITE_BUSY);  // b reads
  EXPECT_EQ(node.Lock(c, SQLITE_LOCK_SHARED), SQLITE_BUSY);     // a is pending
  EXPECT_EQ(node.Unlock(b, SQLITE_LOCK_NONE), SQLITE_OK);
  EXPECT_EQ(node.Lock(a, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
  EXPECT_EQ(node.Unlock(a, SQLITE_LOCK_SHARED), SQLITE_OK);
  EXPECT_EQ(node.Lock(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  EXPECT_EQ(node.Unlock(a, SQLITE_LOCK_NONE), SQLITE_OK);
  EXPECT_EQ(node.Unlock(c, SQLITE_LOCK_NONE), SQLITE_OK);
  EXPECT_EQ(node.Lock(b, SQLITE_LOCK_SHARED), SQLITE_OK);
  EXPECT_EQ(node.Lock(b, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
  EXPECT_EQ(node.Unlock(b, SQLITE_LOCK_NONE), SQLITE_OK);
}

TEST_F(VfsTest, SharedMemoryLivesAsLongAsSomebodyMapsIt) {
  constexpr int kLockShared = SQLITE_SHM_LOCK | SQLITE_SHM_SHARED;
  constexpr int kLockExclusive = SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE;
  VfsNode node;
  VfsHolder a;
  VfsHolder b;
  volatile void* p = nullptr;
  EXPECT_EQ(node.Map(a, 1, 32768, false, &p), SQLITE_OK);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(node.Map(a, 1, 32768, true, &p), SQLITE_OK);
  ASSERT_NE(p, nullptr);
  *static_cast<volatile char*>(p) = 'x';
  volatile void* q = nullptr;
  EXPECT_EQ(node.Map(b, 1, 32768, false, &q), SQLITE_OK);
  EXPECT_EQ(p, q);

  EXPECT_EQ(node.LockSlots(a, 3, 1, kLockShared), SQLITE_OK);
  EXPECT_EQ(node.LockSlots(b, 3, 1, kLockShared), SQLITE_OK);
  EXPECT_EQ(node.LockSlots(a, 2, 3, kLockExclusive), SQLITE_BUSY);
  EXPECT_EQ(node.LockSlots(b, 3, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED),
            SQLITE_OK);
  EXPECT_EQ(node.LockSlots(b, 4, 2, kLockExclusive), SQLITE_OK);
  EXPECT_EQ(node.LockSlots(a, 5, 1, kLockShared), SQLITE_BUSY);
  node.Unmap(b);  // gives its locks back
  EXPECT_EQ(node.LockSlots(a, 5, 1, kLockShared), SQLITE_OK);
  node.Unmap(a);
  EXPECT_EQ(node.Map(a, 1, 32768, true, &p), SQLITE_OK);
  EXPECT_EQ(*static_cast<volatile char*>(p), '\0');
  node.Unmap(a);
}

}  // namespace
}  // namespace consilium

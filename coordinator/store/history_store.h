#ifndef CONSILIUM_COORDINATOR_STORE_HISTORY_STORE_H_
#define CONSILIUM_COORDINATOR_STORE_HISTORY_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium {

class Connection;  // coordinator/store/sqlite.h

// A consistent view of the database: one WAL snapshot. Lives as long as the
// function it was handed to; must stay on that thread. The functions of
// tables.h take it.
class ReadTx {
 public:
  ReadTx(const ReadTx&) = delete;
  ReadTx& operator=(const ReadTx&) = delete;
  Connection& connection() { return connection_; }

 protected:
  explicit ReadTx(Connection& connection) : connection_(connection) {}
  ~ReadTx() = default;

 private:
  friend class HistoryStore;
  Connection& connection_;
};

// A transaction that may also write; sees its own writes.
class WriteTx : public ReadTx {
 private:
  friend class HistoryStore;
  explicit WriteTx(Connection& connection) : ReadTx(connection) {}
};

struct HistoryStoreOptions {
  std::string path;        // the database file
  std::string vfs;         // SQLite VFS name; empty: the system's default
  bool create = false;     // make the schema when the file is empty
  bool read_only = false;  // refuse every write; never migrates
  int max_readers = 4;     // pooled read-only connections
  int max_group = 64;      // write transactions that may share one commit
  // Pages of the log after which a commit moves it into the database.
  int checkpoint_pages = 1000;
  absl::Duration busy_timeout = absl::Seconds(5);
};

// The SQLite database of a coordinator: WAL, synchronous=FULL, foreign keys,
// STRICT tables, one writer thread, readers on snapshots.
//
// Life: Open -> Write/WriteAsync/Read from any thread -> destructor, which
// finishes every queued write first. One process only: the caller holds the
// lock file of the data directory (Store does).
//
// Writes are queued to the writer thread. Queued transactions may share one
// BEGIN IMMEDIATE..COMMIT, each under its own savepoint: when one returns an
// error only its own changes are undone. Each function is called at most once.
// When the shared commit itself fails (disk full, I/O error), every member of
// the group gets that error and none of them is applied.
//
// Errors of Open:
//   NOT_FOUND            no file (Store makes it, with its mode)
//   FAILED_PRECONDITION  empty and not create; schema newer than this program,
//   or older and read_only DATA_LOSS            not a database, or malformed
// Errors of Read and Write, besides what the function returns:
//   RESOURCE_EXHAUSTED   disk full
//   DATA_LOSS            malformed database
//   UNAVAILABLE          I/O error, or locked by another process
//   FAILED_PRECONDITION  a write on a read-only store, or after Close
class HistoryStore {
 public:
  using WriteFn = absl::AnyInvocable<absl::Status(WriteTx&)>;
  using DoneFn = absl::AnyInvocable<void(const absl::Status&)>;

  static absl::StatusOr<std::unique_ptr<HistoryStore>> Open(
      HistoryStoreOptions options);
  ~HistoryStore();
  HistoryStore(const HistoryStore&) = delete;
  HistoryStore& operator=(const HistoryStore&) = delete;

  // Runs fn on the writer thread and returns once its commit is durable.
  // Must not be called from inside a WriteFn or a DoneFn (it would wait for
  // itself; answered with FAILED_PRECONDITION).
  absl::Status Write(absl::FunctionRef<absl::Status(WriteTx&)> fn);

  // The same without waiting: `done` is called on the writer thread after the
  // commit (or the failure) and must not block.
  void WriteAsync(WriteFn fn, DoneFn done);

  // Runs fn on the calling thread over a snapshot that includes every write
  // acknowledged before the call. Waits for a free connection when max_readers
  // reads are running, so fn must not call Read.
  absl::Status Read(absl::FunctionRef<absl::Status(ReadTx&)> fn);

  // Finishes queued writes, checkpoints the log, closes. Idempotent.
  absl::Status Close();

  // Copies exactly the snapshot of `tx` (inside Read) into a database file that
  // must be empty; writers go on meanwhile. Durable on return but for its name.
  absl::Status BackupTo(ReadTx& tx, const std::string& path);

  // Commits done and transactions in them, for metrics and tests.
  struct Stats {
    int64_t commits = 0;
    int64_t transactions = 0;
    int64_t failed = 0;
  };
  Stats stats() const;

  const std::string& path() const;

 private:
  class Impl;
  explicit HistoryStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_HISTORY_STORE_H_

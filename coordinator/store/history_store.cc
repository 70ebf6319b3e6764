#include "coordinator/store/history_store.h"

#include <sqlite3.h>

#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace consilium {
namespace {

// One queued write. `status` is what its function said, later its fate.
struct Job {
  HistoryStore::WriteFn fn;
  HistoryStore::DoneFn done;
  absl::Status status;
};

absl::Status ClosedError() {
  return absl::FailedPreconditionError("the history store is closed");
}

}  // namespace

class HistoryStore::Impl {
 public:
  explicit Impl(HistoryStoreOptions options) : options_(std::move(options)) {}
  ~Impl() { (void)Close(); }

  absl::Status Open();
  void Enqueue(WriteFn fn, DoneFn done);
  absl::Status Write(absl::FunctionRef<absl::Status(WriteTx&)> fn);
  absl::Status Read(absl::FunctionRef<absl::Status(ReadTx&)> fn);
  absl::Status Close();
  Stats stats() const;
  const std::string& path() const { return options_.path; }
  absl::Status BackupTo(ReadTx& tx, const std::string& path);

 private:
  void WriterLoop();
  void RunGroup(std::deque<Job>& jobs);
  // Runs jobs from `next` on inside the open transaction; returns how far it
  // came. Stops early when SQLite itself has rolled the transaction back.
  size_t RunJobs(std::deque<Job>& jobs, size_t next, absl::Status* lost);
  absl::Status RunOne(Job& job, bool alone);
  absl::StatusOr<std::unique_ptr<Connection>> Connect(bool read_only) const;
  absl::StatusOr<std::unique_ptr<Connection>> TakeReader();

  const HistoryStoreOptions options_;
  std::unique_ptr<Connection> writer_;  // writer thread only, once it runs
  std::thread thread_;
  std::thread::id writer_id_;

  mutable Mutex mu_;
  CondVar queue_changed_;
  CondVar reader_free_;
  std::deque<Job> queue_ ABSL_GUARDED_BY(mu_);
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mu_);
  int readers_ ABSL_GUARDED_BY(mu_) = 0;  // running reads
  Stats stats_ ABSL_GUARDED_BY(mu_);
};

absl::StatusOr<std::unique_ptr<Connection>> HistoryStore::Impl::Connect(
    bool read_only) const {
  return Connection::Open({.path = options_.path,
                           .vfs = options_.vfs,
                           .read_only = read_only,
                           .busy_timeout = options_.busy_timeout});
}

absl::Status HistoryStore::Impl::Open() {
  if (options_.max_readers < 1 || options_.max_group < 1) {
    return absl::InvalidArgumentError(Cat("max_readers ", options_.max_readers,
                                          " and max_group ", options_.max_group,
                                          " must be at least 1"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection,
                             Connect(options_.read_only));
  if (!options_.read_only && options_.create) {
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t schema,
                               SchemaVersion(*connection));
    if (schema == 0) {
      CONSILIUM_RETURN_IF_ERROR(connection->Script("PRAGMA journal_mode=WAL"));
      CONSILIUM_RETURN_IF_ERROR(Migrate(*connection, EmbeddedMigrations()));
    }
  }
  CONSILIUM_RETURN_IF_ERROR(
      CheckSchema(*connection, EmbeddedMigrations(), !options_.read_only));
  if (options_.read_only) {
    MutexLock lock(&mu_);
    idle_.push_back(std::move(connection));
    return absl::OkStatus();
  }
  sqlite3_wal_autocheckpoint(connection->handle(), options_.checkpoint_pages);
  // A restored copy may be in rollback mode; WAL is a property of the file.
  CONSILIUM_RETURN_IF_ERROR(connection->Script("PRAGMA journal_mode=WAL"));
  CONSILIUM_RETURN_IF_ERROR(Migrate(*connection, EmbeddedMigrations()));
  // A process killed in a commit leaves it in the log, to be read but not yet
  // durable; whoever is told of it must find it again. This syncs the log.
  CONSILIUM_RETURN_IF_ERROR(connection->Script("PRAGMA wal_checkpoint"));
  writer_ = std::move(connection);
  thread_ = std::thread([this] { WriterLoop(); });
  writer_id_ = thread_.get_id();
  return absl::OkStatus();
}

void HistoryStore::Impl::Enqueue(WriteFn fn, DoneFn done) {
  if (options_.read_only) {
    done(absl::FailedPreconditionError(
        Cat(options_.path, ": the store is open read-only")));
    return;
  }
  {
    MutexLock lock(&mu_);
    if (!closing_) {
      queue_.push_back({std::move(fn), std::move(done), absl::OkStatus()});
      queue_changed_.Signal();
      return;
    }
  }
  done(ClosedError());
}

absl::Status HistoryStore::Impl::Write(
    absl::FunctionRef<absl::Status(WriteTx&)> fn) {
  if (std::this_thread::get_id() == writer_id_) {
    return absl::FailedPreconditionError(
        "Write was called on the writer thread, where it would wait for "
        "itself");
  }
  struct Waiter {
    Mutex mu;
    CondVar done_changed;
    bool done ABSL_GUARDED_BY(mu) = false;
    absl::Status status ABSL_GUARDED_BY(mu);
  } waiter;
  Enqueue([fn](WriteTx& tx) { return fn(tx); },
          [&waiter](const absl::Status& status) {
            MutexLock lock(&waiter.mu);
            waiter.status = status;
            waiter.done = true;
            waiter.done_changed.Signal();  // under the lock: waiter dies next
          });
  MutexLock lock(&waiter.mu);
  while (!waiter.done) waiter.done_changed.Wait(&waiter.mu);
  return waiter.status;
}

void HistoryStore::Impl::WriterLoop() {
  while (true) {
    std::deque<Job> group;
    {
      MutexLock lock(&mu_);
      while (queue_.empty() && !closing_) queue_changed_.Wait(&mu_);
      if (queue_.empty()) return;
      while (!queue_.empty() &&
             group.size() < static_cast<size_t>(options_.max_group)) {
        group.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
    }
    RunGroup(group);
    for (Job& job : group) job.done(job.status);
  }
}

// A failing member must not touch its neighbours: each runs under a savepoint.
// A lone member needs none, the transaction itself is its savepoint.
absl::Status HistoryStore::Impl::RunOne(Job& job, bool alone) {
  WriteTx tx(*writer_);
  if (alone) return job.fn(tx);
  CONSILIUM_RETURN_IF_ERROR(writer_->Run("SAVEPOINT member"));
  absl::Status status = job.fn(tx);
  if (!writer_->in_transaction()) return status;
  absl::Status ended;
  if (!status.ok()) ended = writer_->Run("ROLLBACK TO member");
  if (ended.ok()) ended = writer_->Run("RELEASE member");
  // What cannot be undone alone is undone with everything else.
  if (!ended.ok()) (void)writer_->Run("ROLLBACK");
  return status.ok() ? ended : status;
}

size_t HistoryStore::Impl::RunJobs(std::deque<Job>& jobs, size_t next,
                                   absl::Status* lost) {
  const bool alone = jobs.size() == 1;
  for (; next < jobs.size(); ++next) {
    jobs[next].status = RunOne(jobs[next], alone);
    if (!writer_->in_transaction()) {
      // Disk full, I/O error or memory: SQLite undid the whole transaction.
      *lost = jobs[next].status.ok()
                  ? absl::UnavailableError(
                        Cat(path(), ": the transaction was rolled back"))
                  : jobs[next].status;
      return next + 1;
    }
  }
  return next;
}

void HistoryStore::Impl::RunGroup(std::deque<Job>& jobs) {
  size_t next = 0;
  while (next < jobs.size()) {
    const size_t first = next;
    absl::Status fate = writer_->Run("BEGIN IMMEDIATE");
    if (fate.ok()) {
      next = RunJobs(jobs, first, &fate);
    } else {
      next = jobs.size();
    }
    bool any = false;
    for (size_t i = first; i < next; ++i) any |= jobs[i].status.ok();
    if (fate.ok() && any) fate = writer_->Run("COMMIT");
    if (writer_->in_transaction()) (void)writer_->Run("ROLLBACK");

    MutexLock lock(&mu_);
    for (size_t i = first; i < next; ++i) {
      if (!fate.ok() && jobs[i].status.ok()) jobs[i].status = fate;
      ++(jobs[i].status.ok() ? stats_.transactions : stats_.failed);
    }
    if (fate.ok() && any) ++stats_.commits;
  }
}

absl::StatusOr<std::unique_ptr<Connection>> HistoryStore::Impl::TakeReader() {
  {
    MutexLock lock(&mu_);
    while (readers_ >= options_.max_readers && !closing_) {
      reader_free_.Wait(&mu_);
    }
    if (closing_) return ClosedError();
    ++readers_;
    if (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  absl::StatusOr<std::unique_ptr<Connection>> made = Connect(true);
  if (!made.ok()) {
    MutexLock lock(&mu_);
    --readers_;
    reader_free_.Signal();
  }
  return made;
}

absl::Status HistoryStore::Impl::Read(
    absl::FunctionRef<absl::Status(ReadTx&)> fn) {
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection,
                             TakeReader());
  absl::Status status = connection->Run("BEGIN");
  if (status.ok()) {
    ReadTx tx(*connection);
    status = fn(tx);
  }
  if (connection->in_transaction()) (void)connection->Run("ROLLBACK");
  MutexLock lock(&mu_);
  --readers_;
  if (!closing_) idle_.push_back(std::move(connection));
  reader_free_.SignalAll();
  return status;
}

absl::Status HistoryStore::Impl::Close() {
  std::vector<std::unique_ptr<Connection>> idle;
  {
    MutexLock lock(&mu_);
    closing_ = true;
    queue_changed_.SignalAll();
    reader_free_.SignalAll();
    while (readers_ > 0) reader_free_.Wait(&mu_);
    idle.swap(idle_);
  }
  if (thread_.joinable()) thread_.join();
  idle.clear();
  if (writer_ == nullptr) return absl::OkStatus();
  // Leaves one file behind instead of three; a failure costs nothing, since
  // the next start reads the log.
  const absl::Status status = writer_->Run("PRAGMA wal_checkpoint(TRUNCATE)");
  writer_.reset();
  return status;
}

absl::Status HistoryStore::Impl::BackupTo(ReadTx& tx, const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<Connection> to,
      Connection::Open({.path = path, .vfs = options_.vfs}));
  // The first read of the snapshot fixes it before the copy starts.
  CONSILIUM_RETURN_IF_ERROR(SchemaVersion(tx.connection()).status());
  sqlite3_backup* backup = sqlite3_backup_init(
      to->handle(), "main", tx.connection().handle(), "main");
  if (backup == nullptr) {
    return to->Error(sqlite3_extended_errcode(to->handle()));
  }
  const int step = sqlite3_backup_step(backup, -1);
  const int finish = sqlite3_backup_finish(backup);
  if (step != SQLITE_DONE)
    return to->Error(finish != SQLITE_OK ? finish : step);
  // A single file: no log beside it that a copy could forget.
  return to->Script("PRAGMA journal_mode = DELETE");
}

HistoryStore::Stats HistoryStore::Impl::stats() const {
  MutexLock lock(&mu_);
  return stats_;
}

// --- HistoryStore ------------------------------------------------------------

HistoryStore::HistoryStore(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
HistoryStore::~HistoryStore() = default;

absl::StatusOr<std::unique_ptr<HistoryStore>> HistoryStore::Open(
    HistoryStoreOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  CONSILIUM_RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<HistoryStore>(new HistoryStore(std::move(impl)));
}

absl::Status HistoryStore::Write(absl::FunctionRef<absl::Status(WriteTx&)> fn) {
  return impl_->Write(fn);
}
void HistoryStore::WriteAsync(WriteFn fn, DoneFn done) {
  impl_->Enqueue(std::move(fn), std::move(done));
}
absl::Status HistoryStore::Read(absl::FunctionRef<absl::Status(ReadTx&)> fn) {
  return impl_->Read(fn);
}
absl::Status HistoryStore::Close() { return impl_->Close(); }
absl::Status HistoryStore::BackupTo(ReadTx& tx, const std::string& path) {
  return impl_->BackupTo(tx, path);
}
HistoryStore::Stats HistoryStore::stats() const { return impl_->stats(); }
const std::string& HistoryStore::path() const { return impl_->path(); }

}  // namespace consilium

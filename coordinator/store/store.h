#ifndef CONSILIUM_COORDINATOR_STORE_STORE_H_
#define CONSILIUM_COORDINATOR_STORE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/spare_files.h"
#include "coordinator/store/blob_store.h"
#include "coordinator/store/history_store.h"
#include "coordinator/store/records.h"
#include "coordinator/store/round_keys.h"
#include "coordinator/store/space_ledger.h"
#include "coordinator/store/spool.h"
#include "coordinator/store/tables.h"

namespace consilium {

struct StoreOptions {
  FileSystem* fs = nullptr;  // null: PosixFileSystem()
  std::string data_dir;      // DIR/data
  std::string vfs;           // SQLite VFS; empty: the system's
  bool create = false;       // make a new, empty store
  bool read_only = false;    // list and show verbs of a stopped coordinator
  int max_readers = 4;
  int syncer_threads = 2;  // 0: spools become durable only by Flush
  SyncedFn on_spool_synced = nullptr;
  int64_t min_free_bytes = int64_t{1} << 30;
  int64_t spare_bytes = int64_t{4} << 30;  // base/spare_files.h; 0: none
};

// What start-up found and did; FORMAT.md section 7 numbers the steps.
struct RecoveryReport {
  int64_t temps_removed = 0;
  int64_t blobs_removed = 0;   // no row named them
  int64_t spools_removed = 0;  // no row named them, or their row is dead
  int64_t keys_removed = 0;    // the row says destroyed, or is missing
  // Rounds whose row says "live" and whose key file is gone or damaged. Of
  // finished ones the destruction was under way and is now complete; open ones
  // cannot open their uploads (the engine decides).
  std::vector<std::pair<int64_t, int64_t>> keys_missing;  // (round, attempt)
  // Uploads that may go on, by institution within round: Resume each, with a
  // RecordCheck that opens the seal.
  std::vector<ContributionRow> uploading;
  // Committed contributions of open rounds. Their spools are there.
  std::vector<ContributionRow> committed;
  // Live contributions whose spool is missing: the disk lost what was acked.
  std::vector<ContributionRow> lost;
};

struct RetentionPolicy {
  absl::Duration spool_retention = absl::Hours(24 * 14);
  // The newest this many, and the newest this many promoted ones besides the
  // current; candidates and what open or replayable rounds need stay anyway.
  int64_t keep_versions = 20;
};

struct RetentionReport {
  std::vector<std::pair<int64_t, int64_t>> keys_destroyed;
  int64_t spools_removed = 0;
  std::vector<int64_t> versions_pruned;
  int64_t bytes_freed = 0;
};

// Of Store::Open: another process holds the lock.
bool IsStoreInUse(const absl::Status& status);

// The data directory of one coordinator: history, blobs, spools, round keys.
// Holds the lock file from Open to destruction. Thread safe.
class Store {
 public:
  // Errors: those of HistoryStore::Open; FAILED_PRECONDITION when another
  // process holds the lock (names its pid).
  static absl::StatusOr<std::unique_ptr<Store>> Open(StoreOptions options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  HistoryStore& history() { return *history_; }
  BlobStore& blobs() { return blobs_; }
  SpoolDir& spools() { return spools_; }
  RoundKeyFiles& round_keys() { return round_keys_; }
  SpaceLedger& space() { return space_; }
  SpoolSyncer* syncer() { return syncer_.get(); }
  FileSystem* fs() { return options_.fs; }
  const std::string& data_dir() const { return options_.data_dir; }
  bool read_only() const { return options_.read_only; }

  // Brings files and rows into agreement after a crash. Run once after Open,
  // before the first upload. Idempotent: a crash inside it is harmless.
  absl::StatusOr<RecoveryReport> Recover(absl::Time now);

  // Deletes what policy no longer keeps: the round key first, then its spools;
  // then old versions' blobs. Idempotent.
  absl::StatusOr<RetentionReport> ApplyRetention(const RetentionPolicy& policy,
                                                 absl::Time now);

  // Removes blobs and temporary files that no row names.
  absl::StatusOr<BlobStore::Collected> CollectGarbage();

  // Stops the syncer, finishes writes, checkpoints. Idempotent; the destructor
  // calls it. Every SpoolWriter is gone by then.
  absl::Status Close();

 private:
  Store(StoreOptions options, std::unique_ptr<FileLock> lock,
        std::unique_ptr<HistoryStore> history);

  absl::Status RemoveUnnamedSpools(RecoveryReport& report);
  absl::Status ReconcileKeys(RecoveryReport& report);
  absl::Status SortLiveContributions(RecoveryReport& report);
  absl::Status ReleaseRound(int64_t round, RetentionReport& report);
  absl::Status RemoveDoomedSpools(RetentionReport& report);

  StoreOptions options_;
  // Spools that retention took from their rows and still has to remove.
  Mutex doomed_mu_;
  std::vector<std::string> doomed_ ABSL_GUARDED_BY(doomed_mu_);
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<HistoryStore> history_;
  std::unique_ptr<SpoolSyncer> syncer_;
  SpareFiles spares_;
  BlobStore blobs_;
  SpoolDir spools_;
  RoundKeyFiles round_keys_;
  SpaceLedger space_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_STORE_H_

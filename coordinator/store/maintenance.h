#ifndef CONSILIUM_COORDINATOR_STORE_MAINTENANCE_H_
#define CONSILIUM_COORDINATOR_STORE_MAINTENANCE_H_

// `db check`, `db backup`, `db restore`. FORMAT.md sections 8 and 9.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/file.h"
#include "coordinator/store/store.h"

namespace consilium {

struct CheckProblem {
  std::string kind;    // database, reference, blob, spool, key, audit, stray
  std::string object;  // "version 12", "contribution 3fa9..", "blobs/ab/.."
  std::string detail;  // what is wrong, with the values
  std::string fix;     // what to do
};

struct CheckReport {
  int64_t schema_version = 0;
  int64_t rounds = 0;
  int64_t versions = 0;
  int64_t contributions = 0;
  int64_t audit_entries = 0;
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t spools = 0;
  int64_t spool_bytes = 0;
  bool deep = false;  // digests of blobs were recomputed
  std::vector<CheckProblem> problems;
  bool clean() const { return problems.empty(); }
};

struct CheckOptions {
  bool deep = false;     // read every blob and compare its digest
  CancelToken cancel{};  // heard between two blobs, spools or audit entries
};

// Reads everything, changes nothing. A damaged store gives problems, not an
// error; an error means the check itself could not run.
absl::StatusOr<CheckReport> CheckStore(Store& store,
                                       const CheckOptions& options);

struct BackupReport {
  int64_t database_bytes = 0;
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
};

// Copies a consistent snapshot of the database and every blob it names into
// `dir`, which must be empty or missing. Spools and round keys stay out: a
// backup cannot open any upload. Works while rounds run. `backup.txt`, written
// last, makes it complete.
// Errors: FAILED_PRECONDITION dir not empty; RESOURCE_EXHAUSTED; DATA_LOSS a
// blob does not match its row; CANCELLED. After an error nothing of what this
// call wrote is left.
absl::StatusOr<BackupReport> BackupStore(Store& store, const std::string& dir,
                                         absl::Time now,
                                         const CancelToken& cancel = {});

struct RestoreOptions {
  FileSystem* fs = nullptr;  // null: PosixFileSystem()
  std::string vfs;           // as in StoreOptions
  std::string backup_dir;
  std::string data_dir;
  bool force = false;  // replace a data directory that holds something
  std::string actor = "restore";  // for the audit log
};

struct RestoreReport {
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t rounds_cancelled = 0;       // were collecting or folding
  int64_t contributions_expired = 0;  // their spools are not in a backup
  int64_t tokens_voided = 0;          // had not been used
  // When the backup was made, RFC 3339.
  std::string created;
  // Institutions and operators that were revoked since, and are again.
  std::vector<std::string> revoked_again;
  // No: there was no history to read them from, and whoever was revoked since
  // `created` must be revoked again.
  bool revocations_known = false;
};

// Rebuilds a data directory from a backup; verifies every digest before the
// first row is changed. Open rounds that need spools are cancelled with the
// reason, which names the backup's time; round keys count as destroyed, and an
// audit entry says so. No enrolment token works that was not used: it may have
// been since. With `force` the old directory is kept beside it as
// <data_dir>.before-restore, and what it says about who is revoked holds on,
// where its history can be read. Errors: FAILED_PRECONDITION data_dir not empty
// and not forced, or in use; DATA_LOSS the backup is incomplete or damaged.
absl::StatusOr<RestoreReport> RestoreStore(const RestoreOptions& options,
                                           absl::Time now);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_MAINTENANCE_H_

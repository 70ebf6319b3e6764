// A file system in memory that fails on command and loses power.
//
// It keeps apart what a program sees and what a disk would hold: bytes are
// durable after File::Sync, names (made, renamed, removed), also those of
// directories, after SyncDir of their directory. Nothing else makes anything
// durable. The usual test:
//
//   FaultFileSystem fs;
//   Work(&fs);                                   // counts its steps
//   for (int64_t k = 1; k <= fs.ops(); ++k) {
//     FaultFileSystem other;
//     other.CrashAt(k);
//     Work(&other);                              // fails somewhere
//     other.Crash(seed);                         // power comes back
//     CheckInvariants(&other);
//   }
//
// Mutating operations, which ops() counts and CrashAt(k) numbers from 1: an
// Open that makes or truncates a file, WriteAt, File::Truncate, Allocate, Sync,
// Rename, Remove, each entry that RemoveTree removes, SyncDir, and two for each
// directory that MakeDirs makes: making it, syncing the one above. Lock files
// are not modelled as steps.
//
// After a loss of power each unsynced write or truncation of a file, and each
// unsynced change of a name, was kept or dropped; a kept write may be torn,
// leaving any prefix or any suffix of it. The seed decides whether all are
// kept, none, those up to some step, or each by its own toss. A rename is kept
// or dropped as a whole and hangs on the directory of its new name. A directory
// that was made and not synced goes with all that is in it, synced or not; one
// that was removed comes back with a file in it whose removal was dropped.
// Renaming directories is not modelled.
//
// Thread-safe. Paths are compared after lexical normalisation; "/" exists.
// Files and locks do not outlive the file system.
#ifndef CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
#define CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"

namespace consilium {

class FaultFileSystem final : public FileSystem {
 public:
  // `clock` gives the times of modification and outlives this; without one
  // they are all the Unix epoch.
  explicit FaultFileSystem(Clock* clock = nullptr);
  ~FaultFileSystem() override;

  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveTree(const std::string& path) override;
  absl::Status SyncDir(const std::string& directory) override;
  absl::Status MakeDirs(const std::string& directory,
                        uint32_t mode = 0700) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& directory) override;
  bool Exists(const std::string& path) override;
  absl::StatusOr<FileInfo> Stat(const std::string& path) override;
  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override;
  absl::Status Truncate(const std::string& path, int64_t size) override;
  absl::StatusOr<std::unique_ptr<FileLock>> LockFile(
      const std::string& path) override;

  // Mutating operations begun so far.
  int64_t ops() const;

  // The k-th mutating operation from now (k >= 1) fails with UNAVAILABLE, and
  // so does everything after it, reads included, until Crash. The k-th itself
  // may still have reached the disk: Crash decides.
  void CrashAt(int64_t k);

  // The k-th mutating operation from now fails with `status` and has no
  // effect; what follows works. A failed Sync stays failed for its File.
  void FailAt(int64_t k, absl::Status status);

  // Files may grow by this many bytes in all; what is removed or cut comes
  // back. A write that does not fit writes what fits. Negative: no limit.
  void FailWithNoSpaceAfter(int64_t bytes);

  // FailWithNoSpaceAfter(0) from the k-th mutating operation from now on,
  // this one included.
  void FillUpAt(int64_t k);

  // Reading `path` fails with `status`, until CancelFaults or a restart.
  void FailReads(const std::string& path, absl::Status status);

  // Forgets CrashAt, FailAt, FailReads and FillUpAt that have not come yet, and
  // gives all space back.
  void CancelFaults();

  // Loss of power and restart: the state that is left, as described above,
  // chosen by `seed`. Files opened before fail with UNAVAILABLE, locks are
  // free, planned faults are forgotten, everything left is durable.
  void Crash(uint64_t seed);
  void CrashKeepingNothingUnsynced();

  // The process was killed, the machine lives on: everything written stays
  // (and stays unsynced); open files, locks and plans end as above.
  void KillProcess();

  // Flips bits of one byte, on the disk and as seen. Not a counted operation.
  // NOT_FOUND, OUT_OF_RANGE.
  absl::Status Corrupt(const std::string& path, int64_t offset,
                       uint8_t flip = 0x01);

  // CrashAt's operation has come and Crash has not: the power is off.
  bool crashed() const;

  // True when a crash now could lose something.
  bool HasUnsynced() const;

 private:
  struct Inode;
  struct NameChange;
  class FaultFile;
  class Lock;
  class Dice;
  using InodePtr = std::shared_ptr<Inode>;

  std::unique_ptr<File> NewFile(InodePtr inode, std::string path,
                                const OpenOptions& options)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts one mutating operation. `*takes_effect` false: leave the state
  // alone. Otherwise apply it, as unsynced, even when the status is an error.
  absl::Status Begin(bool* takes_effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Alive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckParent(const std::string& path) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RemoveLocked(const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of `wanted` more bytes, those that fit.
  int64_t Room(int64_t wanted) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Used() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SyncDirLocked(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasChildren(const std::string& directory) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As seen by programs; unsynced.
  void Change(NameChange change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the disk.
  void Commit(const NameChange& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Restart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LosePower(Dice& dice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time Now() const;

  Clock* const clock_;
  mutable Mutex mutex_;
  std::map<std::string, InodePtr> seen_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, InodePtr> durable_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint32_t> directories_ ABSL_GUARDED_BY(mutex_);
  // Of directories_.
  std::set<std::string> unsynced_directories_ ABSL_GUARDED_BY(mutex_);
  std::vector<NameChange> pending_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> locks_ ABSL_GUARDED_BY(mutex_);
  int64_t ops_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t crash_at_ ABSL_GUARDED_BY(mutex_) = 0;    // value of ops_; 0: never
  int64_t fill_up_at_ ABSL_GUARDED_BY(mutex_) = 0;  // as crash_at_
  std::map<int64_t, absl::Status> fail_at_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> fail_reads_ ABSL_GUARDED_BY(mutex_);
  std::optional<int64_t> capacity_ ABSL_GUARDED_BY(mutex_);
  bool dead_ ABSL_GUARDED_BY(mutex_) = false;
  // Counts restarts: files and locks of an earlier life do nothing.
  uint64_t life_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_

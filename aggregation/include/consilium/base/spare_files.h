// Files that are done with, kept to be overwritten by the next ones of about
// their size. Their disk blocks are allocated and, while memory lasts, their
// pages are in the system's cache, so that writing one costs a copy where a new
// file costs a page fault every 4 KiB: 0.06 against 0.2 to 0.8 CPU-seconds per
// GiB, measured in a virtual machine.
//
// A spare keeps what stood in it until it is overwritten, so it is for bytes
// that nobody must be able to read only if they are encrypted under a key that
// was destroyed.
#ifndef CONSILIUM_BASE_SPARE_FILES_H_
#define CONSILIUM_BASE_SPARE_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"

namespace consilium {

// Says that somebody reads or writes a file, until destroyed or ended.
class FileUse {
 public:
  FileUse() = default;
  ~FileUse() { End(); }
  FileUse(FileUse&& other) noexcept = default;
  FileUse& operator=(FileUse&& other) noexcept;
  void End();

 private:
  friend class SpareFiles;
  struct Users {
    Mutex mu;
    std::multiset<std::string> paths ABSL_GUARDED_BY(mu);
  };
  FileUse(std::shared_ptr<Users> users, std::string path);

  std::shared_ptr<Users> users_;
  std::string path_;
};

// One folder of spares, on the file system of the files it serves. Thread safe;
// one object per folder at a time.
class SpareFiles {
 public:
  // `max_bytes` of spares are kept at most; 0 keeps none. Does not touch the
  // disk; a folder that is not there holds no spares.
  SpareFiles(FileSystem* fs, std::string directory, int64_t max_bytes);

  // Makes the folder and takes over what an earlier process left in it, as far
  // as max_bytes allows.
  absl::Status Prepare();

  // While the token lives, Retire only removes the file's name.
  FileUse Use(const std::string& path) const;

  // Moves the file here, or removes it where somebody uses it or there is no
  // room. A file that is missing is no error. Its name is gone durably on
  // return.
  absl::Status Retire(const std::string& path);

  // Moves the spare that fits best to `path`, where no file may be, cut to at
  // most `bytes`; opened to read and write. What it holds is arbitrary. Null
  // where there is no spare of at least half that size. The new name is durable
  // after SyncDir; not to be moved to another folder before.
  absl::StatusOr<std::unique_ptr<File>> Take(const std::string& path,
                                             int64_t bytes);

  // Removes every spare: the disk is full, say.
  absl::Status Clear();

  int64_t bytes() const;

 private:
  std::string PathOf(int64_t number) const;
  absl::Status ClearLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  FileSystem* const fs_;
  const std::string directory_;
  const int64_t max_bytes_;
  const std::shared_ptr<FileUse::Users> users_ =
      std::make_shared<FileUse::Users>();
  mutable Mutex mu_;
  std::map<int64_t, int64_t> spares_ ABSL_GUARDED_BY(mu_);  // number -> size
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t next_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_SPARE_FILES_H_

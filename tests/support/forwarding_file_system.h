// Files with a hook where a test wants one: derive from it and override the
// calls that matter.
#ifndef CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_
#define CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/file.h"
#include "consilium/base/forwarding_file.h"

namespace consilium {

class ForwardingFileSystem : public FileSystem {
 public:
  explicit ForwardingFileSystem(FileSystem* fs = PosixFileSystem()) : fs_(fs) {}

  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    return fs_->Open(path, options);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return fs_->Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override {
    return fs_->Remove(path);
  }
  absl::Status RemoveTree(const std::string& path) override {
    return fs_->RemoveTree(path);
  }
  absl::Status SyncDir(const std::string& directory) override {
    return fs_->SyncDir(directory);
  }
  absl::Status MakeDirs(const std::string& directory, uint32_t mode) override {
    return fs_->MakeDirs(directory, mode);
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& directory) override {
    return fs_->List(directory);
  }
  bool Exists(const std::string& path) override { return fs_->Exists(path); }
  absl::StatusOr<FileInfo> Stat(const std::string& path) override {
    return fs_->Stat(path);
  }
  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    return fs_->FreeSpace(path);
  }
  absl::Status Truncate(const std::string& path, int64_t size) override {
    return fs_->Truncate(path, size);
  }
  absl::StatusOr<std::unique_ptr<FileLock>> LockFile(
      const std::string& path) override {
    return fs_->LockFile(path);
  }

 private:
  FileSystem* const fs_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_

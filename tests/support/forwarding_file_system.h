// The machine's files with a hook where a test wants one: derive from these and
// override the calls that matter.
#ifndef CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_
#define CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/file.h"

namespace consilium {

class ForwardingFile : public File {
 public:
  explicit ForwardingFile(std::unique_ptr<File> file)
      : file_(std::move(file)) {}

  absl::StatusOr<size_t> ReadAt(int64_t offset,
                                std::span<std::byte> out) override {
    return file_->ReadAt(offset, out);
  }
  absl::Status WriteAt(int64_t offset,
                       std::span<const std::byte> data) override {
    return file_->WriteAt(offset, data);
  }
  absl::Status Sync() override { return file_->Sync(); }
  absl::StatusOr<int64_t> Size() override { return file_->Size(); }
  absl::Status Truncate(int64_t size) override { return file_->Truncate(size); }
  absl::Status Allocate(int64_t size) override { return file_->Allocate(size); }
  absl::Status StartWriteback(int64_t offset, int64_t length) override {
    return file_->StartWriteback(offset, length);
  }
  absl::Status Close() override { return file_->Close(); }
  const std::string& path() const override { return file_->path(); }

 private:
  const std::unique_ptr<File> file_;
};

class ForwardingFileSystem : public FileSystem {
 public:
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
  FileSystem* const fs_ = PosixFileSystem();
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FORWARDING_FILE_SYSTEM_H_

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system_internal.h"

namespace consilium {

using internal::Edit;
using internal::Normal;
using internal::PowerIsOff;

absl::Status internal::PowerIsOff() {
  return absl::UnavailableError("the machine lost power");
}

class FaultFileSystem::FaultFile final : public File {
 public:
  FaultFile(FaultFileSystem* fs, InodePtr inode, std::string path,
            const OpenOptions& options, uint64_t life)
      : fs_(fs),
        inode_(std::move(inode)),
        path_(std::move(path)),
        readable_(options.read || !options.write),
        writable_(options.write),
        life_(life) {}

  absl::StatusOr<size_t> ReadAt(int64_t offset,
                                std::span<std::byte> out) override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("read", readable_, offset, out.size()));
    const auto failing = fs_->fail_reads_.find(Normal(path_));
    if (failing != fs_->fail_reads_.end()) return failing->second;
    const std::span<const std::byte> all = AsBytes(inode_->seen);
    if (static_cast<uint64_t>(offset) >= all.size()) return 0u;
    const auto from = all.subspan(static_cast<size_t>(offset));
    const size_t n = std::min(out.size(), from.size());
    std::copy_n(from.begin(), n, out.begin());
    return n;
  }

  absl::Status WriteAt(int64_t offset,
                       std::span<const std::byte> data) override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("write", writable_, offset, data.size()));
    bool takes_effect;
    const absl::Status status = fs_->Begin(&takes_effect);
    if (!takes_effect || data.empty()) return status;
    const int64_t end = offset + static_cast<int64_t>(data.size());
    const int64_t growth = std::max<int64_t>(0, end - inode_->held());
    const int64_t missing = growth - fs_->Room(growth);
    const auto fits = static_cast<size_t>(
        std::max<int64_t>(0, static_cast<int64_t>(data.size()) - missing));
    if (fits > 0) {
      inode_->Edited(
          {.offset = offset, .data = std::string(AsChars(data.first(fits)))},
          fs_->Now());
    }
    if (status.ok() && missing > 0) return ErrnoStatus(ENOSPC, "write", path_);
    return status;
  }

  absl::Status Sync() override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("sync", true, 0, 0));
    if (sync_failed_) {
      return absl::DataLossError(Cat("sync ", path_, ": failed before"));
    }
    bool takes_effect;
    if (absl::Status status = fs_->Begin(&takes_effect); !status.ok()) {
      sync_failed_ = true;
      return status;
    }
    for (const Edit& edit : inode_->unsynced) Apply(edit, inode_->durable);
    inode_->unsynced.clear();
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Size() override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("stat", true, 0, 0));
    return static_cast<int64_t>(inode_->seen.size());
  }

  absl::Status Truncate(int64_t size) override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("truncate", writable_, size, 0));
    bool takes_effect;
    const absl::Status status = fs_->Begin(&takes_effect);
    if (!takes_effect) return status;
    inode_->reserved = std::min(inode_->reserved, size);
    const int64_t growth = std::max<int64_t>(0, size - inode_->held());
    if (fs_->Room(growth) < growth) {
      return ErrnoStatus(ENOSPC, "truncate", path_);
    }
    inode_->Edited({.truncates = true, .offset = size}, fs_->Now());
    return status;
  }

  absl::Status Allocate(int64_t size) override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("allocate", writable_, size, 0));
    bool takes_effect;
    const absl::Status status = fs_->Begin(&takes_effect);
    if (!takes_effect) return status;
    const int64_t growth = std::max<int64_t>(0, size - inode_->held());
    if (fs_->Room(growth) < growth) {
      return ErrnoStatus(ENOSPC, "allocate", path_);
    }
    inode_->reserved = std::max(inode_->reserved, size);
    return status;
  }

  absl::Status StartWriteback(int64_t offset, int64_t length) override {
    MutexLock lock(&fs_->mutex_);
    if (length < 0) return ErrnoStatus(EINVAL, "write back", path_);
    return Check("write back", true, offset, static_cast<uint64_t>(length));
  }

  absl::Status Close() override {
    MutexLock lock(&fs_->mutex_);
    CONSILIUM_RETURN_IF_ERROR(Check("close", true, 0, 0));
    closed_ = true;
    return absl::OkStatus();
  }

  const std::string& path() const override { return path_; }

 private:
  absl::Status Check(std::string_view operation, bool allowed, int64_t offset,
                     uint64_t length) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(fs_->mutex_) {
    CONSILIUM_RETURN_IF_ERROR(fs_->Alive());
    if (life_ != fs_->life_) return PowerIsOff();
    if (closed_ || !allowed) return ErrnoStatus(EBADF, operation, path_);
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    if (offset < 0 || length > static_cast<uint64_t>(kMax - offset)) {
      return ErrnoStatus(EINVAL, operation, path_);
    }
    return absl::OkStatus();
  }

  FaultFileSystem* const fs_;
  const InodePtr inode_;
  const std::string path_;
  const bool readable_;
  const bool writable_;
  const uint64_t life_;
  bool closed_ = false;
  bool sync_failed_ = false;
};

std::unique_ptr<File> FaultFileSystem::NewFile(InodePtr inode, std::string path,
                                               const OpenOptions& options) {
  return std::make_unique<FaultFile>(this, std::move(inode), std::move(path),
                                     options, life_);
}

}  // namespace consilium

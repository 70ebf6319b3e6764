#include "consilium/base/spare_files.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::string_view kSuffix = ".spare";

absl::Status OkIfGone(absl::Status status) {
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace

FileUse::FileUse(std::shared_ptr<Users> users, std::string path)
    : users_(std::move(users)), path_(std::move(path)) {
  MutexLock lock(&users_->mu);
  users_->paths.insert(path_);
}

FileUse& FileUse::operator=(FileUse&& other) noexcept {
  if (this == &other) return *this;
  End();
  users_ = std::move(other.users_);
  path_ = std::move(other.path_);
  return *this;
}

void FileUse::End() {
  if (users_ == nullptr) return;
  {
    MutexLock lock(&users_->mu);
    users_->paths.erase(users_->paths.find(path_));
  }
  users_.reset();
}

FileUse SpareFiles::Use(const std::string& path) const {
  return FileUse(users_, path);
}

SpareFiles::SpareFiles(FileSystem* fs, std::string directory, int64_t max_bytes)
    : fs_(fs), directory_(std::move(directory)), max_bytes_(max_bytes) {}

std::string SpareFiles::PathOf(int64_t number) const {
  return JoinPath(directory_, Cat(number, kSuffix));
}

absl::Status SpareFiles::Prepare() {
  MutexLock lock(&mu_);
  if (max_bytes_ > 0) {
    CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(directory_));
  } else if (!fs_->Exists(directory_)) {
    return absl::OkStatus();
  }
  // What a killed process moved here must not come back under its old name.
  CONSILIUM_RETURN_IF_ERROR(fs_->SyncDir(directory_));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs_->List(directory_));
  for (const std::string& name : names) {
    const std::string path = JoinPath(directory_, name);
    int64_t number = 0;
    absl::string_view digits = name;
    CONSILIUM_ASSIGN_OR_RETURN(const FileInfo info, fs_->Stat(path));
    if (!absl::ConsumeSuffix(&digits, AbslView(kSuffix)) ||
        !absl::SimpleAtoi(digits, &number) || number < 0 ||
        PathOf(number) != path || info.size > max_bytes_ - bytes_) {
      CONSILIUM_RETURN_IF_ERROR(OkIfGone(fs_->Remove(path)));
      continue;
    }
    spares_[number] = info.size;
    bytes_ += info.size;
    next_ = std::max(next_, number + 1);
  }
  return absl::OkStatus();
}

absl::Status SpareFiles::Retire(const std::string& path) {
  const absl::StatusOr<FileInfo> info = fs_->Stat(path);
  if (!info.ok()) return OkIfGone(info.status());
  int64_t number = -1;
  {
    MutexLock lock(&mu_);
    // Held until it has moved, so that nobody opens it by the old name.
    MutexLock users(&users_->mu);
    if (users_->paths.contains(path) || info->size == 0 ||
        info->size > max_bytes_ - bytes_) {
      CONSILIUM_RETURN_IF_ERROR(OkIfGone(fs_->Remove(path)));
    } else {
      number = next_++;
      CONSILIUM_RETURN_IF_ERROR(fs_->Rename(path, PathOf(number)));
      bytes_ += info->size;
    }
  }
  if (number < 0) return fs_->SyncDir(DirName(path));
  // Until the move is durable a loss of power may bring the old name back, and
  // then whoever has taken the spare would write into that file.
  absl::Status status = fs_->SyncDir(directory_);
  if (status.ok()) status = fs_->SyncDir(DirName(path));
  MutexLock lock(&mu_);
  if (status.ok()) {
    spares_[number] = info->size;
  } else {
    (void)fs_->Remove(PathOf(number));
    bytes_ -= info->size;
  }
  return status;
}

absl::StatusOr<std::unique_ptr<File>> SpareFiles::Take(const std::string& path,
                                                       int64_t bytes) {
  MutexLock lock(&mu_);
  // The smallest that is large enough, else the largest.
  auto best = spares_.end();
  for (auto it = spares_.begin(); it != spares_.end(); ++it) {
    if (it->second < bytes / 2) continue;
    const bool better = best == spares_.end() ||
                        (best->second < bytes ? it->second > best->second
                                              : it->second >= bytes &&
                                                    it->second < best->second);
    if (better) best = it;
  }
  if (best == spares_.end()) return nullptr;
  const std::string spare = PathOf(best->first);
  const int64_t size = best->second;
  const absl::Status status = fs_->Rename(spare, path);
  const bool gone = absl::IsNotFound(status);  // somebody tidied up
  if (!gone) CONSILIUM_RETURN_IF_ERROR(status);
  bytes_ -= size;
  spares_.erase(best);
  if (gone) return nullptr;
  absl::StatusOr<std::unique_ptr<File>> file = fs_->Open(path, {.write = true});
  if (file.ok() && size > bytes) {
    const absl::Status cut = (*file)->Truncate(bytes);
    if (!cut.ok()) file = cut;
  }
  // Nobody else knows of it.
  if (!file.ok()) (void)fs_->Remove(path);
  return file;
}

absl::Status SpareFiles::Clear() {
  MutexLock lock(&mu_);
  return ClearLocked();
}

absl::Status SpareFiles::ClearLocked() {
  if (spares_.empty()) return absl::OkStatus();
  while (!spares_.empty()) {
    const auto first = spares_.begin();
    CONSILIUM_RETURN_IF_ERROR(OkIfGone(fs_->Remove(PathOf(first->first))));
    bytes_ -= first->second;
    spares_.erase(first);
  }
  return absl::OkStatus();
}

int64_t SpareFiles::bytes() const {
  MutexLock lock(&mu_);
  return bytes_;
}

}  // namespace consilium

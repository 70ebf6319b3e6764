#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system_internal.h"

namespace consilium {

using internal::Edit;
using internal::Normal;
using internal::PowerIsOff;

std::string internal::Normal(const std::string& path) {
  std::string text =
      (std::filesystem::path("/") / path).lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

class FaultFileSystem::Lock final : public FileLock {
 public:
  Lock(FaultFileSystem* fs, std::string path, uint64_t life)
      : fs_(fs), path_(std::move(path)), life_(life) {}
  ~Lock() override {
    MutexLock lock(&fs_->mutex_);
    if (fs_->life_ == life_) fs_->locks_.erase(path_);
  }

 private:
  FaultFileSystem* const fs_;
  const std::string path_;
  const uint64_t life_;
};

FaultFileSystem::FaultFileSystem(Clock* clock) : clock_(clock) {
  directories_["/"] = 0700;
}

FaultFileSystem::~FaultFileSystem() = default;

absl::Time FaultFileSystem::Now() const {
  return clock_ == nullptr ? absl::UnixEpoch() : clock_->Now();
}

absl::Status FaultFileSystem::Alive() const {
  return dead_ ? PowerIsOff() : absl::OkStatus();
}

absl::Status FaultFileSystem::Begin(bool* takes_effect) {
  ++ops_;
  *takes_effect = true;
  if (ops_ == crash_at_) {
    dead_ = true;
    return PowerIsOff();
  }
  if (ops_ == fill_up_at_) capacity_ = Used();
  if (const auto it = fail_at_.find(ops_); it != fail_at_.end()) {
    *takes_effect = false;
    return it->second;
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::CheckParent(const std::string& path) const {
  const std::string parent = DirName(path);
  if (directories_.contains(parent)) return absl::OkStatus();
  return ErrnoStatus(seen_.contains(parent) ? ENOTDIR : ENOENT, "open", path);
}

int64_t FaultFileSystem::Used() const {
  int64_t used = 0;
  for (const auto& [path, inode] : seen_) used += inode->held();
  return used;
}

int64_t FaultFileSystem::Room(int64_t wanted) const {
  if (!capacity_.has_value()) return wanted;
  return std::clamp<int64_t>(*capacity_ - Used(), 0, wanted);
}

bool FaultFileSystem::HasChildren(const std::string& directory) const {
  const auto inside = [&directory](const auto& entry) {
    return entry.first != "/" && DirName(entry.first) == directory;
  };
  return std::any_of(seen_.begin(), seen_.end(), inside) ||
         std::any_of(directories_.begin(), directories_.end(), inside);
}

void FaultFileSystem::Change(NameChange change) {
  if (!change.removed.empty()) seen_.erase(change.removed);
  if (!change.added.empty()) seen_[change.added] = change.inode;
  pending_.push_back(std::move(change));
}

void FaultFileSystem::Commit(const NameChange& change) {
  if (!change.removed.empty()) durable_.erase(change.removed);
  if (!change.added.empty()) durable_[change.added] = change.inode;
}

absl::StatusOr<std::unique_ptr<File>> FaultFileSystem::Open(
    const std::string& path, const OpenOptions& options) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if ((options.create || options.truncate) && !options.write) {
    return absl::InvalidArgumentError(
        Cat("open ", path, ": create and truncate need write"));
  }
  if (directories_.contains(name)) return ErrnoStatus(EISDIR, "open", path);
  CONSILIUM_RETURN_IF_ERROR(CheckParent(name));
  const auto it = seen_.find(name);
  InodePtr inode;
  if (it == seen_.end()) {
    if (!options.create) return ErrnoStatus(ENOENT, "open", path);
    bool takes_effect;
    const absl::Status status = Begin(&takes_effect);
    if (!takes_effect) return status;
    inode = std::make_shared<Inode>();
    inode->mode = options.mode;
    inode->modified = Now();
    Change({.added = name, .inode = inode});
    CONSILIUM_RETURN_IF_ERROR(status);
  } else {
    if (options.create && options.exclusive) {
      return ErrnoStatus(EEXIST, "open", path);
    }
    inode = it->second;
    if (options.truncate) {
      bool takes_effect;
      const absl::Status status = Begin(&takes_effect);
      if (!takes_effect) return status;
      inode->reserved = 0;
      inode->Edited({.truncates = true}, Now());
      CONSILIUM_RETURN_IF_ERROR(status);
    }
  }
  return NewFile(std::move(inode), path, options);
}

absl::Status FaultFileSystem::Rename(const std::string& from,
                                     const std::string& to) {
  const std::string old_name = Normal(from);
  const std::string new_name = Normal(to);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if (directories_.contains(old_name) || directories_.contains(new_name)) {
    return ErrnoStatus(EISDIR, "rename", Cat(from, " to ", to));
  }
  const auto it = seen_.find(old_name);
  if (it == seen_.end()) {
    return ErrnoStatus(ENOENT, "rename", Cat(from, " to ", to));
  }
  CONSILIUM_RETURN_IF_ERROR(CheckParent(new_name));
  if (old_name == new_name) return absl::OkStatus();
  bool takes_effect;
  const absl::Status status = Begin(&takes_effect);
  if (takes_effect) {
    Change({.added = new_name, .inode = it->second, .removed = old_name});
  }
  return status;
}

void FaultFileSystem::Forget(const std::string& directory) {
  directories_.erase(directory);
  unsynced_directories_.erase(directory);
}

absl::Status FaultFileSystem::RemoveLocked(const std::string& path) {
  const bool is_directory = directories_.contains(path);
  if (is_directory && (path == "/" || HasChildren(path))) {
    return ErrnoStatus(ENOTEMPTY, "remove", path);
  }
  if (!is_directory && !seen_.contains(path)) {
    return ErrnoStatus(ENOENT, "remove", path);
  }
  bool takes_effect;
  const absl::Status status = Begin(&takes_effect);
  if (is_directory) {
    if (status.ok()) Forget(path);
  } else if (takes_effect) {
    Change({.removed = path});
  }
  return status;
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  return RemoveLocked(name);
}

absl::Status FaultFileSystem::RemoveTree(const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  std::vector<std::string> doomed;
  const auto collect = [&](const auto& entries) {
    for (const auto& [entry, value] : entries) {
      if (entry == name || entry.starts_with(name + "/")) {
        doomed.push_back(entry);
      }
    }
  };
  collect(seen_);
  collect(directories_);
  // A directory's name is a prefix of what is in it, so it comes last.
  std::sort(doomed.rbegin(), doomed.rend());
  for (const std::string& entry : doomed) {
    CONSILIUM_RETURN_IF_ERROR(RemoveLocked(entry));
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncDir(const std::string& directory) {
  const std::string name = Normal(directory);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if (!directories_.contains(name)) {
    return ErrnoStatus(seen_.contains(name) ? ENOTDIR : ENOENT, "sync",
                       directory);
  }
  return SyncDirLocked(name);
}

absl::Status FaultFileSystem::SyncDirLocked(const std::string& name) {
  bool takes_effect;
  CONSILIUM_RETURN_IF_ERROR(Begin(&takes_effect));
  std::erase_if(unsynced_directories_, [&name](const std::string& made) {
    return DirName(made) == name;
  });
  std::vector<NameChange> rest;
  for (NameChange& change : pending_) {
    if (change.directory() != name) {
      rest.push_back(std::move(change));
      continue;
    }
    Commit(change);
    // A file moved away durably cannot come back under its old name.
    std::erase_if(rest, [&change](const NameChange& earlier) {
      return !change.removed.empty() && earlier.added == change.removed;
    });
  }
  pending_ = std::move(rest);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::MakeDirs(const std::string& directory,
                                       uint32_t mode) {
  const std::string name = Normal(directory);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  for (size_t end = 1; end != std::string::npos && name != "/";) {
    end = name.find('/', end + 1);
    const std::string part = name.substr(0, end);
    if (seen_.contains(part)) return ErrnoStatus(ENOTDIR, "make", directory);
    if (directories_.contains(part)) continue;
    bool takes_effect;
    const absl::Status made = Begin(&takes_effect);
    if (takes_effect) {
      directories_[part] = mode;
      unsynced_directories_.insert(part);
    }
    CONSILIUM_RETURN_IF_ERROR(made);
    const absl::Status synced = SyncDirLocked(DirName(part));
    if (!synced.ok() && !dead_) Forget(part);
    CONSILIUM_RETURN_IF_ERROR(synced);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::List(
    const std::string& directory) {
  const std::string name = Normal(directory);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if (!directories_.contains(name)) {
    return ErrnoStatus(seen_.contains(name) ? ENOTDIR : ENOENT, "list",
                       directory);
  }
  std::vector<std::string> names;
  const auto collect = [&](const auto& entries) {
    for (const auto& [path, value] : entries) {
      if (path != "/" && DirName(path) == name) names.push_back(BaseName(path));
    }
  };
  collect(seen_);
  collect(directories_);
  std::sort(names.begin(), names.end());
  return names;
}

bool FaultFileSystem::Exists(const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  return !dead_ && (seen_.contains(name) || directories_.contains(name));
}

absl::StatusOr<FileInfo> FaultFileSystem::Stat(const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if (const auto it = seen_.find(name); it != seen_.end()) {
    return FileInfo{.size = static_cast<int64_t>(it->second->seen.size()),
                    .mode = it->second->mode,
                    .modified = it->second->modified};
  }
  if (const auto it = directories_.find(name); it != directories_.end()) {
    return FileInfo{.mode = it->second, .is_directory = true};
  }
  return ErrnoStatus(ENOENT, "stat", path);
}

absl::StatusOr<int64_t> FaultFileSystem::FreeSpace(const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  if (!seen_.contains(name) && !directories_.contains(name)) {
    return ErrnoStatus(ENOENT, "free space of", path);
  }
  return Room(int64_t{1} << 50);
}

absl::Status FaultFileSystem::Truncate(const std::string& path, int64_t size) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             Open(path, {.write = true}));
  return file->Truncate(size);
}

absl::StatusOr<std::unique_ptr<FileLock>> FaultFileSystem::LockFile(
    const std::string& path) {
  const std::string name = Normal(path);
  MutexLock lock(&mutex_);
  CONSILIUM_RETURN_IF_ERROR(Alive());
  CONSILIUM_RETURN_IF_ERROR(CheckParent(name));
  const std::string pid = Cat(::getpid());
  if (!locks_.insert(name).second) {
    return absl::FailedPreconditionError(
        Cat("lock ", path, ": held by process ", pid));
  }
  InodePtr& inode = seen_[name];
  if (inode == nullptr) inode = std::make_shared<Inode>();
  inode->seen = inode->durable = pid + "\n";
  inode->unsynced.clear();
  durable_[name] = inode;
  return std::make_unique<Lock>(this, name, life_);
}

int64_t FaultFileSystem::ops() const {
  MutexLock lock(&mutex_);
  return ops_;
}

void FaultFileSystem::CrashAt(int64_t k) {
  CONSILIUM_CHECK(k >= 1);
  MutexLock lock(&mutex_);
  crash_at_ = ops_ + k;
}

void FaultFileSystem::FailAt(int64_t k, absl::Status status) {
  CONSILIUM_CHECK(k >= 1 && !status.ok());
  MutexLock lock(&mutex_);
  fail_at_[ops_ + k] = LocalError(std::move(status));
}

void FaultFileSystem::FailReads(const std::string& path, absl::Status status) {
  CONSILIUM_CHECK(!status.ok());
  MutexLock lock(&mutex_);
  fail_reads_[Normal(path)] = LocalError(std::move(status));
}

void FaultFileSystem::FailWithNoSpaceAfter(int64_t bytes) {
  MutexLock lock(&mutex_);
  capacity_.reset();
  if (bytes >= 0) capacity_ = Used() + bytes;
}

void FaultFileSystem::FillUpAt(int64_t k) {
  CONSILIUM_CHECK(k >= 1);
  MutexLock lock(&mutex_);
  fill_up_at_ = ops_ + k;
}

bool FaultFileSystem::crashed() const {
  MutexLock lock(&mutex_);
  return dead_;
}

void FaultFileSystem::Restart() {
  ++life_;
  locks_.clear();
  fail_at_.clear();
  fail_reads_.clear();
  crash_at_ = fill_up_at_ = 0;
  dead_ = false;
}

void FaultFileSystem::CancelFaults() {
  MutexLock lock(&mutex_);
  fail_at_.clear();
  fail_reads_.clear();
  crash_at_ = fill_up_at_ = 0;
  capacity_.reset();
}

void FaultFileSystem::LosePower(Dice& dice) {
  using Fate = Dice::Fate;
  const std::vector<Fate> changes = dice.Fates(pending_.size());
  for (size_t i = 0; i < pending_.size(); ++i) {
    // Names are not torn; half a change is a change dropped.
    if (changes[i] == Fate::kKept) Commit(pending_[i]);
  }
  pending_.clear();
  const std::set<std::string> made = std::move(unsynced_directories_);
  unsynced_directories_.clear();
  const std::vector<Fate> makings = dice.Fates(made.size());
  auto making = makings.begin();
  for (const std::string& directory : made) {
    if (*making++ == Fate::kKept) continue;
    const auto inside = [&directory](const auto& entry) {
      return entry.first == directory ||
             entry.first.starts_with(directory + "/");
    };
    std::erase_if(durable_, inside);
    std::erase_if(directories_, inside);
  }
  seen_ = durable_;
  for (auto& [path, inode] : seen_) {
    const std::vector<Fate> edits = dice.Fates(inode->unsynced.size());
    for (size_t i = 0; i < edits.size(); ++i) {
      const Edit& edit = inode->unsynced[i];
      if (edits[i] == Fate::kKept) Apply(edit, inode->durable);
      if (edits[i] == Fate::kTorn && !edit.truncates) {
        Apply(dice.Torn(edit), inode->durable);
      }
    }
    inode->unsynced.clear();
    inode->seen = inode->durable;
    inode->reserved = 0;
    for (std::string up = DirName(path); directories_.emplace(up, 0700).second;
         up = DirName(up)) {
    }
  }
  Restart();
}

void FaultFileSystem::Crash(uint64_t seed) {
  MutexLock lock(&mutex_);
  Dice dice(seed);
  LosePower(dice);
}

void FaultFileSystem::CrashKeepingNothingUnsynced() {
  MutexLock lock(&mutex_);
  Dice dice(Dice::Style::kNone);
  LosePower(dice);
}

void FaultFileSystem::KillProcess() {
  MutexLock lock(&mutex_);
  Restart();
}

absl::Status FaultFileSystem::Corrupt(const std::string& path, int64_t offset,
                                      uint8_t flip) {
  MutexLock lock(&mutex_);
  const auto it = seen_.find(Normal(path));
  if (it == seen_.end()) return ErrnoStatus(ENOENT, "corrupt", path);
  Inode& inode = *it->second;
  if (offset < 0 || static_cast<uint64_t>(offset) >= inode.seen.size()) {
    return absl::OutOfRangeError(Cat(path, " has no byte ", offset));
  }
  const auto flip_in = [flip](std::string& bytes, int64_t at) {
    if (at < 0 || static_cast<uint64_t>(at) >= bytes.size()) return;
    char& byte = bytes[static_cast<size_t>(at)];
    byte = static_cast<char>(byte ^ flip);
  };
  flip_in(inode.seen, offset);
  flip_in(inode.durable, offset);
  for (Edit& edit : inode.unsynced) flip_in(edit.data, offset - edit.offset);
  return absl::OkStatus();
}

bool FaultFileSystem::HasUnsynced() const {
  MutexLock lock(&mutex_);
  return !pending_.empty() || !unsynced_directories_.empty() ||
         std::any_of(seen_.begin(), seen_.end(), [](const auto& entry) {
           return !entry.second->unsynced.empty();
         });
}

}  // namespace consilium

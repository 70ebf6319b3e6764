#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <system_error>
#include <utility>

#include "consilium/base/file.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

namespace {

absl::Status FromErrno(int error, std::string_view operation,
                       std::string_view path) {
  const std::string text =
      Cat(operation, " ", path, ": ", std::generic_category().message(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(text);
    case EEXIST:
      return absl::AlreadyExistsError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case ENOSPC:
      return absl::ResourceExhaustedError(
          Cat(text, "; free space on that volume and try again"));
    case EDQUOT:
      return absl::ResourceExhaustedError(
          Cat(text, "; raise the quota or free space on that volume"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          Cat(text, "; raise the limit of open files (ulimit -n)"));
    case EFBIG:
    case ENOMEM:
      return absl::ResourceExhaustedError(text);
    case EISDIR:
    case ENOTDIR:
    case ENOTEMPTY:
    case ELOOP:
    case EBADF:
    case ETXTBSY:
    case EBUSY:
      return absl::FailedPreconditionError(text);
    case EINVAL:
    case ENAMETOOLONG:
      return absl::InvalidArgumentError(text);
    case EIO:
      return absl::DataLossError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace

absl::Status ErrnoStatus(int error, std::string_view operation,
                         std::string_view path) {
  const absl::Status status = FromErrno(error, operation, path);
  return error == ENOSPC || error == EDQUOT ? NoSpaceError(status)
                                            : LocalError(status);
}

namespace {

// Repeats a call that a signal interrupted.
template <typename F>
auto NoEintr(F call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// Linux moves at most 2^31 - 4096 bytes per call; stay well below.
constexpr size_t kMaxTransfer = size_t{1} << 30;

absl::Status CheckRange(int64_t offset, uint64_t length,
                        const std::string& path) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (offset >= 0 && length <= static_cast<uint64_t>(kMax - offset)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(Cat("range of ", length,
                                        " bytes at offset ", offset, " of ",
                                        path, " is not in [0, 2^63)"));
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override {
    if (fd_ >= 0) ::close(fd_);
  }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  absl::StatusOr<size_t> ReadAt(int64_t offset,
                                std::span<std::byte> out) override {
    CONSILIUM_RETURN_IF_ERROR(CheckRange(offset, out.size(), path_));
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got = NoEintr([&] {
        return ::pread(fd_, out.data() + done,
                       std::min(out.size() - done, kMaxTransfer),
                       offset + static_cast<int64_t>(done));
      });
      if (got < 0) return ErrnoStatus(errno, "read", path_);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  absl::Status WriteAt(int64_t offset,
                       std::span<const std::byte> data) override {
    CONSILIUM_RETURN_IF_ERROR(CheckRange(offset, data.size(), path_));
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t put = NoEintr([&] {
        return ::pwrite(fd_, data.data() + done,
                        std::min(data.size() - done, kMaxTransfer),
                        offset + static_cast<int64_t>(done));
      });
      if (put < 0) return ErrnoStatus(errno, "write", path_);
      // Never seen for a regular file; without this it would loop for ever.
      if (put == 0) return ErrnoStatus(ENOSPC, "write", path_);
      done += static_cast<size_t>(put);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (sync_failed_) {
      return absl::DataLossError(
          Cat("sync ", path_,
              ": an earlier sync failed, so bytes may be lost; "
              "write the file anew"));
    }
    if (NoEintr([&] { return ::fdatasync(fd_); }) == 0) {
      return absl::OkStatus();
    }
    const int error = errno;
    sync_failed_ = true;
    return ErrnoStatus(error, "sync", path_);
  }

  absl::StatusOr<int64_t> Size() override {
    struct stat info;
    if (::fstat(fd_, &info) != 0) return ErrnoStatus(errno, "stat", path_);
    return info.st_size;
  }

  absl::Status Truncate(int64_t size) override {
    CONSILIUM_RETURN_IF_ERROR(
        CheckRange(0, static_cast<uint64_t>(size), path_));
    if (NoEintr([&] { return ::ftruncate(fd_, size); }) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "truncate", path_);
  }

  absl::Status Allocate(int64_t size) override {
    CONSILIUM_RETURN_IF_ERROR(
        CheckRange(0, static_cast<uint64_t>(size), path_));
    if (size == 0) return absl::OkStatus();
    if (NoEintr([&] {
          return ::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, size);
        }) == 0) {
      return absl::OkStatus();
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
      return ErrnoStatus(errno, "allocate", path_);
    }
    struct stat info;
    struct statvfs space;
    if (::fstat(fd_, &info) != 0 || ::fstatvfs(fd_, &space) != 0) {
      return ErrnoStatus(errno, "allocate", path_);
    }
    const auto free = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
    const auto held = static_cast<uint64_t>(info.st_blocks) * 512;
    if (static_cast<uint64_t>(size) <= held + free) return absl::OkStatus();
    return ErrnoStatus(ENOSPC, "allocate", path_);
  }

  absl::Status StartWriteback(int64_t offset, int64_t length) override {
    CONSILIUM_RETURN_IF_ERROR(
        CheckRange(offset, static_cast<uint64_t>(length), path_));
    // A length of 0 would mean "to the end" to the system.
    if (length == 0) return absl::OkStatus();
    if (::sync_file_range(fd_, offset, length, SYNC_FILE_RANGE_WRITE) == 0 ||
        errno == ENOSYS || errno == ESPIPE || errno == EINTR) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "write back", path_);
  }

  absl::Status Close() override {
    // Linux frees the descriptor even when close reports EINTR.
    if (::close(std::exchange(fd_, -1)) == 0 || errno == EINTR) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "close", path_);
  }

  const std::string& path() const override { return path_; }

 private:
  int fd_;
  const std::string path_;
  std::atomic<bool> sync_failed_{false};
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(int fd) : fd_(fd) {}
  ~PosixFileLock() override { ::close(fd_); }
  PosixFileLock(const PosixFileLock&) = delete;
  PosixFileLock& operator=(const PosixFileLock&) = delete;

 private:
  const int fd_;
};

class Directory {
 public:
  explicit Directory(DIR* dir) : dir_(dir) {}
  ~Directory() {
    if (dir_ != nullptr) ::closedir(dir_);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  DIR* get() const { return dir_; }

 private:
  DIR* const dir_;
};

class RealFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    if ((options.create || options.truncate) && !options.write) {
      return absl::InvalidArgumentError(
          Cat("open ", path, ": create and truncate need write"));
    }
    int flags = O_CLOEXEC | O_NOCTTY;
    flags |= options.write ? (options.read ? O_RDWR : O_WRONLY) : O_RDONLY;
    if (options.create) flags |= O_CREAT;
    if (options.create && options.exclusive) flags |= O_EXCL;
    if (options.truncate) flags |= O_TRUNC;
    const int fd = NoEintr(
        [&] { return ::open(path.c_str(), flags, mode_t{options.mode}); });
    if (fd < 0) return ErrnoStatus(errno, "open", path);
    auto file = std::make_unique<PosixFile>(fd, path);
    struct stat info;
    if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "open", path);
    if (S_ISDIR(info.st_mode)) return ErrnoStatus(EISDIR, "open", path);
    return file;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, "rename", Cat(from, " to ", to));
  }

  absl::Status Remove(const std::string& path) override {
    if (std::remove(path.c_str()) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, "remove", path);
  }

  absl::Status RemoveTree(const std::string& path) override {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) {
      return errno == ENOENT ? absl::OkStatus()
                             : ErrnoStatus(errno, "remove", path);
    }
    if (S_ISDIR(info.st_mode)) {
      CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                                 List(path));
      for (const std::string& name : names) {
        CONSILIUM_RETURN_IF_ERROR(RemoveTree(JoinPath(path, name)));
      }
    }
    const absl::Status status = Remove(path);
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  }

  absl::Status SyncDir(const std::string& directory) override {
    const int fd = NoEintr([&] {
      return ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    });
    if (fd < 0) return ErrnoStatus(errno, "open", directory);
    const int result = NoEintr([&] { return ::fsync(fd); });
    const int error = errno;
    ::close(fd);
    if (result == 0) return absl::OkStatus();
    return ErrnoStatus(error, "sync", directory);
  }

  absl::Status MakeDirs(const std::string& directory, uint32_t mode) override {
    struct stat info;
    if (::stat(directory.c_str(), &info) == 0) {
      return S_ISDIR(info.st_mode) ? absl::OkStatus()
                                   : ErrnoStatus(ENOTDIR, "make", directory);
    }
    if (errno != ENOENT) return ErrnoStatus(errno, "make", directory);
    const std::string parent = DirName(directory);
    if (parent != directory) CONSILIUM_RETURN_IF_ERROR(MakeDirs(parent, mode));
    // Somebody else may have been faster.
    if (::mkdir(directory.c_str(), mode_t{mode}) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, "make", directory);
    }
    const absl::Status status = SyncDir(parent);
    // Else the next call would find it and take it for durable.
    if (!status.ok()) ::rmdir(directory.c_str());
    return status;
  }

  absl::StatusOr<std::vector<std::string>> List(
      const std::string& directory) override {
    const Directory dir(::opendir(directory.c_str()));
    if (dir.get() == nullptr) return ErrnoStatus(errno, "list", directory);
    std::vector<std::string> names;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return ErrnoStatus(errno, "list", directory);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool Exists(const std::string& path) override {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
  }

  absl::StatusOr<FileInfo> Stat(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) {
      return ErrnoStatus(errno, "stat", path);
    }
    return FileInfo{.size = info.st_size,
                    .mode = info.st_mode & 07777u,
                    .is_directory = S_ISDIR(info.st_mode),
                    .modified = absl::TimeFromTimespec(info.st_mtim)};
  }

  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    struct statvfs space;
    if (NoEintr([&] { return ::statvfs(path.c_str(), &space); }) != 0) {
      return ErrnoStatus(errno, "free space of", path);
    }
    return static_cast<int64_t>(
        std::min<uint64_t>(static_cast<uint64_t>(space.f_bavail) *
                               static_cast<uint64_t>(space.f_frsize),
                           std::numeric_limits<int64_t>::max()));
  }

  absl::Status Truncate(const std::string& path, int64_t size) override {
    CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                               Open(path, {.write = true}));
    CONSILIUM_RETURN_IF_ERROR(file->Truncate(size));
    return file->Close();
  }

  absl::StatusOr<std::unique_ptr<FileLock>> LockFile(
      const std::string& path) override {
    const int fd = NoEintr([&] {
      return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    });
    if (fd < 0) return ErrnoStatus(errno, "open", path);
    auto lock = std::make_unique<PosixFileLock>(fd);
    if (NoEintr([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock", path);
      char holder[16] = {};
      const ssize_t got = ::pread(fd, holder, sizeof(holder) - 1, 0);
      const std::string_view text(holder,
                                  got > 0 ? static_cast<size_t>(got) : 0);
      const std::string_view pid = text.substr(0, text.find('\n'));
      return absl::FailedPreconditionError(
          Cat("lock ", path, ": held by process ", pid.empty() ? "?" : pid,
              "; stop it first, or use another directory"));
    }
    const std::string pid = Cat(::getpid(), "\n");
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) !=
                                       static_cast<ssize_t>(pid.size())) {
      return ErrnoStatus(errno, "write", path);
    }
    return lock;
  }
};

}  // namespace

FileSystem* PosixFileSystem() {
  static RealFileSystem* const fs = new RealFileSystem;
  return fs;
}

}  // namespace consilium

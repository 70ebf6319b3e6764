// Everything that touches a disk goes through FileSystem, so that tests can
// fill the disk, lose power and tear writes (tests/support).
//
// Paths are UTF-8 byte strings given to the system as they are. Offsets and
// sizes are bytes, never negative (INVALID_ARGUMENT).
//
// Errors of all functions, each naming the operation and the path:
//   NOT_FOUND            no such file or directory
//   ALREADY_EXISTS       exclusive creation of something that exists
//   PERMISSION_DENIED    access rights, read-only file system
//   RESOURCE_EXHAUSTED   no space, quota, file descriptors
//   FAILED_PRECONDITION  a directory where a file is needed or the reverse,
//                        not empty, lock held, descriptor not open for this
//   DATA_LOSS            input/output error of the device
//   INTERNAL             anything else the system reports
#ifndef CONSILIUM_BASE_FILE_H_
#define CONSILIUM_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium {

// Opens for reading unless told otherwise.
struct OpenOptions {
  bool read = true;
  bool write = false;
  bool create = false;     // make it when missing; needs write
  bool exclusive = false;  // with create: ALREADY_EXISTS when it is there
  bool truncate = false;   // needs write
  uint32_t mode = 0600;    // of a file made here, before the umask
};

// An open file. ReadAt and WriteAt may run on several threads at once on
// disjoint ranges; every other pair of calls needs outside ordering. There is
// no file position. Destroying an open file closes it and ignores errors.
class File {
 public:
  virtual ~File() = default;

  // Fills `out` from `offset`; fewer bytes only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(int64_t offset,
                                        std::span<std::byte> out) = 0;

  // All of `data`, growing the file as needed (a gap reads as zeros). After an
  // error any part of the range may have been written.
  virtual absl::Status WriteAt(int64_t offset,
                               std::span<const std::byte> data) = 0;

  // On OK all bytes written before, and the size, survive a loss of power. The
  // file's name does so only after FileSystem::SyncDir on its directory. After
  // one failure every later Sync fails too: the system may have dropped the
  // dirty pages, so a retry that succeeds would prove nothing.
  virtual absl::Status Sync() = 0;

  virtual absl::StatusOr<int64_t> Size() = 0;

  // Cuts, or extends with zeros.
  virtual absl::Status Truncate(int64_t size) = 0;

  // Reserves disk space for the first `size` bytes; the size itself does not
  // change. RESOURCE_EXHAUSTED when there is not that much. On a file system
  // that cannot reserve, only compares with the space free at this moment.
  virtual absl::Status Allocate(int64_t size) = 0;

  // A hint to start writing this range back now, so that a later Sync is
  // short. Promises nothing about durability.
  virtual absl::Status StartWriteback(int64_t offset, int64_t length) = 0;

  // Once; afterwards every call fails with FAILED_PRECONDITION.
  virtual absl::Status Close() = 0;

  virtual const std::string& path() const = 0;
};

// An advisory lock that its process holds until this is destroyed or the
// process ends. The file stays.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct FileInfo {
  int64_t size = 0;
  uint32_t mode = 0;  // permission bits only, such as 0600
  bool is_directory = false;
  absl::Time modified = absl::UnixEpoch();
};

// Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) = 0;

  // Atomic; replaces a file at `to`. Durable after SyncDir of to's directory.
  virtual absl::Status Rename(const std::string& from,
                              const std::string& to) = 0;

  // One file or one empty directory. Durable after SyncDir of its directory.
  virtual absl::Status Remove(const std::string& path) = 0;

  // Everything below and the directory itself; OK when there is none. Not
  // atomic. Symbolic links are removed, not followed.
  virtual absl::Status RemoveTree(const std::string& path) = 0;

  // On OK the names in `directory` (made, renamed, removed) survive a loss of
  // power.
  virtual absl::Status SyncDir(const std::string& directory) = 0;

  // With parents; OK when it is there. Every directory made here is durable on
  // return.
  virtual absl::Status MakeDirs(const std::string& directory,
                                uint32_t mode = 0700) = 0;

  // Names (not paths) of everything in `directory`, sorted bytewise, without
  // "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(
      const std::string& directory) = 0;

  // False also when the path cannot be reached. A dangling symbolic link does
  // not exist.
  virtual bool Exists(const std::string& path) = 0;

  virtual absl::StatusOr<FileInfo> Stat(const std::string& path) = 0;

  // Bytes that this user may still write on the file system holding `path`,
  // which must exist.
  virtual absl::StatusOr<int64_t> FreeSpace(const std::string& path) = 0;

  virtual absl::Status Truncate(const std::string& path, int64_t size) = 0;

  // Makes the file when missing, takes the lock without waiting and writes the
  // holder's process id into the file. FAILED_PRECONDITION naming that process
  // when it is held, by this process too.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> LockFile(
      const std::string& path) = 0;
};

// The machine's files. Lives for ever; the caller does not own it.
FileSystem* PosixFileSystem();

// errno as a status: "<operation> <path>: <system's text>".
absl::Status ErrnoStatus(int error, std::string_view operation,
                         std::string_view path);

// Exactly out.size() bytes. DATA_LOSS when the file ends before that.
absl::Status ReadExactlyAt(File* file, int64_t offset,
                           std::span<std::byte> out);

// RESOURCE_EXHAUSTED when the file is larger than `max_bytes`.
absl::StatusOr<std::string> ReadWholeFile(FileSystem* fs,
                                          const std::string& path,
                                          int64_t max_bytes);

// After OK `path` holds `bytes`, durably; after an error or a crash at any
// point it holds these bytes or what it held before. Goes through
// "<path>.tmp", which must have no other user: one writer per path at a time.
absl::Status WriteFileAtomic(FileSystem* fs, const std::string& path,
                             std::span<const std::byte> bytes,
                             uint32_t mode = 0600);

// Rename, then SyncDir of both directories (once when they are the same).
absl::Status RenameDurably(FileSystem* fs, const std::string& from,
                           const std::string& to);

// "a" and "b" give "a/b", one slash between them; an absolute `name` wins.
std::string JoinPath(std::string_view directory, std::string_view name);

// "/a/b" gives "/a" and "b"; "b" gives "." and "b"; "/" gives "/" and "".
std::string DirName(std::string_view path);
std::string BaseName(std::string_view path);

// A file's bytes mapped read-only, straight from the machine's file system.
// For clients; the coordinator reads with ReadAt so that its resident size
// tells the truth. Somebody who cuts the file while it is mapped makes reads
// of the lost pages fatal (SIGBUS): map only files nobody rewrites in place.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  // Valid while this object lives; page-aligned; empty for an empty file.
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_FILE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"

namespace consilium {
namespace {

using FileId = std::pair<uint64_t, uint64_t>;  // device, inode

FileId IdOf(const struct stat& info) {
  return {static_cast<uint64_t>(info.st_dev),
          static_cast<uint64_t>(info.st_ino)};
}

// How often each file is mapped. Lives for ever.
struct Mappings {
  Mutex mu;
  std::map<FileId, int> count ABSL_GUARDED_BY(mu);
};
Mappings& AllMappings() {
  static auto* const mappings = new Mappings;
  return *mappings;
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  struct stat info;
  MappedFile file;
  int error = 0;
  if (::fstat(fd, &info) != 0) {
    error = errno;
  } else if (S_ISDIR(info.st_mode)) {
    error = EISDIR;
  } else if (info.st_size > 0) {
    const auto size = static_cast<size_t>(info.st_size);
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) {
      error = errno;
    } else {
      file.data_ = static_cast<const std::byte*>(address);
      file.size_ = size;
      std::tie(file.device_, file.inode_) = IdOf(info);
      const MutexLock lock(&AllMappings().mu);
      ++AllMappings().count[IdOf(info)];
    }
  }
  ::close(fd);
  if (error != 0) return ErrnoStatus(error, "map", path);
  return file;
}

bool MappedFile::IsMapped(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return errno != ENOENT;
  const MutexLock lock(&AllMappings().mu);
  return AllMappings().count.contains(IdOf(info));
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  ::munmap(const_cast<std::byte*>(data_), size_);
  const MutexLock lock(&AllMappings().mu);
  const auto it = AllMappings().count.find({device_, inode_});
  if (--it->second == 0) AllMappings().count.erase(it);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      device_(other.device_),
      inode_(other.inode_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  return *this;
}

}  // namespace consilium

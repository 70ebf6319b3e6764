#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "consilium/base/file.h"

namespace consilium {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  struct stat info;
  const std::byte* data = nullptr;
  int error = 0;
  if (::fstat(fd, &info) != 0) {
    error = errno;
  } else if (S_ISDIR(info.st_mode)) {
    error = EISDIR;
  } else if (info.st_size > 0) {
    void* address = ::mmap(nullptr, static_cast<size_t>(info.st_size),
                           PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) {
      error = errno;
    } else {
      data = static_cast<const std::byte*>(address);
    }
  }
  ::close(fd);
  if (error != 0) return ErrnoStatus(error, "map", path);
  return MappedFile(data, static_cast<size_t>(info.st_size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace consilium

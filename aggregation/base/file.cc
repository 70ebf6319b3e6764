#include "consilium/base/file.h"
#include "consilium/base/sync_name.h"

#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

absl::Status ReadExactlyAt(File* file, int64_t offset,
                           std::span<std::byte> out) {
  CONSILIUM_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(offset, out));
  if (got == out.size()) return absl::OkStatus();
  return absl::DataLossError(Cat(file->path(), " is cut short: ", out.size(),
                                 " bytes wanted at offset ", offset, ", ", got,
                                 " are there"));
}

absl::StatusOr<std::string> ReadWholeFile(FileSystem* fs,
                                          const std::string& path,
                                          int64_t max_bytes) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             fs->Open(path, {}));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(Cat(path, " has ", size,
                                            " bytes, at most ", max_bytes,
                                            " are expected here"));
  }
  std::string text(static_cast<size_t>(size), '\0');
  CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
      file.get(), 0,
      std::as_writable_bytes(std::span(text.data(), text.size()))));
  return text;
}

namespace {

absl::Status WriteNewFile(FileSystem* fs, const std::string& path,
                          std::span<const std::byte> bytes, uint32_t mode) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      fs->Open(
          path,
          {.write = true, .create = true, .exclusive = true, .mode = mode}));
  CONSILIUM_RETURN_IF_ERROR(file->WriteAt(0, bytes));
  CONSILIUM_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

absl::Status WriteFileAtomic(FileSystem* fs, const std::string& path,
                             std::span<const std::byte> bytes, uint32_t mode) {
  const std::string temporary = path + ".tmp";
  // One left by a crash may have other permissions, so it is not reused.
  if (absl::Status status = fs->Remove(temporary);
      !status.ok() && !absl::IsNotFound(status)) {
    return status;
  }
  absl::Status status = WriteNewFile(fs, temporary, bytes, mode);
  if (status.ok()) status = fs->Rename(temporary, path);
  if (!status.ok()) {
    fs->Remove(temporary).IgnoreError();  // the first error is the one to tell
    return status;
  }
  return fs->SyncDir(DirName(path));
}

absl::Status RenameDurably(FileSystem* fs, const std::string& from,
                           const std::string& to) {
  CONSILIUM_RETURN_IF_ERROR(fs->Rename(from, to));
  const std::string to_directory = DirName(to);
  const std::string from_directory = DirName(from);
  CONSILIUM_RETURN_IF_ERROR(fs->SyncDir(to_directory));
  if (from_directory == to_directory) return absl::OkStatus();
  return fs->SyncDir(from_directory);
}

absl::Status SyncName(FileSystem* fs, const std::string& path) {
  const absl::Status status = fs->SyncDir(DirName(path));
  return absl::IsPermissionDenied(status) ? absl::OkStatus() : status;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  if (directory.empty() || name.starts_with('/')) return std::string(name);
  if (name.empty()) return std::string(directory);
  return Cat(directory, directory.ends_with('/') ? "" : "/", name);
}

namespace {

// Where the last component begins, after trailing slashes are cut.
std::pair<std::string_view, std::string_view> SplitPath(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {".", path};
  std::string_view directory = path.substr(0, slash);
  while (directory.ends_with('/')) directory.remove_suffix(1);
  return {directory.empty() ? "/" : directory, path.substr(slash + 1)};
}

}  // namespace

std::string DirName(std::string_view path) {
  return std::string(SplitPath(path).first);
}

std::string BaseName(std::string_view path) {
  return std::string(SplitPath(path).second);
}

}  // namespace consilium

#include "consilium/secure/key_file.h"

#include <memory>

#include "absl/strings/str_format.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

absl::StatusOr<FileInfo> StatKeyFile(FileSystem* fs, const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const FileInfo info, fs->Stat(path));
  if (info.is_directory) {
    return absl::FailedPreconditionError(
        Cat("key file ", path, " is a directory"));
  }
  if ((info.mode & 077) != 0) {
    return absl::PermissionDeniedError(
        absl::StrFormat("key file %s has mode %04o: others than its owner may "
                        "use it. Run: chmod 600 '%s'",
                        path, info.mode, path));
  }
  return info;
}

}  // namespace

absl::Status CheckKeyFileMode(FileSystem* fs, const std::string& path) {
  return StatKeyFile(fs, path).status();
}

absl::StatusOr<SecretBytes> ReadKeyFile(FileSystem* fs,
                                        const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const FileInfo info, StatKeyFile(fs, path));
  if (info.size > kMaxKeyFileBytes) {
    return absl::ResourceExhaustedError(Cat("key file ", path, " has ",
                                            info.size,
                                            " bytes; a key file has at "
                                            "most ",
                                            kMaxKeyFileBytes));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             fs->Open(path, OpenOptions{}));
  SecretBytes secret(static_cast<size_t>(info.size));
  CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
      file.get(), 0, secret.MutableBytes(SecretAccess("reads a key file"))));
  CONSILIUM_RETURN_IF_ERROR(file->Close());
  return secret;
}

absl::Status WriteKeyFile(FileSystem* fs, const std::string& path,
                          const SecretBytes& secret) {
  return WriteFileAtomic(fs, path,
                         secret.Bytes(SecretAccess("writes a key file")), 0600);
}

}  // namespace consilium

// Files that hold secrets.
#ifndef CONSILIUM_SECURE_KEY_FILE_H_
#define CONSILIUM_SECURE_KEY_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

inline constexpr int64_t kMaxKeyFileBytes = 64 * 1024;

// Reads a file that holds a secret.
// Errors:
//   NOT_FOUND            no such file
//   PERMISSION_DENIED    group or others may read or write it; the text gives
//                        the mode and the chmod that mends it
//   RESOURCE_EXHAUSTED   larger than kMaxKeyFileBytes
absl::StatusOr<SecretBytes> ReadKeyFile(FileSystem* fs,
                                        const std::string& path);

// The check alone, for files that somebody else reads.
absl::Status CheckKeyFileMode(FileSystem* fs, const std::string& path);

// Writes with mode 0600, durably and all or nothing.
absl::Status WriteKeyFile(FileSystem* fs, const std::string& path,
                          const SecretBytes& secret);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_KEY_FILE_H_

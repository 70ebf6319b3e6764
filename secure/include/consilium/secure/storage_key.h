// The coordinator's key for secrets at rest.
#ifndef CONSILIUM_SECURE_STORAGE_KEY_H_
#define CONSILIUM_SECURE_STORAGE_KEY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

// The coordinator's key for secrets at rest: it wraps each round's private
// key. Its file (64 hex digits, mode 0600) lies outside the data directory, so
// that a copy of the data alone opens nothing. Thread-safe after creation.
class StorageKey {
 public:
  static StorageKey Generate(RandomSource& random);
  // Errors: those of ReadKeyFile; INVALID_ARGUMENT  not 64 hex digits.
  static absl::StatusOr<StorageKey> LoadFile(FileSystem* fs,
                                             const std::string& path);
  absl::Status SaveFile(FileSystem* fs, const std::string& path) const;

  // version byte (1) | nonce (12 random bytes) | ciphertext | tag. `purpose`
  // is authenticated and not stored: the reader must know it, e.g. from
  // RoundKeyPurpose().
  absl::StatusOr<std::string> WrapSecret(std::span<const std::byte> purpose,
                                         const SecretBytes& secret,
                                         RandomSource& random) const;
  // Errors: DATA_LOSS  another storage key or purpose, or changed bytes.
  absl::StatusOr<SecretBytes> UnwrapSecret(
      std::span<const std::byte> purpose,
      std::span<const std::byte> wrapped) const;

 private:
  explicit StorageKey(SecretBytes secret) : secret_(std::move(secret)) {}
  SecretBytes secret_;
};

// Binds a wrapped round key to its round, so that files cannot be swapped.
std::string RoundKeyPurpose(std::string_view federation, uint64_t round,
                            uint32_t attempt);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_STORAGE_KEY_H_

#ifndef CONSILIUM_COORDINATOR_STORE_ROUND_KEYS_H_
#define CONSILIUM_COORDINATOR_STORE_ROUND_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"

namespace consilium {

// The X25519 key pair of one attempt; the private half is wrapped under the
// storage key, so this struct holds no secret.
struct RoundKeyRecord {
  int64_t round = 0;
  int64_t attempt = 0;
  std::array<std::byte, 32> public_key{};
  // StorageKey::WrapSecret for RoundKeyPurpose (secure/storage_key.h).
  std::string wrapped_private_key;

  friend bool operator==(const RoundKeyRecord&,
                         const RoundKeyRecord&) = default;
};

// Key files of rounds: round-keys/<round>-<attempt>.key, mode 0600
// (FORMAT.md section 5). Outside SQLite and outside backups, so that destroying
// a key needs one unlink and no copy stays. Thread safe.
class RoundKeyFiles {
 public:
  RoundKeyFiles(FileSystem* fs, std::string dir);

  absl::Status Prepare();

  // Durable on return: announce the public key only afterwards.
  // Errors: ALREADY_EXISTS (also when the same record is there).
  absl::Status Create(const RoundKeyRecord& key);

  // Errors: NOT_FOUND destroyed or never made; DATA_LOSS does not check;
  // PERMISSION_DENIED readable by group or others.
  absl::StatusOr<RoundKeyRecord> Load(int64_t round, int64_t attempt) const;

  bool Exists(int64_t round, int64_t attempt) const;

  // Overwrites, syncs, unlinks, syncs the folder. A missing file is no error.
  // What a disk keeps of overwritten blocks stays wrapped under the storage
  // key, which lives outside the data directory.
  absl::Status Destroy(int64_t round, int64_t attempt);

  // Removes what a crash inside Create left; returns how many files.
  absl::StatusOr<int64_t> RemoveTemps();

  // (round, attempt) of every key file, ascending.
  absl::StatusOr<std::vector<std::pair<int64_t, int64_t>>> List() const;

 private:
  std::string PathOf(int64_t round, int64_t attempt) const;
  absl::Status DestroyFile(const std::string& path);

  FileSystem* const fs_;
  const std::string dir_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_ROUND_KEYS_H_

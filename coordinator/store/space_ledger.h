#ifndef CONSILIUM_COORDINATOR_STORE_SPACE_LEDGER_H_
#define CONSILIUM_COORDINATOR_STORE_SPACE_LEDGER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"

namespace consilium {

class SpaceLedger;

// What space is promised for.
enum class SpaceUse { kUpload, kVersion };

// Bytes promised to one upload, fold or import; given back when it goes.
class SpaceReservation {
 public:
  SpaceReservation() = default;
  ~SpaceReservation() { Release(); }
  SpaceReservation(SpaceReservation&& other) noexcept;
  SpaceReservation& operator=(SpaceReservation&& other) noexcept;

  // These bytes are on disk by now and no longer need the promise.
  void Use(int64_t bytes);
  void Release();
  int64_t bytes() const { return bytes_; }  // still promised

 private:
  friend class SpaceLedger;
  SpaceReservation(SpaceLedger* ledger, int64_t bytes, SpaceUse use)
      : ledger_(ledger), bytes_(bytes), use_(use) {}
  SpaceLedger* ledger_ = nullptr;
  int64_t bytes_ = 0;
  SpaceUse use_ = SpaceUse::kUpload;
};

// Promises disk space at admission, so that an upload that was let in does not
// die of a full disk, nor a round for want of room for its version. Counts what
// is promised and not yet written; asks the file system for the rest. Thread
// safe; outlives its reservations.
class SpaceLedger {
 public:
  // `path` names the volume. min_free_bytes always stay free. `make_room`, when
  // given, is called before a reservation is refused.
  SpaceLedger(FileSystem* fs, std::string path, int64_t min_free_bytes,
              std::function<void()> make_room = nullptr);

  // Errors: RESOURCE_EXHAUSTED naming what is asked, what is free, what is
  // promised and min_free_bytes; INVALID_ARGUMENT for negative bytes.
  absl::StatusOr<SpaceReservation> Reserve(int64_t bytes, std::string_view what,
                                           SpaceUse use = SpaceUse::kUpload);

  // Makes it `bytes` that are still promised: gives back what is too much, asks
  // for what is missing. Errors: as Reserve, and the reservation stays.
  absl::Status Resize(SpaceReservation& reservation, int64_t bytes,
                      std::string_view what);

  int64_t reserved_bytes() const;  // of both uses
  int64_t reserved_for_uploads() const;
  int64_t min_free_bytes() const;
  void SetMinFreeBytes(int64_t bytes);

 private:
  friend class SpaceReservation;
  void GiveBack(int64_t bytes, SpaceUse use);
  // Bytes free on the volume, and what of them may still be promised.
  struct Room {
    int64_t free = 0;
    int64_t open = 0;
  };
  absl::StatusOr<Room> FindRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  FileSystem* const fs_;
  const std::string path_;
  const std::function<void()> make_room_;
  mutable Mutex mu_;
  int64_t min_free_ ABSL_GUARDED_BY(mu_);
  int64_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t for_uploads_ ABSL_GUARDED_BY(mu_) = 0;  // of reserved_
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SPACE_LEDGER_H_

#include "coordinator/store/space_ledger.h"

#include <algorithm>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

SpaceReservation::SpaceReservation(SpaceReservation&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      use_(other.use_) {}

SpaceReservation& SpaceReservation::operator=(
    SpaceReservation&& other) noexcept {
  if (this != &other) {
    Release();
    ledger_ = std::exchange(other.ledger_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    use_ = other.use_;
  }
  return *this;
}

void SpaceReservation::Use(int64_t bytes) {
  if (ledger_ == nullptr) return;
  const int64_t used = std::clamp<int64_t>(bytes, 0, bytes_);
  bytes_ -= used;
  ledger_->GiveBack(used, use_);
}

void SpaceReservation::Release() {
  if (ledger_ == nullptr) return;
  ledger_->GiveBack(std::exchange(bytes_, 0), use_);
  ledger_ = nullptr;
}

SpaceLedger::SpaceLedger(FileSystem* fs, std::string path,
                         int64_t min_free_bytes,
                         std::function<void()> make_room)
    : fs_(fs),
      path_(std::move(path)),
      make_room_(std::move(make_room)),
      min_free_(min_free_bytes) {}

absl::StatusOr<SpaceLedger::Room> SpaceLedger::FindRoom() {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t free, fs_->FreeSpace(path_));
  // Each term is at most 2^63 - 1 and free is real, so only sums can overflow.
  const int64_t kept = min_free_ > free ? free : min_free_;
  return Room{free, free - kept - std::min(free - kept, reserved_)};
}

absl::StatusOr<SpaceReservation> SpaceLedger::Reserve(int64_t bytes,
                                                      std::string_view what,
                                                      SpaceUse use) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        Cat(what, ": cannot reserve ", bytes, " bytes"));
  }
  MutexLock lock(&mu_);
  CONSILIUM_ASSIGN_OR_RETURN(Room room, FindRoom());
  if (bytes > room.open && make_room_ != nullptr) {
    make_room_();
    CONSILIUM_ASSIGN_OR_RETURN(room, FindRoom());
  }
  if (bytes > room.open) {
    const auto text = [](int64_t n) {
      return FormatBytes(static_cast<uint64_t>(n));
    };
    return absl::ResourceExhaustedError(Cat(
        what, " needs ", text(bytes), ", but ", path_, " has ", text(room.open),
        " to give: ", text(room.free), " free, ", text(reserved_),
        " promised to uploads and rounds, min_free_bytes ", text(min_free_),
        "; free disk space, shorten spool_retention or lower "
        "min_free_bytes"));
  }
  reserved_ += bytes;
  if (use == SpaceUse::kUpload) for_uploads_ += bytes;
  return SpaceReservation(this, bytes, use);
}

absl::Status SpaceLedger::Resize(SpaceReservation& reservation, int64_t bytes,
                                 std::string_view what) {
  if (bytes <= reservation.bytes() && reservation.ledger_ == this) {
    reservation.Use(reservation.bytes() - bytes);
    return absl::OkStatus();
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      SpaceReservation more,
      Reserve(bytes - reservation.bytes(), what, reservation.use_));
  more.bytes_ += std::exchange(reservation.bytes_, 0);
  reservation = std::move(more);
  return absl::OkStatus();
}

void SpaceLedger::GiveBack(int64_t bytes, SpaceUse use) {
  MutexLock lock(&mu_);
  reserved_ -= bytes;
  if (use == SpaceUse::kUpload) for_uploads_ -= bytes;
}

int64_t SpaceLedger::reserved_for_uploads() const {
  MutexLock lock(&mu_);
  return for_uploads_;
}

int64_t SpaceLedger::reserved_bytes() const {
  MutexLock lock(&mu_);
  return reserved_;
}

int64_t SpaceLedger::min_free_bytes() const {
  MutexLock lock(&mu_);
  return min_free_;
}

void SpaceLedger::SetMinFreeBytes(int64_t bytes) {
  MutexLock lock(&mu_);
  min_free_ = bytes;
}

}  // namespace consilium

#include "coordinator/store/file_system_vfs_locks.h"

#include <sqlite3.h>

#include <atomic>

namespace consilium {

int VfsNode::Lock(VfsHolder& holder, int level) {
  MutexLock lock(&mu_);
  if (holder.lock >= level) return SQLITE_OK;
  const auto by_other = [&holder](const VfsHolder* who) {
    return who != nullptr && who != &holder;
  };
  if (level == SQLITE_LOCK_SHARED) {
    if (by_other(pending_) || by_other(exclusive_)) return SQLITE_BUSY;
    ++shared_;
    holder.lock = SQLITE_LOCK_SHARED;
    return SQLITE_OK;
  }
  if (by_other(reserved_) || by_other(pending_)) return SQLITE_BUSY;
  if (level == SQLITE_LOCK_RESERVED) {
    reserved_ = &holder;
    holder.lock = SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
  }
  // EXCLUSIVE: pending keeps new readers out while the last ones finish.
  pending_ = &holder;
  if (shared_ > 1) {
    holder.lock = SQLITE_LOCK_PENDING;
    return SQLITE_BUSY;
  }
  exclusive_ = &holder;
  holder.lock = SQLITE_LOCK_EXCLUSIVE;
  return SQLITE_OK;
}

int VfsNode::Unlock(VfsHolder& holder, int level) {
  MutexLock lock(&mu_);
  if (holder.lock <= level) return SQLITE_OK;
  if (reserved_ == &holder) reserved_ = nullptr;
  if (pending_ == &holder) pending_ = nullptr;
  if (exclusive_ == &holder) exclusive_ = nullptr;
  if (level == SQLITE_LOCK_NONE) --shared_;
  holder.lock = level;
  return SQLITE_OK;
}

bool VfsNode::Reserved() {
  MutexLock lock(&mu_);
  return reserved_ != nullptr || pending_ != nullptr || exclusive_ != nullptr;
}

int VfsNode::Map(VfsHolder& holder, int region, int bytes, bool extend,
                 volatile void** out) {
  MutexLock lock(&mu_);
  if (!holder.mapped) {
    holder.mapped = true;
    ++mapped_;
  }
  const auto wanted = static_cast<size_t>(region);
  while (extend && regions_.size() <= wanted) {
    // Value-initialised: a new WAL index reads as zeros.
    regions_.push_back(
        std::make_unique<std::byte[]>(static_cast<size_t>(bytes)));
  }
  *out = wanted < regions_.size() ? regions_[wanted].get() : nullptr;
  return SQLITE_OK;
}

int VfsNode::LockSlots(VfsHolder& holder, int first, int count, int flags) {
  MutexLock lock(&mu_);
  const unsigned mask = ((1u << count) - 1) << first;
  if ((flags & SQLITE_SHM_UNLOCK) != 0) {
    for (int i = first; i < first + count; ++i) {
      const unsigned bit = 1u << i;
      const auto slot = static_cast<size_t>(i);
      if ((holder.exclusive_slots & bit) != 0) slot_exclusive_[slot] = false;
      if ((holder.shared_slots & bit) != 0) --slot_shared_[slot];
    }
    holder.exclusive_slots &= ~mask;
    holder.shared_slots &= ~mask;
    return SQLITE_OK;
  }
  const bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  for (int i = first; i < first + count; ++i) {
    const unsigned bit = 1u << i;
    const auto slot = static_cast<size_t>(i);
    const bool mine = (holder.exclusive_slots & bit) != 0;
    const int own_shares = (holder.shared_slots & bit) != 0 ? 1 : 0;
    if (slot_exclusive_[slot] && !mine) return SQLITE_BUSY;
    if (exclusive && slot_shared_[slot] > own_shares) return SQLITE_BUSY;
  }
  for (int i = first; i < first + count; ++i) {
    const unsigned bit = 1u << i;
    const auto slot = static_cast<size_t>(i);
    if (exclusive) {
      slot_exclusive_[slot] = true;
      holder.exclusive_slots |= bit;
    } else if ((holder.shared_slots & bit) == 0) {
      ++slot_shared_[slot];
      holder.shared_slots |= bit;
    }
  }
  return SQLITE_OK;
}

void VfsNode::Unmap(VfsHolder& holder) {
  if (!holder.mapped) return;
  (void)LockSlots(holder, 0, kShmSlots, SQLITE_SHM_UNLOCK);
  MutexLock lock(&mu_);
  holder.mapped = false;
  // The index can always be rebuilt from the log, and must be after a crash.
  if (--mapped_ == 0) regions_.clear();
}

void VfsNode::Barrier() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  MutexLock lock(&mu_);  // as SQLite's own VFS does: a lock is a full barrier
}

std::shared_ptr<VfsNode> VfsNodes::Get(const std::string& path) {
  MutexLock lock(&mu_);
  std::weak_ptr<VfsNode>& entry = nodes_[path];
  std::shared_ptr<VfsNode> node = entry.lock();
  if (node == nullptr) {
    node = std::make_shared<VfsNode>();
    entry = node;
  }
  return node;
}

}  // namespace consilium

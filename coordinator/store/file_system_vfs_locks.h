#ifndef CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_LOCKS_H_
#define CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_LOCKS_H_

// Locks and shared memory of one database file, among the connections of one
// process. Private to the store. Return values are SQLite result codes.

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"

namespace consilium {

inline constexpr int kShmSlots = 8;  // SQLITE_SHM_NLOCK

// What one connection holds.
struct VfsHolder {
  int lock = 0;  // SQLITE_LOCK_NONE .. SQLITE_LOCK_EXCLUSIVE
  bool mapped = false;
  unsigned shared_slots = 0;     // bit per slot
  unsigned exclusive_slots = 0;  // bit per slot
};

class VfsNode {
 public:
  // sqlite3_io_methods::xLock and friends; the levels are SQLite's.
  int Lock(VfsHolder& holder, int level);
  int Unlock(VfsHolder& holder, int level);
  bool Reserved();

  // xShmMap, xShmLock, xShmUnmap, xShmBarrier.
  int Map(VfsHolder& holder, int region, int bytes, bool extend,
          volatile void** out);
  int LockSlots(VfsHolder& holder, int first, int count, int flags);
  void Unmap(VfsHolder& holder);
  void Barrier();

 private:
  Mutex mu_;
  int shared_ ABSL_GUARDED_BY(mu_) = 0;  // holders at SHARED or above
  const VfsHolder* reserved_ ABSL_GUARDED_BY(mu_) = nullptr;
  const VfsHolder* pending_ ABSL_GUARDED_BY(mu_) = nullptr;
  const VfsHolder* exclusive_ ABSL_GUARDED_BY(mu_) = nullptr;

  int mapped_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::unique_ptr<std::byte[]>> regions_ ABSL_GUARDED_BY(mu_);
  std::array<int, kShmSlots> slot_shared_ ABSL_GUARDED_BY(mu_) = {};
  std::array<bool, kShmSlots> slot_exclusive_ ABSL_GUARDED_BY(mu_) = {};
};

// Nodes by path; a node lives as long as somebody has its file open.
class VfsNodes {
 public:
  std::shared_ptr<VfsNode> Get(const std::string& path);

 private:
  Mutex mu_;
  std::map<std::string, std::weak_ptr<VfsNode>> nodes_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_FILE_SYSTEM_VFS_LOCKS_H_

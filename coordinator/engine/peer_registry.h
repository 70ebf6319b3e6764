// Who may talk to the coordinator, checked on every message.

#ifndef CONSILIUM_COORDINATOR_ENGINE_PEER_REGISTRY_H_
#define CONSILIUM_COORDINATOR_ENGINE_PEER_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/identity.h"
#include "coordinator/store/history_store.h"
#include "coordinator/store/records.h"

namespace consilium {

// An institution, operator or auditor as the running coordinator knows it.
// Shared by every call of it that is under way; `revoked` turns true while they
// run.
struct PeerState {
  int64_t institution_id = 0;
  std::string name;
  // May change until it enrols.
  std::atomic<PeerRole> role{PeerRole::kInstitution};
  std::atomic<bool> revoked{false};
  std::atomic<bool> suspended{false};
  std::atomic<int64_t> streams{0};         // uploads and downloads under way
  std::atomic<int64_t> waits{0};           // long polls under way
  std::atomic<int64_t> calls{0};           // other unary calls under way
  std::atomic<int64_t> last_seen_ns{0};    // monotonic; 0: not in this process
  std::atomic<int64_t> stored_seen_ns{0};  // what of it the store knows

  // What it says it runs, as of its last greeting; empty: none yet.
  std::string software() const {
    MutexLock lock(&mu_);
    return software_;
  }
  // Returns whether it is another one than before.
  bool SetSoftware(std::string software) {
    MutexLock lock(&mu_);
    return std::exchange(software_, software) != software;
  }

 private:
  mutable Mutex mu_;
  std::string software_ ABSL_GUARDED_BY(mu_);
};

// An admitted caller. Hold it for the length of the call.
struct Caller {
  std::shared_ptr<PeerState> peer;
  std::string serial;  // of its certificate

  const std::string& name() const { return peer->name; }
  int64_t id() const { return peer->institution_id; }
  // OK, or the status with which the call must end. For every message of a
  // stream, not only for the first.
  absl::Status Alive() const;
};

// A mirror of the institution and certificate tables in memory, so that
// admission costs no database access. The engine changes both together.
// Thread-safe.
class PeerRegistry {
 public:
  explicit PeerRegistry(std::string federation)
      : federation_(std::move(federation)) {}

  absl::Status Load(HistoryStore& history, absl::Time now);

  // Errors: PERMISSION_DENIED for another federation or role;
  // UNAUTHENTICATED for an unknown or revoked institution or certificate.
  // Each says what to do.
  absl::StatusOr<Caller> Admit(const PeerName& peer,
                               std::string_view serial) const;
  // The same for operators and auditors, for every message; one that the store
  // does not know yet is taken at its certificate's word.
  absl::Status AdmitStaff(const PeerName& peer, std::string_view serial) const;

  void Put(const InstitutionRow& row);
  void RevokeSerial(std::string_view serial);
  // Null when there is none of that name.
  std::shared_ptr<PeerState> Find(std::string_view name) const;
  std::vector<std::shared_ptr<PeerState>> All() const;

  const std::string& federation() const { return federation_; }

 private:
  absl::Status CheckFederation(const PeerName& peer) const;
  absl::Status CheckSerial(const PeerName& peer, std::string_view serial) const;

  const std::string federation_;
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<PeerState>, std::less<>> peers_
      ABSL_GUARDED_BY(mu_);
  std::set<std::string, std::less<>> revoked_serials_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_PEER_REGISTRY_H_

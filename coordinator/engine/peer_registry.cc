#include "coordinator/engine/peer_registry.h"

#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

absl::Status RevokedError(std::string_view name) {
  return absl::UnauthenticatedError(
      Cat("institution ", Quoted(name),
          " is revoked, which is final; to come back, ask the operator for an "
          "invitation under another name"));
}

}  // namespace

absl::Status Caller::Alive() const {
  if (peer->revoked.load(std::memory_order_relaxed)) {
    return RevokedError(peer->name);
  }
  return absl::OkStatus();
}

absl::Status PeerRegistry::Load(HistoryStore& history, absl::Time now) {
  std::vector<InstitutionRow> rows;
  std::vector<std::string> serials;
  CONSILIUM_RETURN_IF_ERROR(history.Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(rows, ListInstitutions(tx));
    CONSILIUM_ASSIGN_OR_RETURN(serials, ListRevokedSerials(tx, now));
    return absl::OkStatus();
  }));
  for (const InstitutionRow& row : rows) Put(row);
  MutexLock lock(&mu_);
  revoked_serials_.insert(serials.begin(), serials.end());
  return absl::OkStatus();
}

absl::Status PeerRegistry::CheckFederation(const PeerName& peer) const {
  if (peer.federation == federation_) return absl::OkStatus();
  return absl::PermissionDeniedError(
      Cat("certificate is for federation ", Quoted(peer.federation),
          ", this coordinator serves ", Quoted(federation_)));
}

absl::Status PeerRegistry::CheckSerial(const PeerName& peer,
                                       std::string_view serial) const {
  MutexLock lock(&mu_);
  if (!revoked_serials_.contains(serial)) return absl::OkStatus();
  return absl::UnauthenticatedError(
      Cat("certificate ", serial, " of ", peer.name,
          " is revoked; ask the operator for an invitation"));
}

absl::Status PeerRegistry::AdmitStaff(const PeerName& peer,
                                      std::string_view serial) const {
  CONSILIUM_RETURN_IF_ERROR(CheckFederation(peer));
  CONSILIUM_RETURN_IF_ERROR(CheckSerial(peer, serial));
  const std::shared_ptr<PeerState> found = Find(peer.name);
  if (found == nullptr || found->role.load() != peer.role ||
      !found->revoked.load()) {
    return absl::OkStatus();
  }
  return absl::UnauthenticatedError(
      Cat(peer.Uri(),
          " is revoked, which is final; to come back, ask an "
          "operator for an invitation under another name"));
}

absl::StatusOr<Caller> PeerRegistry::Admit(const PeerName& peer,
                                           std::string_view serial) const {
  CONSILIUM_RETURN_IF_ERROR(CheckFederation(peer));
  if (peer.role != PeerRole::kInstitution) {
    return absl::PermissionDeniedError(
        Cat(peer.Uri(),
            " has not the role \"institution\" that this call "
            "needs; use the certificate of an institution"));
  }
  std::shared_ptr<PeerState> found = Find(peer.name);
  if (found == nullptr) {
    return absl::UnauthenticatedError(
        Cat("institution ", Quoted(peer.name),
            " is not known; ask the operator for an invitation"));
  }
  if (found->revoked.load()) return RevokedError(peer.name);
  CONSILIUM_RETURN_IF_ERROR(CheckSerial(peer, serial));
  return Caller{std::move(found), std::string(serial)};
}

void PeerRegistry::Put(const InstitutionRow& row) {
  MutexLock lock(&mu_);
  std::shared_ptr<PeerState>& peer = peers_[row.name];
  if (peer == nullptr) {
    peer = std::make_shared<PeerState>();
    peer->institution_id = row.id;
    peer->name = row.name;
  }
  const auto role = ParsePeerRole(row.role);
  if (role.ok()) peer->role.store(*role);
  peer->revoked.store(row.state == InstitutionState::kRevoked);
  peer->suspended.store(row.state == InstitutionState::kSuspended);
}

void PeerRegistry::RevokeSerial(std::string_view serial) {
  MutexLock lock(&mu_);
  revoked_serials_.insert(std::string(serial));
}

std::shared_ptr<PeerState> PeerRegistry::Find(std::string_view name) const {
  MutexLock lock(&mu_);
  const auto it = peers_.find(name);
  return it == peers_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<PeerState>> PeerRegistry::All() const {
  std::vector<std::shared_ptr<PeerState>> all;
  MutexLock lock(&mu_);
  all.reserve(peers_.size());
  for (const auto& [name, peer] : peers_) all.push_back(peer);
  return all;
}

}  // namespace consilium

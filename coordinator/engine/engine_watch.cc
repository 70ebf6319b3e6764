// What others see of the engine: watchers and gauges.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/round_json.h"
#include "coordinator/store/tables.h"

namespace consilium {

UploadHub::Options Engine::HubOptions() const {
  return {.max_uploads = options_.max_uploads,
          .max_spool_bytes = options_.max_spool_bytes,
          .idle_timeout = options_.upload_idle_timeout,
          .slot_timeout = options_.upload_slot_timeout,
          .max_resumes = options_.max_resumes,
          .max_superseded = options_.max_superseded_uploads};
}

void Engine::SetLimits(const EngineOptions& fresh) {
  options_.max_update_bytes = fresh.max_update_bytes;
  options_.max_spool_bytes = fresh.max_spool_bytes;
  options_.max_uploads = fresh.max_uploads;
  options_.upload_idle_timeout = fresh.upload_idle_timeout;
  options_.upload_slot_timeout = fresh.upload_slot_timeout;
  options_.max_resumes = fresh.max_resumes;
  options_.max_superseded_uploads = fresh.max_superseded_uploads;
  options_.frame_memory = fresh.frame_memory;
  options_.long_poll = fresh.long_poll;
  options_.progress_period = fresh.progress_period;
  options_.connected_for = fresh.connected_for;
  options_.token_lifetime = fresh.token_lifetime;
  options_.failure_pause = fresh.failure_pause;
  hub_.SetOptions(HubOptions());
}

absl::Duration Engine::Overdue() {
  return std::max(deps_.clock->Monotonic() - next_turn_.get(),
                  absl::ZeroDuration());
}

uint64_t Engine::Subscribe(std::function<void(int64_t)> callback) {
  MutexLock lock(&watch_mu_);
  const uint64_t id = next_watch_++;
  watchers_[id] = std::move(callback);
  return id;
}

void Engine::Unsubscribe(uint64_t id) {
  MutexLock lock(&watch_mu_);
  watchers_.erase(id);
}

void Engine::TellWatchers(int64_t round) {
  std::vector<std::function<void(int64_t)>> callbacks;
  {
    MutexLock lock(&watch_mu_);
    for (const auto& [id, callback] : watchers_) callbacks.push_back(callback);
  }
  for (const auto& callback : callbacks) callback(round);
}

void Engine::AfterChange(int64_t round) {
  WakeBoard();
  Kick();
  TellWatchers(round);
}

bool Engine::UploadsMoved(absl::Duration now) {
  if (now < next_progress_) return false;
  next_progress_ = now + options_.progress_period;
  const int64_t bytes = hub_.ReceivedBytes();
  return std::exchange(seen_upload_bytes_, bytes) != bytes && bytes > 0;
}

void Engine::UpdateGauges() {
  int64_t connected = 0;
  for (const auto& peer : peers_.All()) {
    if (peer->role.load() != PeerRole::kInstitution) continue;
    connected += Connected(*peer) ? 1 : 0;
  }
  deps_.listener->OnConnectedInstitutions(connected);
  deps_.listener->OnSpoolBytes(hub_.SpoolBytes() +
                               deps_.store->space().reserved_for_uploads());
}

void Engine::StoreSeen() {
  struct Seen {
    std::shared_ptr<PeerState> peer;
    int64_t ns = 0;
    absl::Time at;
  };
  std::vector<Seen> all;
  const absl::Time now = deps_.clock->Now();
  const absl::Duration mono = deps_.clock->Monotonic();
  for (std::shared_ptr<PeerState>& peer : peers_.All()) {
    const int64_t ns = peer->last_seen_ns.load();
    if (ns == peer->stored_seen_ns.load()) continue;
    const absl::Time at = now - (mono - absl::Nanoseconds(ns));
    all.push_back({std::move(peer), ns, at});
  }
  if (all.empty()) return;
  const absl::Status written =
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        for (const Seen& seen : all) {
          CONSILIUM_RETURN_IF_ERROR(
              TouchInstitution(tx, seen.peer->institution_id, seen.at));
        }
        return absl::OkStatus();
      });
  if (!written.ok()) {
    Log("warn", 0, "", Cat("last seen: ", StdView(written.message())));
    return;
  }
  for (const Seen& seen : all) seen.peer->stored_seen_ns.store(seen.ns);
}

// What metrics say before anything changes.
absl::Status Engine::ShowStored() {
  std::map<std::string, absl::Time> expiries;
  std::optional<RoundRow> newest;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(newest, FindLatestRound(tx));
        CONSILIUM_ASSIGN_OR_RETURN(const auto institutions,
                                   ListInstitutions(tx));
        for (const InstitutionRow& row : institutions) {
          CONSILIUM_ASSIGN_OR_RETURN(const auto certificates,
                                     ListCertificates(tx, row.id));
          for (const CertificateRow& c : certificates) {
            if (c.revoked_at.has_value()) continue;
            absl::Time& until =
                expiries.try_emplace(row.name, c.not_after).first->second;
            until = std::max(until, c.not_after);
          }
        }
        return absl::OkStatus();
      }));
  for (const auto& [name, until] : expiries) {
    deps_.listener->OnCertificateExpiry(CertificateKind::kMember, name, until);
  }
  if (!newest.has_value()) return absl::OkStatus();
  CONSILIUM_ASSIGN_OR_RETURN(const RoundState state,
                             RoundStateFromJson(newest->state_json));
  deps_.listener->OnRound(newest->id, state.phase, CountMembers(state));
  MutexLock lock(&mu_);
  newest_round_ = newest->id;
  return absl::OkStatus();
}

}  // namespace consilium

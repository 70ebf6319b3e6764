// What the coordinator tells whoever measures it. The engine and the RPC layer
// call these as things happen; NullListener ignores them, PrometheusMetrics
// publishes them.
//
// Thread safety: every method may be called from any thread at any time. They
// must not block, fail or call back. Durations are wall time, sizes are bytes.

#ifndef CONSILIUM_COORDINATOR_METRICS_LISTENER_H_
#define CONSILIUM_COORDINATOR_METRICS_LISTENER_H_

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "coordinator/round/round_types.h"

namespace consilium {

enum class TrafficKind { kUpload, kDownload };
// Of the coordinator itself, or of a member, who may have any name.
enum class CertificateKind { kOwn, kMember };

class CoordinatorListener {
 public:
  virtual ~CoordinatorListener() = default;

  // After each stored transition of the newest round.
  virtual void OnRound(int64_t round, RoundPhase phase,
                       const RoundCounts& counts) = 0;
  // Once per round, when it becomes final; `took` since it opened.
  virtual void OnRoundFinished(RoundPhase phase, absl::Duration took) = 0;
  virtual void OnFold(absl::Duration took, int64_t bytes_read,
                      int64_t held_groups) = 0;
  // Digest, write and sync of a new version.
  virtual void OnPublish(absl::Duration took, int64_t bytes) = 0;
  virtual void OnQuarantine() = 0;

  // Payload bytes that went over the wire: upload is in, download is out.
  virtual void OnTraffic(TrafficKind kind, int64_t bytes) = 0;
  // Spool bytes on disk now, reservations included.
  virtual void OnSpoolBytes(int64_t bytes) = 0;
  // One sync of the spool that acknowledged `bytes`.
  virtual void OnSpoolSync(absl::Duration took, int64_t bytes) = 0;

  virtual void OnConnectedInstitutions(int64_t count) = 0;
  virtual void OnUploadsInProgress(int64_t count) = 0;
  // `method` is a constant of the service; `code` the absl status name.
  virtual void OnRpc(std::string_view method, std::string_view code,
                     absl::Duration took) = 0;
  // `subject`: "server", "issuing-ca", "root-ca", or a member's name;
  // InfinitePast(): it has no certificate any more.
  virtual void OnCertificateExpiry(CertificateKind kind,
                                   std::string_view subject,
                                   absl::Time not_after) = 0;
  virtual void OnAlert() = 0;
};

class NullListener final : public CoordinatorListener {
 public:
  void OnRound(int64_t, RoundPhase, const RoundCounts&) override {}
  void OnRoundFinished(RoundPhase, absl::Duration) override {}
  void OnFold(absl::Duration, int64_t, int64_t) override {}
  void OnPublish(absl::Duration, int64_t) override {}
  void OnQuarantine() override {}
  void OnTraffic(TrafficKind, int64_t) override {}
  void OnSpoolBytes(int64_t) override {}
  void OnSpoolSync(absl::Duration, int64_t) override {}
  void OnConnectedInstitutions(int64_t) override {}
  void OnUploadsInProgress(int64_t) override {}
  void OnRpc(std::string_view, std::string_view, absl::Duration) override {}
  void OnCertificateExpiry(CertificateKind, std::string_view,
                           absl::Time) override {}
  void OnAlert() override {}
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_LISTENER_H_

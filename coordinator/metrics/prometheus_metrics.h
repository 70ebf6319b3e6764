// The coordinator's metrics for Prometheus.

#ifndef CONSILIUM_COORDINATOR_METRICS_PROMETHEUS_METRICS_H_
#define CONSILIUM_COORDINATOR_METRICS_PROMETHEUS_METRICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "coordinator/metrics/listener.h"

namespace consilium {

// Thread-safe; an On... call takes a short lock at most. Names end in their
// unit: _seconds, _bytes, _total. README of this folder lists them.
class PrometheusMetrics final : public CoordinatorListener {
 public:
  // `version` and `federation` become labels of consilium_build_info.
  PrometheusMetrics(std::string_view federation, std::string_view version,
                    absl::Time started_at);
  ~PrometheusMetrics() override;

  // Contributions of the newest round by state; a state that is not named has
  // none.
  void SetContributions(const std::map<std::string, int64_t>& by_state);
  // Connections to the enrolment port that were closed so far, by reason.
  void SetRefusedConnections(const std::map<std::string, int64_t>& by_reason);

  // The text exposition format, version 0.0.4.
  std::string Render();

  void OnRound(int64_t round, RoundPhase phase,
               const RoundCounts& counts) override;
  void OnRoundFinished(RoundPhase phase, absl::Duration took) override;
  void OnFold(absl::Duration took, int64_t bytes_read,
              int64_t held_groups) override;
  void OnPublish(absl::Duration took, int64_t bytes) override;
  void OnQuarantine() override;
  void OnTraffic(TrafficKind kind, int64_t bytes) override;
  void OnSpoolBytes(int64_t bytes) override;
  void OnSpoolSync(absl::Duration took, int64_t bytes) override;
  void OnConnectedInstitutions(int64_t count) override;
  void OnUploadsInProgress(int64_t count) override;
  void OnRpc(std::string_view method, std::string_view code,
             absl::Duration took) override;
  void OnCertificateExpiry(CertificateKind kind, std::string_view subject,
                           absl::Time not_after) override;
  void OnAlert() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_PROMETHEUS_METRICS_H_

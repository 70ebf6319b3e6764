// Plain HTTP for machines that watch the coordinator:
//   /metrics   Prometheus text
//   /healthz   200 as long as the process answers
//   /readyz    200 when it can serve institutions, else 503 and why; in both
//              cases a line "warning: ..." for each thing to be seen to
// Nothing is authenticated and nothing can be changed; requests with a body,
// other methods and other paths are refused.

#ifndef CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_
#define CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

// Called on the server's threads, several at once.
struct MetricsHandlers {
  std::function<std::string()> metrics;
  std::function<absl::Status()> ready;
  std::function<std::vector<std::string>()> warnings;  // null: none
};

// Serves from Start() to destruction, which ends open requests.
class MetricsServer {
 public:
  // `address` is host:port; port 0 takes a free one.
  // Errors: INVALID_ARGUMENT  not host:port
  //         UNAVAILABLE       the address cannot be bound; names it
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, MetricsHandlers handlers);
  virtual ~MetricsServer() = default;

  virtual int port() const = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_

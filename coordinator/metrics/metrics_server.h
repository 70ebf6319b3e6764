// Plain HTTP for machines that watch the coordinator:
//   /metrics   Prometheus text
//   /healthz   200 as long as the process answers
//   /readyz    200 when it can serve institutions, else 503 and why; in both
//              cases a line "warning: ..." for each thing to be seen to
// Nothing is authenticated and nothing can be changed; requests with a body,
// other methods and other paths are refused. One request for each connection,
// which is closed after the answer.

#ifndef CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_
#define CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"

namespace consilium {

// Called on the server's threads, several at once.
struct MetricsHandlers {
  std::function<std::string()> metrics;
  std::function<absl::Status()> ready;
  std::function<std::vector<std::string>()> warnings;  // null: none
};

// Anybody may reach the port. It holds at most
//   max_connections x (max_request_bytes + one answer).
struct MetricsServerOptions {
  std::string address;  // host:port; port 0 takes a free one
  // One more ends the one that is open for the longest without an answer
  // being made for it: who sends nothing keeps nobody out.
  int64_t max_connections = 32;         // limits.max_metrics_connections
  int64_t max_request_bytes = 8 << 10;  // limits.max_metrics_request_bytes
  // From accept to the end, whatever happens; limits.metrics_timeout.
  absl::Duration timeout = absl::Seconds(10);
  Clock* clock = SystemClock();  // outlives the server
};

// Serves from Start() to destruction, which closes every connection; it waits
// only for handlers that run.
class MetricsServer {
 public:
  // Errors: INVALID_ARGUMENT  not host:port
  //         UNAVAILABLE       the address cannot be bound; names it
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      MetricsServerOptions options, MetricsHandlers handlers);
  virtual ~MetricsServer() = default;

  virtual int port() const = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_METRICS_SERVER_H_

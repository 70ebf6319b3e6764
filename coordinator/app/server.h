// The coordinator as one object: store, engine, listeners, metrics.

#ifndef CONSILIUM_COORDINATOR_APP_SERVER_H_
#define CONSILIUM_COORDINATOR_APP_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/engine/engine.h"

namespace consilium {

// Life: Start -> serve from its own threads -> Stop. ConfigureTls13Only() must
// have run in the process. Not thread-safe, but for Reload and the accessors.
class CoordinatorServer {
 public:
  // Takes the store's lock, recovers, listens. A port of 0 in a listen address
  // picks a free one. `fs` and `clock` outlive the server. Errors: those of
  // configuration, keys, store; UNAVAILABLE when an address cannot be listened
  // on (names it).
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(
      const CoordinatorConfig& config, Logger* logger,
      FileSystem* fs = PosixFileSystem(), Clock* clock = SystemClock());
  // Ends calls, stops folding, leaves rounds open. Idempotent.
  virtual void Stop() = 0;
  virtual ~CoordinatorServer() = default;

  // Certificates from disk, log file anew; each also when the other fails.
  // The first error is returned, and both are logged.
  virtual absl::Status Reload() = 0;
  // The same, and what may change while it runs of a configuration file read
  // anew (IsLiveKey). The log names the keys taken and those that wait for a
  // restart. An error in place of the file leaves everything as it was and is
  // logged and returned.
  virtual absl::Status Reload(
      const absl::StatusOr<CoordinatorConfig>& fresh) = 0;

  virtual Engine& engine() = 0;
  virtual int port() const = 0;
  virtual int enrollment_port() const = 0;
  virtual int metrics_port() const = 0;  // 0: off
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_SERVER_H_

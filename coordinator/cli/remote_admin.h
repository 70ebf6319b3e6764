// AdminApi over gRPC with mutual TLS.

#ifndef CONSILIUM_COORDINATOR_CLI_REMOTE_ADMIN_H_
#define CONSILIUM_COORDINATOR_CLI_REMOTE_ADMIN_H_

#include "coordinator/cli/cli.h"

namespace consilium {

// Loads the identity; the connection itself is made by the first call.
// timeout_seconds: of every call; 0: 30 s for short calls, none for long ones.
// Errors: those of LoadTlsIdentity, of the address and of the proxy.
absl::StatusOr<AdminSession> ConnectRemote(const OperatorConfig& config,
                                           uint64_t timeout_seconds,
                                           FileSystem* fs, absl::Time now,
                                           const Environment& variables);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_REMOTE_ADMIN_H_

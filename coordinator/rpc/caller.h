// Who calls: from the verified certificate to an admitted caller.

#ifndef CONSILIUM_COORDINATOR_RPC_CALLER_H_
#define CONSILIUM_COORDINATOR_RPC_CALLER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "consilium/base/threads.h"
#include "consilium/secure/grpc/peer.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/peer_registry.h"
#include "grpcpp/server_context.h"

namespace consilium {

// What every service of the coordinator needs. Outlives the server.
struct RpcDeps {
  Engine* engine = nullptr;
  PeerAuthenticator* authenticator = nullptr;
  // Runs handlers, which may wait for the disk; gRPC's own threads never do.
  Executor* executor = nullptr;
  // Opens, checks and spools chunks, reads blobs: busy with data.
  Executor* ingest = nullptr;
  int64_t max_streams_per_institution = 4;
  // Unary calls of one institution that are no long polls.
  int64_t max_calls_per_institution = 16;
  // A request that is part of no transfer.
  int64_t max_control_bytes = int64_t{256} << 10;
  // Long polls under way, of all callers; limits.max_waiting_calls.
  int64_t max_calls = 4096;
};

// Anybody but an institution, or anybody at all where the role does not matter.
struct Staff {
  PeerName name;
  std::string serial;

  // OK, or the status with which a stream must end. For every message.
  absl::Status Alive(const RpcDeps& deps) const;
};

// The institution that calls. Errors: UNAUTHENTICATED, PERMISSION_DENIED.
absl::StatusOr<Caller> AdmitInstitution(const RpcDeps& deps,
                                        const grpc::ServerContextBase& context);
// An operator, or for `reads` also an auditor. Same errors.
absl::StatusOr<Staff> AdmitStaff(const RpcDeps& deps,
                                 const grpc::ServerContextBase& context,
                                 bool reads);
// Anybody of this federation whose certificate is not revoked.
absl::StatusOr<Staff> AdmitMember(const RpcDeps& deps,
                                  const grpc::ServerContextBase& context);

// The reason that a member of staff gives for a change.
// Errors: INVALID_ARGUMENT longer than 4096 bytes.
absl::Status CheckReason(std::string_view reason);

// What a caller that is not staff is told. An error of this machine becomes
// UNAVAILABLE, so that the caller tries again; the log has its text, which
// speaks of this machine's files. Others stay as they are.
absl::Status ForPeer(const RpcDeps& deps, std::string_view who,
                     std::string_view method, const absl::Status& status);

// What staff is told. A file of this machine that it may not use says nothing
// of the caller's rights: PERMISSION_DENIED becomes FAILED_PRECONDITION.
absl::Status ForStaff(const absl::Status& status);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_CALLER_H_

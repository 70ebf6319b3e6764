// The streams of AdminService: watching a round, importing a version.

#ifndef CONSILIUM_COORDINATOR_RPC_ADMIN_STREAMS_H_
#define CONSILIUM_COORDINATOR_RPC_ADMIN_STREAMS_H_

#include <cstdint>

#include "consilium/v1/admin.pb.h"
#include "coordinator/rpc/caller.h"
#include "coordinator/rpc/job_limit.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// A snapshot at once and after each change; slow readers miss the ones in
// between, never the last. Ends when the round does; round 0 goes on with
// whatever round comes next.
grpc::ServerWriteReactor<v1::RoundInfo>* StartWatch(
    const RpcDeps& deps, grpc::CallbackServerContext* context, uint64_t round,
    absl::Duration renew_before);

// Writes what comes into a new blob, checks size and digest, then hands it to
// the engine. An import that breaks leaves nothing behind. It is one of `jobs`
// from the beginning, so that none is refused after a long upload.
grpc::ServerReadReactor<v1::ImportVersionChunk>* StartImport(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    v1::VersionInfo* response, absl::Duration renew_before, JobLimit* jobs);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_ADMIN_STREAMS_H_

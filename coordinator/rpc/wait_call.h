// WaitForWork: a long poll that holds no thread.

#ifndef CONSILIUM_COORDINATOR_RPC_WAIT_CALL_H_
#define CONSILIUM_COORDINATOR_RPC_WAIT_CALL_H_

#include "consilium/v1/federation.pb.h"
#include "coordinator/rpc/caller.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// v1.WaitForWorkRequest in, v1.WaitForWorkResponse out, as bytes.
grpc::ServerUnaryReactor* StartWait(const RpcDeps& deps,
                                    grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer& request,
                                    grpc::ByteBuffer* response);

void ToProto(const Work& work, const EngineOptions& options,
             v1::WaitForWorkResponse* out);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_WAIT_CALL_H_

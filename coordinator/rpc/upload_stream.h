// One upload stream: chunks in, cumulative acks out.

#ifndef CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_
#define CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_

#include "consilium/v1/federation.pb.h"
#include "coordinator/rpc/caller.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// Holds two messages: one is read from the network while the other is opened,
// checked and spooled on the executor. That is the back-pressure, too.
grpc::ServerBidiReactor<v1::UploadChunk, v1::UploadReply>* StartUpload(
    const RpcDeps& deps, grpc::CallbackServerContext* context);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_

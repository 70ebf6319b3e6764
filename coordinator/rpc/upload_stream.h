// One upload stream: chunks in, cumulative acks out.

#ifndef CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_
#define CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_

#include "coordinator/rpc/caller.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// v1.UploadChunk in, v1.UploadReply out, as bytes. One message is read from the
// network while the one before is opened, checked and spooled on the executor,
// in a buffer of that thread: a stream that waits holds at most one message.
// That is the back-pressure, too.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartUpload(
    const RpcDeps& deps, grpc::CallbackServerContext* context);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_UPLOAD_STREAM_H_

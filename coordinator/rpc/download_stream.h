// One download: a version file or the layout text, from an offset.

#ifndef CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_
#define CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_

#include "consilium/v1/federation.pb.h"
#include "coordinator/rpc/caller.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// Finishes by itself, and at once when the caller is not admitted. Reads the
// blob 1 MiB at a time on the executor; memory is that and one message. An
// institution that is revoked meanwhile gets no further piece.
grpc::ServerWriteReactor<v1::DownloadChunk>* StartDownload(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    const v1::DownloadRequest& request);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_

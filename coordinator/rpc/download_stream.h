// One download: a version file or the layout text, from an offset.

#ifndef CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_
#define CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "coordinator/rpc/caller.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"

namespace consilium {

// Finishes by itself, and at once when the caller is not admitted. Reads the
// blob 256 KiB at a time on the ingest threads, straight into the bytes that
// gRPC sends as v1.DownloadChunk: no copy in between. An institution that is
// revoked meanwhile gets no further piece. A peer that takes none for
// limits.upload_idle_timeout ends the call. `request` holds a
// v1.DownloadRequest.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartDownload(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    const grpc::ByteBuffer& request);

// How a DownloadChunk is encoded up to its data, which ends it. total_bytes is
// left out when it is 0.
std::string DownloadChunkPrefix(uint64_t total_bytes, uint64_t offset,
                                size_t data_bytes);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_DOWNLOAD_STREAM_H_

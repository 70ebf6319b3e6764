#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_UPLOAD_STREAM_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_UPLOAD_STREAM_H_

#include <memory>
#include <optional>
#include <string>

#include "client_sdk/session/transport.h"
#include "consilium/v1/federation.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/sync_stream.h"

namespace consilium::client::internal {

// FederationService.Upload. Chunks leave as the slices they were sealed in: a
// message is a few bytes of protobuf framing written here, and the chunk's own
// memory, which the last reference inside gRPC gives back to its pool. The
// generated stub would copy every byte into a string and again into a slice.
class GrpcUploadStream final : public UploadStream {
 public:
  GrpcUploadStream(std::shared_ptr<grpc::Channel> channel,
                   std::string upload_id);
  ~GrpcUploadStream() override;

  bool Write(uint64_t index, ChunkBytes chunk) override;
  void Done() override;
  absl::StatusOr<std::optional<UploadReply>> Read() override;
  absl::Status Finish() override;
  void Cancel() override;

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  std::string upload_id_;  // empty once sent
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, v1::UploadReply>>
      stream_;
  bool finished_ = false;
};

// The bytes of an UploadChunk message before its data. Exposed for its test.
std::string UploadChunkPrefix(const std::string& upload_id, uint64_t index,
                              size_t data_bytes);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_UPLOAD_STREAM_H_

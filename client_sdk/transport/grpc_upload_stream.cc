#include "client_sdk/transport/grpc_upload_stream.h"

#include <utility>

#include "client_sdk/transport/call_context.h"
#include "client_sdk/transport/convert.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "grpcpp/support/slice.h"

namespace consilium::client::internal {
namespace {

constexpr char kMethod[] = "/consilium.v1.FederationService/Upload";

// Protobuf's wire format: tag = field << 3 | type, then a varint or a length
// and bytes (protobuf.dev/programming-guides/encoding).
constexpr char kUploadIdTag = 1 << 3 | 2;
constexpr char kIndexTag = 2 << 3 | 0;
constexpr char kDataTag = 3 << 3 | 2;

void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// A slice of the chunk's memory that keeps it until gRPC is done with it.
grpc::Slice SliceOf(ChunkBytes chunk) {
  auto* const held = new ChunkBytes(std::move(chunk));
  return grpc::Slice(
      held->memory.get(), held->size,
      [](void* user) { delete static_cast<ChunkBytes*>(user); }, held);
}

}  // namespace

std::string UploadChunkPrefix(const std::string& upload_id, uint64_t index,
                              size_t data_bytes) {
  std::string prefix;
  if (!upload_id.empty()) {
    prefix.push_back(kUploadIdTag);
    AppendVarint(upload_id.size(), prefix);
    prefix += upload_id;
  }
  prefix.push_back(kIndexTag);
  AppendVarint(index, prefix);
  prefix.push_back(kDataTag);
  AppendVarint(data_bytes, prefix);
  return prefix;
}

GrpcUploadStream::GrpcUploadStream(std::shared_ptr<grpc::Channel> channel,
                                   std::string upload_id)
    : channel_(std::move(channel)), upload_id_(std::move(upload_id)) {
  // What the generated stub does, for another type of request.
  const grpc::internal::RpcMethod method(
      kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  stream_.reset(grpc::internal::ClientReaderWriterFactory<
                grpc::ByteBuffer, v1::UploadReply>::Create(channel_.get(),
                                                           method, &context_));
}

GrpcUploadStream::~GrpcUploadStream() {
  if (!finished_) context_.TryCancel();
}

bool GrpcUploadStream::Write(uint64_t index, ChunkBytes chunk) {
  const size_t size = chunk.size;
  const grpc::Slice slices[] = {
      grpc::Slice(UploadChunkPrefix(upload_id_, index, size)),
      SliceOf(std::move(chunk))};
  upload_id_.clear();
  return stream_->Write(grpc::ByteBuffer(slices, 2));
}

void GrpcUploadStream::Done() { stream_->WritesDone(); }

absl::StatusOr<std::optional<UploadReply>> GrpcUploadStream::Read() {
  v1::UploadReply reply;
  if (!stream_->Read(&reply)) return std::optional<UploadReply>();
  switch (reply.event_case()) {
    case v1::UploadReply::kNextChunk:
      return std::optional<UploadReply>(reply.next_chunk());
    case v1::UploadReply::kRefusal:
      return std::optional<UploadReply>(FromProto(reply.refusal()));
    case v1::UploadReply::EVENT_NOT_SET:
      break;
  }
  return absl::InternalError(
      "the coordinator's answer in the upload stream is empty");
}

absl::Status GrpcUploadStream::Finish() {
  finished_ = true;
  return StatusOfCall(stream_->Finish());
}

void GrpcUploadStream::Cancel() { context_.TryCancel(); }

}  // namespace consilium::client::internal

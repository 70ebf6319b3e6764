#include "client_sdk/transport/grpc_transport.h"

#include <optional>
#include <utility>

#include "client_sdk/transport/call_context.h"
#include "client_sdk/transport/convert.h"
#include "client_sdk/transport/grpc_upload_stream.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/grpc/credentials.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"

namespace consilium::client::internal {
namespace {

using Stub = v1::FederationService::Stub;

// Responses that hold a refusal and nothing else.
template <typename Response>
std::optional<Refused> RefusalIn(const Response& response) {
  if (!response.has_refusal()) return std::nullopt;
  return FromProto(response.refusal());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Create(
    Options options) {
  std::unique_ptr<GrpcTransport> transport(
      new GrpcTransport(std::move(options)));
  CONSILIUM_RETURN_IF_ERROR(transport->Reconnect());
  return transport;
}

absl::Status GrpcTransport::Reconnect() {
  CONSILIUM_ASSIGN_OR_RETURN(
      const TlsIdentity identity,
      LoadTlsIdentity(options_.fs, options_.identity.tls,
                      CertificateUse::kClient, options_.clock->Now()));
  auto connection = std::make_shared<Connection>();
  connection->channel = grpc::CreateCustomChannel(
      options_.target, MakeClientCredentials(identity),
      MakeChannelArguments(options_.channel));
  connection->stub = v1::FederationService::NewStub(connection->channel);
  MutexLock lock(&mutex_);
  connection_ = std::move(connection);
  return absl::OkStatus();
}

std::shared_ptr<const GrpcTransport::Connection> GrpcTransport::connection()
    const {
  MutexLock lock(&mutex_);
  return connection_;
}

template <typename Request, typename Response>
absl::Status GrpcTransport::Call(
    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                 Response*),
    const Request& request, Response* response, const CallContext& context) {
  const std::shared_ptr<const Connection> held = connection();
  GrpcCall call(context);
  return call.Result(
      (held->stub.get()->*method)(call.grpc(), request, response));
}

absl::StatusOr<Greeting> GrpcTransport::Hello(const HelloCall& call,
                                              const CallContext& context) {
  v1::HelloRequest request;
  ToProto(call, &request);
  v1::HelloResponse response;
  CONSILIUM_RETURN_IF_ERROR(Call(&Stub::Hello, request, &response, context));
  return FromProto(response);
}

absl::StatusOr<std::string> GrpcTransport::RenewCertificate(
    const std::string& csr_pem, const CallContext& context) {
  v1::RenewCertificateRequest request;
  request.set_csr_pem(csr_pem);
  v1::RenewCertificateResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::RenewCertificate, request, &response, context));
  return std::move(*response.mutable_certificate_chain_pem());
}

absl::StatusOr<WorkReply> GrpcTransport::WaitForWork(
    uint64_t known_revision, absl::Duration max_wait,
    const CallContext& context) {
  v1::WaitForWorkRequest request;
  request.set_known_revision(known_revision);
  request.set_max_wait_millis(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(max_wait)));
  v1::WaitForWorkResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::WaitForWork, request, &response, context));
  return FromProto(response);
}

absl::StatusOr<ProgressReply> GrpcTransport::ReportProgress(
    const RoundRef& round, double fraction, std::string_view text,
    const CallContext& context) {
  v1::ReportProgressRequest request;
  request.set_round(round.round);
  request.set_attempt(round.attempt);
  request.set_fraction(fraction);
  request.set_text(std::string(text));
  v1::ReportProgressResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::ReportProgress, request, &response, context));
  return ProgressReply{response.go_on(), response.reason()};
}

absl::StatusOr<std::optional<Refused>> GrpcTransport::Decline(
    const RoundRef& round, std::string_view reason, bool evaluation,
    const CallContext& context) {
  v1::DeclineRequest request;
  request.set_round(round.round);
  request.set_attempt(round.attempt);
  request.set_reason(std::string(reason));
  request.set_evaluation(evaluation);
  v1::DeclineResponse response;
  CONSILIUM_RETURN_IF_ERROR(Call(&Stub::Decline, request, &response, context));
  return RefusalIn(response);
}

absl::StatusOr<BeginOutcome> GrpcTransport::BeginUpload(
    const Manifest& manifest, const CallContext& context) {
  v1::BeginUploadRequest request;
  ToProto(manifest, request.mutable_manifest());
  v1::BeginUploadResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::BeginUpload, request, &response, context));
  return FromProto(response);
}

absl::StatusOr<CommitOutcome> GrpcTransport::CommitUpload(
    const std::string& upload_id, const Sha256Digest& payload_digest,
    const CallContext& context) {
  v1::CommitUploadRequest request;
  request.set_upload_id(upload_id);
  request.set_payload_sha256(BytesOf(payload_digest));
  v1::CommitUploadResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::CommitUpload, request, &response, context));
  return FromProto(response);
}

absl::StatusOr<std::optional<Refused>> GrpcTransport::ReportEvaluation(
    const EvaluateTask& task, uint64_t examples,
    const std::map<std::string, double>& metrics, const CallContext& context) {
  v1::ReportEvaluationRequest request;
  request.set_round(task.round);
  request.set_attempt(task.attempt);
  request.set_candidate_digest(BytesOf(task.candidate.digest));
  request.set_examples(examples);
  for (const auto& [name, value] : metrics) {
    v1::NamedValue* metric = request.add_metrics();
    metric->set_name(name);
    metric->set_value(value);
  }
  v1::ReportEvaluationResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      Call(&Stub::ReportEvaluation, request, &response, context));
  return RefusalIn(response);
}

std::unique_ptr<UploadStream> GrpcTransport::OpenUpload(
    const std::string& upload_id) {
  return std::make_unique<GrpcUploadStream>(connection()->channel, upload_id);
}

absl::Status GrpcTransport::Download(const DownloadCall& call,
                                     const DownloadSink& sink,
                                     const CallContext& context) {
  const std::shared_ptr<const Connection> held = connection();
  GrpcCall grpc_call(context);
  v1::DownloadRequest request;
  if (call.what == DownloadCall::What::kLayout) {
    request.set_layout_digest(BytesOf(call.digest));
  } else {
    request.set_version_digest(BytesOf(call.digest));
  }
  request.set_offset(call.offset);
  const std::unique_ptr<grpc::ClientReader<v1::DownloadChunk>> reader =
      held->stub->Download(grpc_call.grpc(), request);
  // One message for all: parsing into it again reuses its memory.
  v1::DownloadChunk chunk;
  uint64_t total = 0;
  absl::Status status;
  while (reader->Read(&chunk)) {
    if (chunk.total_bytes() != 0) total = chunk.total_bytes();
    if (chunk.data().empty()) continue;
    status = sink(total, chunk.offset(), AsBytes(chunk.data()));
    if (!status.ok()) break;
  }
  if (!status.ok()) {
    grpc_call.grpc()->TryCancel();
    reader->Finish().ok();
    return status;
  }
  return grpc_call.Result(reader->Finish());
}

}  // namespace consilium::client::internal

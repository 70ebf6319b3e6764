// FederationService and EnrollmentService over the engine. Thin: they admit the
// caller, convert, and hand over.

#ifndef CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_
#define CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_

#include <string>

#include "consilium/v1/enrollment.grpc.pb.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "coordinator/rpc/caller.h"
#include "coordinator/rpc/rate_limit.h"

namespace consilium {

struct FederationLimits {
  uint64_t upload_window_bytes = uint64_t{32} << 20;
  int max_metrics = 256;
};

// Chunks and version files travel as bytes, without a copy into a message; the
// generated CallbackService offers that for no bidirectional stream.
template <typename Base>
using WithStreams = v1::FederationService::WithRawCallbackMethod_Upload<
    v1::FederationService::WithRawCallbackMethod_Download<Base>>;
template <typename Base>
using WithUploadCalls = v1::FederationService::WithCallbackMethod_BeginUpload<
    v1::FederationService::WithCallbackMethod_CommitUpload<Base>>;
template <typename Base>
using WithWorkCalls = v1::FederationService::WithCallbackMethod_WaitForWork<
    v1::FederationService::WithCallbackMethod_ReportProgress<
        v1::FederationService::WithCallbackMethod_Decline<
            v1::FederationService::WithCallbackMethod_ReportEvaluation<Base>>>>;
template <typename Base>
using WithIdentityCalls = v1::FederationService::WithCallbackMethod_Hello<
    v1::FederationService::WithCallbackMethod_RenewCertificate<Base>>;
using FederationServiceBase = WithIdentityCalls<WithWorkCalls<
    WithUploadCalls<WithStreams<v1::FederationService::Service>>>>;

class FederationServiceImpl final : public FederationServiceBase {
 public:
  FederationServiceImpl(RpcDeps deps, FederationLimits limits)
      : deps_(deps), limits_(limits) {}

  grpc::ServerUnaryReactor* Hello(grpc::CallbackServerContext* context,
                                  const v1::HelloRequest* request,
                                  v1::HelloResponse* response) override;
  grpc::ServerUnaryReactor* RenewCertificate(
      grpc::CallbackServerContext* context,
      const v1::RenewCertificateRequest* request,
      v1::RenewCertificateResponse* response) override;
  grpc::ServerUnaryReactor* WaitForWork(
      grpc::CallbackServerContext* context,
      const v1::WaitForWorkRequest* request,
      v1::WaitForWorkResponse* response) override;
  grpc::ServerUnaryReactor* ReportProgress(
      grpc::CallbackServerContext* context,
      const v1::ReportProgressRequest* request,
      v1::ReportProgressResponse* response) override;
  grpc::ServerUnaryReactor* Decline(grpc::CallbackServerContext* context,
                                    const v1::DeclineRequest* request,
                                    v1::DeclineResponse* response) override;
  grpc::ServerUnaryReactor* BeginUpload(
      grpc::CallbackServerContext* context,
      const v1::BeginUploadRequest* request,
      v1::BeginUploadResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Upload(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CommitUpload(
      grpc::CallbackServerContext* context,
      const v1::CommitUploadRequest* request,
      v1::CommitUploadResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Download(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* ReportEvaluation(
      grpc::CallbackServerContext* context,
      const v1::ReportEvaluationRequest* request,
      v1::ReportEvaluationResponse* response) override;

 private:
  const RpcDeps deps_;
  const FederationLimits limits_;
};

// Anybody may call it, so it answers only so often, before it does any work.
class EnrollmentServiceImpl final
    : public v1::EnrollmentService::CallbackService {
 public:
  // Whom a call comes from, by gRPC's name of its peer.
  using PeerOf = std::function<std::string(std::string_view)>;

  EnrollmentServiceImpl(RpcDeps deps, std::string root_ca_pem,
                        RateLimit::Options limit, PeerOf peer_of)
      : deps_(deps),
        root_ca_pem_(std::move(root_ca_pem)),
        limit_(std::move(limit)),
        peer_of_(std::move(peer_of)) {}

  grpc::ServerUnaryReactor* Enroll(grpc::CallbackServerContext* context,
                                   const v1::EnrollRequest* request,
                                   v1::EnrollResponse* response) override;

 private:
  const RpcDeps deps_;
  const std::string root_ca_pem_;
  RateLimit limit_;
  const PeerOf peer_of_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_

// FederationService and EnrollmentService over the engine. Thin: they admit the
// caller, convert, and hand over.

#ifndef CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_
#define CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_

#include <string>

#include "consilium/v1/enrollment.grpc.pb.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "coordinator/rpc/caller.h"
#include "coordinator/rpc/institution_queues.h"
#include "coordinator/rpc/rate_limit.h"

namespace consilium {

struct FederationLimits {
  uint64_t upload_window_bytes = uint64_t{32} << 20;
  int max_metrics = 256;
  int64_t renewals_per_hour = 0;  // of one institution; 0: no limit
};

// Everything comes as bytes: chunks and version files travel without a copy
// into a message, and requests are parsed once they may be
// (institution_call.h).
template <typename Base>
using WithStreams = v1::FederationService::WithRawCallbackMethod_Upload<
    v1::FederationService::WithRawCallbackMethod_Download<Base>>;
template <typename Base>
using WithUploadCalls =
    v1::FederationService::WithRawCallbackMethod_BeginUpload<
        v1::FederationService::WithRawCallbackMethod_CommitUpload<Base>>;
template <typename Base>
using WithWorkCalls = v1::FederationService::WithRawCallbackMethod_WaitForWork<
    v1::FederationService::WithRawCallbackMethod_ReportProgress<
        v1::FederationService::WithRawCallbackMethod_Decline<
            v1::FederationService::WithRawCallbackMethod_ReportEvaluation<
                Base>>>>;
template <typename Base>
using WithIdentityCalls = v1::FederationService::WithRawCallbackMethod_Hello<
    v1::FederationService::WithRawCallbackMethod_RenewCertificate<Base>>;
using FederationServiceBase = WithIdentityCalls<WithWorkCalls<
    WithUploadCalls<WithStreams<v1::FederationService::Service>>>>;

class FederationServiceImpl final : public FederationServiceBase {
 public:
  FederationServiceImpl(RpcDeps deps, FederationLimits limits);

#define CONSILIUM_FEDERATION_UNARY(Method)                               \
  grpc::ServerUnaryReactor* Method(grpc::CallbackServerContext* context, \
                                   const grpc::ByteBuffer* request,      \
                                   grpc::ByteBuffer* response) override
  CONSILIUM_FEDERATION_UNARY(Hello);
  CONSILIUM_FEDERATION_UNARY(RenewCertificate);
  CONSILIUM_FEDERATION_UNARY(WaitForWork);
  CONSILIUM_FEDERATION_UNARY(ReportProgress);
  CONSILIUM_FEDERATION_UNARY(Decline);
  CONSILIUM_FEDERATION_UNARY(BeginUpload);
  CONSILIUM_FEDERATION_UNARY(CommitUpload);
  CONSILIUM_FEDERATION_UNARY(ReportEvaluation);
#undef CONSILIUM_FEDERATION_UNARY
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Upload(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Download(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;

 private:
  const RpcDeps deps_;
  const FederationLimits limits_;
  InstitutionQueues queues_;
  RateLimit renewals_;
};

// Anybody may call it, so it answers only so often, before it does any work.
class EnrollmentServiceImpl final
    : public v1::EnrollmentService::CallbackService {
 public:
  // Whom a call comes from, by gRPC's name of its peer.
  using PeerOf = std::function<std::string(std::string_view)>;

  EnrollmentServiceImpl(RpcDeps deps, std::string root_ca_pem,
                        std::string service_address, RateLimit::Options limit,
                        PeerOf peer_of)
      : deps_(deps),
        root_ca_pem_(std::move(root_ca_pem)),
        service_address_(std::move(service_address)),
        limit_(std::move(limit)),
        peer_of_(std::move(peer_of)) {}

  grpc::ServerUnaryReactor* Enroll(grpc::CallbackServerContext* context,
                                   const v1::EnrollRequest* request,
                                   v1::EnrollResponse* response) override;

 private:
  const RpcDeps deps_;
  const std::string root_ca_pem_;
  const std::string service_address_;
  RateLimit limit_;
  const PeerOf peer_of_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_FEDERATION_SERVICE_H_

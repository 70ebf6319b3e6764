#include "coordinator/rpc/federation_service.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/rpc/download_stream.h"
#include "coordinator/rpc/engine_proto.h"
#include "coordinator/rpc/unary.h"
#include "coordinator/rpc/upload_stream.h"
#include "coordinator/rpc/wait_call.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

absl::Status CheckRound(uint64_t round) {
  if (round > 0 && round < (uint64_t{1} << 62)) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("round is ", round));
}

void ToProto(const SignedReceipt& receipt, v1::Receipt* out) {
  consilium::ToProto(receipt.statement, receipt.signature, out);
}

}  // namespace

grpc::ServerUnaryReactor* FederationServiceImpl::Hello(
    grpc::CallbackServerContext* context, const v1::HelloRequest* request,
    v1::HelloResponse* response) {
  auto peer = deps_.authenticator->PeerOf(*context->auth_context(),
                                          deps_.engine->WallNow());
  return RunUnary(
      deps_, context, "Hello", AdmitInstitution(deps_, *context),
      [this, request, response, peer](const Caller& caller) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(peer.status());
        CONSILIUM_ASSIGN_OR_RETURN(const uint32_t protocol,
                                   NegotiateProtocol(request->protocol()));
        CONSILIUM_RETURN_IF_ERROR(deps_.engine->Greeted(
            *caller.peer, request->software(),
            {request->codecs().data(),
             static_cast<size_t>(request->codecs_size())}));
        const EngineOptions& options = deps_.engine->options();
        response->set_protocol(protocol);
        response->set_federation(options.federation);
        response->set_institution(caller.name());
        if (const auto layout = deps_.engine->layout(); layout != nullptr) {
          response->set_layout_digest(BytesOf(layout->id));
          response->set_layout_bytes(layout->text.size());
        }
        response->set_max_update_bytes(
            static_cast<uint64_t>(options.max_update_bytes));
        response->set_max_chunk_bytes(kMaxSealedChunkBytes);
        response->set_upload_window_bytes(limits_.upload_window_bytes);
        response->set_long_poll_millis(static_cast<uint64_t>(
            absl::ToInt64Milliseconds(options.long_poll.get())));
        response->set_server_time(MicrosOf(deps_.engine->Now()));
        const absl::Time until = (*peer)->not_after;
        const absl::Duration life = until - (*peer)->not_before;
        response->set_certificate_not_after(MicrosOf(until));
        response->set_renew_after(
            MicrosOf(until - std::min(options.renew_before, life / 3)));
        response->add_features(options.sealing ? "sealing" : "sealing-off");
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::RenewCertificate(
    grpc::CallbackServerContext* context,
    const v1::RenewCertificateRequest* request,
    v1::RenewCertificateResponse* response) {
  return RunUnary(
      deps_, context, "RenewCertificate", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        const PeerName name{deps_.engine->options().federation,
                            PeerRole::kInstitution, caller.name()};
        CONSILIUM_ASSIGN_OR_RETURN(
            const EnrollResult result,
            deps_.engine->Renew(name, request->csr_pem()));
        response->set_certificate_chain_pem(result.chain_pem);
        response->set_not_after(MicrosOf(result.not_after));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::WaitForWork(
    grpc::CallbackServerContext* context, const v1::WaitForWorkRequest* request,
    v1::WaitForWorkResponse* response) {
  return StartWait(deps_, context, *request, response);
}

grpc::ServerUnaryReactor* FederationServiceImpl::ReportProgress(
    grpc::CallbackServerContext* context,
    const v1::ReportProgressRequest* request,
    v1::ReportProgressResponse* response) {
  return RunUnary(
      deps_, context, "ReportProgress", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request->round()));
        std::optional<double> fraction;
        if (request->fraction() >= 0) fraction = request->fraction();
        CONSILIUM_ASSIGN_OR_RETURN(
            const ProgressAnswer answer,
            deps_.engine->ReportProgress(caller,
                                         static_cast<int64_t>(request->round()),
                                         fraction, request->text()));
        response->set_go_on(answer.go_on);
        response->set_reason(answer.reason);
        response->set_deadline(MicrosOf(answer.deadline));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::Decline(
    grpc::CallbackServerContext* context, const v1::DeclineRequest* request,
    v1::DeclineResponse* response) {
  return RunUnary(
      deps_, context, "Decline", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request->round()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const std::optional<Refused> refused,
            deps_.engine->Decline(caller,
                                  static_cast<int64_t>(request->round()),
                                  request->reason(), request->evaluation()));
        if (refused.has_value()) {
          *response->mutable_refusal() = consilium::ToProto(*refused);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::BeginUpload(
    grpc::CallbackServerContext* context, const v1::BeginUploadRequest* request,
    v1::BeginUploadResponse* response) {
  return RunUnary(
      deps_, context, "BeginUpload", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const UploadManifest manifest,
                                   FromProto(request->manifest()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const BeginOutcome outcome,
            deps_.engine->uploads().BeginUpload(caller, manifest));
        if (const auto* accepted = std::get_if<UploadAccepted>(&outcome)) {
          auto& out = *response->mutable_accepted();
          out.set_upload_id(accepted->upload_id);
          out.set_next_chunk(accepted->next_chunk);
          out.set_window_bytes(limits_.upload_window_bytes);
        } else if (const auto* r = std::get_if<SignedReceipt>(&outcome)) {
          ToProto(*r, response->mutable_committed());
        } else {
          *response->mutable_refusal() =
              consilium::ToProto(std::get<Refused>(outcome));
        }
        return absl::OkStatus();
      });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
FederationServiceImpl::Upload(grpc::CallbackServerContext* context) {
  return StartUpload(deps_, context);
}

grpc::ServerUnaryReactor* FederationServiceImpl::CommitUpload(
    grpc::CallbackServerContext* context,
    const v1::CommitUploadRequest* request,
    v1::CommitUploadResponse* response) {
  return RunUnary(
      deps_, context, "CommitUpload", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        if (request->upload_id().size() != kUploadIdBytes) {
          return absl::InvalidArgumentError(
              Cat("upload_id has ", request->upload_id().size(),
                  " bytes, must have ", kUploadIdBytes));
        }
        CONSILIUM_ASSIGN_OR_RETURN(
            const Sha256Digest digest,
            DigestOf(request->payload_sha256(), "payload_sha256"));
        CONSILIUM_ASSIGN_OR_RETURN(const CommitOutcome outcome,
                                   deps_.engine->uploads().CommitUpload(
                                       caller, request->upload_id(), digest));
        if (const auto* receipt = std::get_if<SignedReceipt>(&outcome)) {
          ToProto(*receipt, response->mutable_receipt());
        } else {
          *response->mutable_refusal() =
              consilium::ToProto(std::get<Refused>(outcome));
        }
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* FederationServiceImpl::Download(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartDownload(deps_, context, *request);
}

grpc::ServerUnaryReactor* FederationServiceImpl::ReportEvaluation(
    grpc::CallbackServerContext* context,
    const v1::ReportEvaluationRequest* request,
    v1::ReportEvaluationResponse* response) {
  return RunUnary(
      deps_, context, "ReportEvaluation", AdmitInstitution(deps_, *context),
      [this, request, response](const Caller& caller) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request->round()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const Sha256Digest candidate,
            DigestOf(request->candidate_digest(), "candidate_digest"));
        CONSILIUM_ASSIGN_OR_RETURN(
            auto metrics, MetricsOf(request->metrics(), limits_.max_metrics));
        if (request->examples() > (uint64_t{1} << 53)) {
          return absl::InvalidArgumentError(
              Cat("examples is ", request->examples(), ", at most 2^53"));
        }
        CONSILIUM_ASSIGN_OR_RETURN(
            const std::optional<Refused> refused,
            deps_.engine->ReportEvaluation(
                caller, static_cast<int64_t>(request->round()), candidate,
                static_cast<int64_t>(request->examples()), std::move(metrics)));
        if (refused.has_value()) {
          *response->mutable_refusal() = consilium::ToProto(*refused);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* EnrollmentServiceImpl::Enroll(
    grpc::CallbackServerContext* context, const v1::EnrollRequest* request,
    v1::EnrollResponse* response) {
  absl::StatusOr<int> admitted = 0;
  const std::string address = AddressOfPeer(peer_of_(context->peer()));
  if (const absl::Status status =
          limit_.Admit(address, deps_.engine->Monotonic());
      !status.ok()) {
    admitted = status;
  }
  return RunUnary(
      deps_, context, "Enroll", std::move(admitted),
      [this, request, response](int) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const uint32_t protocol,
                                   NegotiateProtocol(request->protocol()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const EnrollResult result,
            deps_.engine->Enroll(request->token(), request->csr_pem()));
        response->set_protocol(protocol);
        response->set_federation(result.peer.federation);
        response->set_uri(result.peer.Uri());
        response->set_certificate_chain_pem(result.chain_pem);
        response->set_root_ca_pem(root_ca_pem_);
        response->set_signing_public_key(
            deps_.engine->signing_key().verify_key().ToString());
        response->set_service_address(deps_.engine->options().service_address);
        response->set_not_after(MicrosOf(result.not_after));
        return absl::OkStatus();
      });
}

}  // namespace consilium

#include "coordinator/rpc/federation_service.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/rpc/download_stream.h"
#include "coordinator/rpc/engine_proto.h"
#include "coordinator/rpc/institution_call.h"
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

// Answered at once, or when what is on the disk has been read again.
class BeginCall final
    : public InstitutionCall<v1::BeginUploadRequest, v1::BeginUploadResponse> {
 public:
  BeginCall(const RpcDeps& deps, InstitutionQueues* queues,
            const grpc::ByteBuffer& request, grpc::ByteBuffer* response,
            uint64_t window_bytes)
      : InstitutionCall(deps, queues, "BeginUpload", request, response),
        window_bytes_(window_bytes),
        waiter_(std::make_shared<Waiter>(this)) {}

  void OnCancel() override {
    waiter_->Leave();
    deps().engine->uploads().AbandonBegin(waiter_.get());
  }

 private:
  // May be known to the hub for longer than the call lives.
  class Waiter final : public BeginWaiter {
   public:
    explicit Waiter(BeginCall* call) : call_(call) {}
    void OnBegun(absl::StatusOr<BeginOutcome> outcome) override {
      call_->Answer(outcome);
    }
    bool gone() const override { return gone_.load(); }
    void Leave() { gone_.store(true); }

   private:
    BeginCall* const call_;
    std::atomic<bool> gone_{false};
  };

  void Run() override {
    const absl::StatusOr<UploadManifest> manifest =
        FromProto(request().manifest());
    if (!manifest.ok()) {
      End(manifest.status());
      return;
    }
    // Both outlive this where the answer comes from another thread.
    const Caller who = caller();
    const std::shared_ptr<BeginWaiter> waiter = waiter_;
    deps().engine->uploads().BeginUpload(who, *manifest, waiter);
  }

  void Answer(const absl::StatusOr<BeginOutcome>& outcome) {
    if (!outcome.ok()) {
      End(outcome.status());
      return;
    }
    if (const auto* accepted = std::get_if<UploadAccepted>(&*outcome)) {
      auto& out = *response()->mutable_accepted();
      out.set_upload_id(accepted->upload_id);
      out.set_next_chunk(accepted->next_chunk);
      out.set_window_bytes(window_bytes_);
    } else if (const auto* r = std::get_if<SignedReceipt>(&*outcome)) {
      ToProto(*r, response()->mutable_committed());
    } else {
      *response()->mutable_refusal() =
          consilium::ToProto(std::get<Refused>(*outcome));
    }
    End(absl::OkStatus());
  }

  const uint64_t window_bytes_;
  const std::shared_ptr<Waiter> waiter_;
};

RateLimit::Options RenewalLimit(int64_t per_hour) {
  RateLimit::Options options;
  options.what = "renewals";
  options.period = absl::Hours(1);
  options.per_minute_and_address = per_hour;
  options.per_minute_and_address_key = "limits.renewals_per_hour";
  return options;
}

}  // namespace

FederationServiceImpl::FederationServiceImpl(RpcDeps deps,
                                             FederationLimits limits)
    : deps_(deps),
      limits_(limits),
      queues_(deps.executor),
      renewals_(RenewalLimit(limits.renewals_per_hour)) {}

grpc::ServerUnaryReactor* FederationServiceImpl::Hello(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  auto peer = deps_.authenticator->PeerOf(*context->auth_context(),
                                          deps_.engine->WallNow());
  return RunInstitutionCall<v1::HelloRequest, v1::HelloResponse>(
      deps_, &queues_, *context, "Hello", *in, out,
      [this, peer](const Caller& caller, const v1::HelloRequest& request,
                   v1::HelloResponse* response) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(peer.status());
        CONSILIUM_ASSIGN_OR_RETURN(const uint32_t protocol,
                                   NegotiateProtocol(request.protocol()));
        CONSILIUM_RETURN_IF_ERROR(deps_.engine->Greeted(
            *caller.peer, request.software(),
            {request.codecs().data(),
             static_cast<size_t>(request.codecs_size())}));
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
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return RunInstitutionCall<v1::RenewCertificateRequest,
                            v1::RenewCertificateResponse>(
      deps_, &queues_, *context, "RenewCertificate", *in, out,
      [this](const Caller& caller, const v1::RenewCertificateRequest& request,
             v1::RenewCertificateResponse* response) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(
            renewals_.Admit(caller.name(), deps_.engine->Monotonic()));
        const PeerName name{deps_.engine->options().federation,
                            PeerRole::kInstitution, caller.name()};
        CONSILIUM_ASSIGN_OR_RETURN(
            const EnrollResult result,
            deps_.engine->Renew(name, request.csr_pem()));
        response->set_certificate_chain_pem(result.chain_pem);
        response->set_not_after(MicrosOf(result.not_after));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::WaitForWork(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return StartWait(deps_, context, *in, out);
}

grpc::ServerUnaryReactor* FederationServiceImpl::ReportProgress(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return RunInstitutionCall<v1::ReportProgressRequest,
                            v1::ReportProgressResponse>(
      deps_, &queues_, *context, "ReportProgress", *in, out,
      [this](const Caller& caller, const v1::ReportProgressRequest& request,
             v1::ReportProgressResponse* response) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request.round()));
        std::optional<double> fraction;
        if (request.fraction() >= 0) fraction = request.fraction();
        CONSILIUM_ASSIGN_OR_RETURN(
            const ProgressAnswer answer,
            deps_.engine->ReportProgress(caller,
                                         static_cast<int64_t>(request.round()),
                                         fraction, request.text()));
        response->set_go_on(answer.go_on);
        response->set_reason(answer.reason);
        response->set_deadline(MicrosOf(answer.deadline));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::Decline(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return RunInstitutionCall<v1::DeclineRequest, v1::DeclineResponse>(
      deps_, &queues_, *context, "Decline", *in, out,
      [this](const Caller& caller, const v1::DeclineRequest& request,
             v1::DeclineResponse* response) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request.round()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const std::optional<Refused> refused,
            deps_.engine->Decline(caller, static_cast<int64_t>(request.round()),
                                  request.reason(), request.evaluation()));
        if (refused.has_value()) {
          *response->mutable_refusal() = consilium::ToProto(*refused);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* FederationServiceImpl::BeginUpload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  auto* const call =
      new BeginCall(deps_, &queues_, *in, out, limits_.upload_window_bytes);
  call->Start(*context);
  return call;
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
FederationServiceImpl::Upload(grpc::CallbackServerContext* context) {
  return StartUpload(deps_, context);
}

grpc::ServerUnaryReactor* FederationServiceImpl::CommitUpload(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return RunInstitutionCall<v1::CommitUploadRequest, v1::CommitUploadResponse>(
      deps_, &queues_, *context, "CommitUpload", *in, out,
      [this](const Caller& caller, const v1::CommitUploadRequest& request,
             v1::CommitUploadResponse* response) -> absl::Status {
        if (request.upload_id().size() != kUploadIdBytes) {
          return absl::InvalidArgumentError(
              Cat("upload_id has ", request.upload_id().size(),
                  " bytes, must have ", kUploadIdBytes));
        }
        CONSILIUM_ASSIGN_OR_RETURN(
            const Sha256Digest digest,
            DigestOf(request.payload_sha256(), "payload_sha256"));
        CONSILIUM_ASSIGN_OR_RETURN(const CommitOutcome outcome,
                                   deps_.engine->uploads().CommitUpload(
                                       caller, request.upload_id(), digest));
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
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
    grpc::ByteBuffer* out) {
  return RunInstitutionCall<v1::ReportEvaluationRequest,
                            v1::ReportEvaluationResponse>(
      deps_, &queues_, *context, "ReportEvaluation", *in, out,
      [this](const Caller& caller, const v1::ReportEvaluationRequest& request,
             v1::ReportEvaluationResponse* response) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(CheckRound(request.round()));
        CONSILIUM_ASSIGN_OR_RETURN(
            const Sha256Digest candidate,
            DigestOf(request.candidate_digest(), "candidate_digest"));
        CONSILIUM_ASSIGN_OR_RETURN(
            auto metrics, MetricsOf(request.metrics(), limits_.max_metrics));
        if (request.examples() > (uint64_t{1} << 53)) {
          return absl::InvalidArgumentError(
              Cat("examples is ", request.examples(), ", at most 2^53"));
        }
        CONSILIUM_ASSIGN_OR_RETURN(
            const std::optional<Refused> refused,
            deps_.engine->ReportEvaluation(
                caller, static_cast<int64_t>(request.round()), candidate,
                static_cast<int64_t>(request.examples()), std::move(metrics)));
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
        const auto enrolled =
            deps_.engine->Enroll(request->token(), request->csr_pem());
        if (!enrolled.ok()) {
          return ForPeer(deps_, "", "Enroll", enrolled.status());
        }
        const EnrollResult& result = *enrolled;
        response->set_protocol(protocol);
        response->set_federation(result.peer.federation);
        response->set_uri(result.peer.Uri());
        response->set_certificate_chain_pem(result.chain_pem);
        response->set_root_ca_pem(root_ca_pem_);
        response->set_signing_public_key(
            deps_.engine->signing_key().verify_key().ToString());
        response->set_service_address(service_address_);
        response->set_not_after(MicrosOf(result.not_after));
        return absl::OkStatus();
      });
}

}  // namespace consilium

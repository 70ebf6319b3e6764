#include "tests/unit/client_sdk/transport/grpc_coordinator.h"

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "client_sdk/session/identity.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/random.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"

namespace consilium::client::internal {
namespace {

void Fill(const Refused& refused, v1::Refusal* out) {
  out->set_code(static_cast<v1::Refusal::Code>(refused.code));
  out->set_message(refused.message);
  out->set_retry_after_millis(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(refused.retry_after)));
}

void Fill(const SignedReceipt& receipt, v1::Receipt* out) {
  ToProto(receipt.statement, receipt.signature, out);
}

void Fill(const Version& version, v1::VersionRef* out) {
  ToProto(SignedVersionRef{version.number, version.digest, version.bytes}, out);
}

Manifest ManifestOf(const v1::UploadManifest& in) {
  Manifest m;
  m.round = {in.round(), in.attempt()};
  m.upload_id = in.upload_id();
  m.layout_digest = Must(DigestOf(in.layout_digest(), "layout"));
  m.base = {in.base().number(), Must(DigestOf(in.base().digest(), "base")),
            in.base().bytes()};
  m.coverage = in.coverage();
  m.codec = in.vectors(0).codec();
  m.elements = in.vectors(0).elements();
  m.elements_per_frame = in.elements_per_frame();
  m.payload_bytes = in.payload_bytes();
  m.chunk_count = in.chunk_count();
  m.payload_digest = Must(DigestOf(in.payload_sha256(), "payload"));
  if (in.sealed()) {
    m.wrapped_key =
        Must(WrappedKey::FromParts(AsBytes(in.wrapped_key().ephemeral_public()),
                                   AsBytes(in.wrapped_key().ciphertext())));
  }
  EXPECT_EQ(in.manifest_version(), 1u);
  EXPECT_EQ(in.vectors(0).name(), "parameters");
  EXPECT_EQ(in.vectors(0).frames() + 1, in.chunk_count());
  return m;
}

}  // namespace

grpc::Status FakeService::Hello(grpc::ServerContext*, const v1::HelloRequest*,
                                v1::HelloResponse* response) {
  const auto greeting = transport_->Hello({}, {});
  if (!greeting.ok()) return ToGrpc(greeting.status());
  response->set_protocol(greeting->protocol);
  response->set_federation(greeting->federation);
  response->set_institution(greeting->institution);
  response->set_layout_digest(BytesOf(greeting->layout_digest));
  response->set_layout_bytes(greeting->layout_bytes);
  response->set_max_update_bytes(greeting->max_update_bytes);
  response->set_long_poll_millis(200);
  response->set_certificate_not_after(
      MicrosOf(greeting->certificate_not_after));
  response->set_renew_after(MicrosOf(greeting->renew_after));
  response->add_features("sealing");
  return grpc::Status::OK;
}

grpc::Status FakeService::RenewCertificate(
    grpc::ServerContext*, const v1::RenewCertificateRequest* request,
    v1::RenewCertificateResponse* response) {
  const auto chain =
      pki_->ca.IssuePeer(request->csr_pem(), pki_->Name("bank-a"), pki_->now,
                         kPeerLifetime, *SystemRandom());
  if (!chain.ok()) return ToGrpc(chain.status());
  response->set_certificate_chain_pem(*chain);
  return grpc::Status::OK;
}

grpc::Status FakeService::WaitForWork(grpc::ServerContext*,
                                      const v1::WaitForWorkRequest* request,
                                      v1::WaitForWorkResponse* response) {
  const auto reply = transport_->WaitForWork(
      request->known_revision(),
      absl::Milliseconds(static_cast<int64_t>(request->max_wait_millis())), {});
  if (!reply.ok()) return ToGrpc(reply.status());
  response->set_revision(reply->revision);
  if (const auto* train = std::get_if<TrainOffer>(&reply->work)) {
    v1::TrainTask* out = response->mutable_train();
    ToProto(train->terms.statement, out->mutable_announcement());
    out->set_signature(train->terms.signature.ToString());
    for (const auto& [key, value] : train->parameters) {
      (*out->mutable_parameters())[key] = value;
    }
    out->set_progress_period_millis(5000);
  } else if (const auto* offer = std::get_if<EvaluateOffer>(&reply->work)) {
    v1::EvaluateTask* out = response->mutable_evaluate();
    out->set_round(offer->task.round);
    out->set_attempt(offer->task.attempt);
    Fill(offer->task.candidate, out->mutable_candidate());
    out->set_signature(offer->signature.ToString());
    out->set_deadline(MicrosOf(offer->task.deadline));
  } else {
    response->mutable_idle()->set_reason(std::get<Idle>(reply->work).reason);
  }
  return grpc::Status::OK;
}

grpc::Status FakeService::ReportProgress(
    grpc::ServerContext*, const v1::ReportProgressRequest* request,
    v1::ReportProgressResponse* response) {
  const auto reply =
      transport_->ReportProgress({request->round(), request->attempt()},
                                 request->fraction(), request->text(), {});
  if (!reply.ok()) return ToGrpc(reply.status());
  response->set_go_on(reply->go_on);
  response->set_reason(reply->reason);
  return grpc::Status::OK;
}

grpc::Status FakeService::Decline(grpc::ServerContext*,
                                  const v1::DeclineRequest* request,
                                  v1::DeclineResponse*) {
  return ToGrpc(transport_
                    ->Decline({request->round(), request->attempt()},
                              request->reason(), request->evaluation(), {})
                    .status());
}

grpc::Status FakeService::BeginUpload(grpc::ServerContext*,
                                      const v1::BeginUploadRequest* request,
                                      v1::BeginUploadResponse* response) {
  auto outcome = transport_->BeginUpload(ManifestOf(request->manifest()), {});
  if (!outcome.ok()) return ToGrpc(outcome.status());
  if (const auto* accepted = std::get_if<UploadAccepted>(&*outcome)) {
    response->mutable_accepted()->set_upload_id(accepted->upload_id);
    response->mutable_accepted()->set_next_chunk(accepted->next_chunk);
    response->mutable_accepted()->set_window_bytes(accepted->window_bytes);
  } else if (const auto* receipt = std::get_if<SignedReceipt>(&*outcome)) {
    Fill(*receipt, response->mutable_committed());
  } else {
    Fill(std::get<Refused>(*outcome), response->mutable_refusal());
  }
  return grpc::Status::OK;
}

grpc::Status FakeService::Upload(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::UploadReply, v1::UploadChunk>* stream) {
  v1::UploadChunk message;
  if (!stream->Read(&message)) return grpc::Status::OK;
  const auto far_stream = transport_->OpenUpload(message.upload_id());
  std::thread replies([&] {
    for (;;) {
      const auto reply = far_stream->Read();
      if (!reply.ok() || !reply->has_value()) return;
      v1::UploadReply out;
      if (const auto* next = std::get_if<uint64_t>(&**reply)) {
        out.set_next_chunk(*next);
      } else {
        Fill(std::get<Refused>(**reply), out.mutable_refusal());
      }
      stream->Write(out);
    }
  });
  bool open = true;
  do {
    ChunkBytes chunk;
    chunk.size = message.data().size();
    chunk.memory = std::shared_ptr<std::byte>(
        new std::byte[chunk.size], std::default_delete<std::byte[]>());
    std::copy(message.data().begin(), message.data().end(),
              reinterpret_cast<char*>(chunk.memory.get()));
    open = far_stream->Write(message.index(), chunk);
  } while (open && stream->Read(&message));
  if (open) far_stream->Done();
  replies.join();
  return ToGrpc(far_stream->Finish());
}

grpc::Status FakeService::CommitUpload(grpc::ServerContext*,
                                       const v1::CommitUploadRequest* request,
                                       v1::CommitUploadResponse* response) {
  const auto outcome = transport_->CommitUpload(
      request->upload_id(), Must(DigestOf(request->payload_sha256(), "")), {});
  if (!outcome.ok()) return ToGrpc(outcome.status());
  if (const auto* receipt = std::get_if<SignedReceipt>(&*outcome)) {
    Fill(*receipt, response->mutable_receipt());
  } else {
    Fill(std::get<Refused>(*outcome), response->mutable_refusal());
  }
  return grpc::Status::OK;
}

grpc::Status FakeService::Download(
    grpc::ServerContext*, const v1::DownloadRequest* request,
    grpc::ServerWriter<v1::DownloadChunk>* writer) {
  DownloadCall call;
  call.offset = request->offset();
  if (request->has_layout_digest()) {
    call.what = DownloadCall::What::kLayout;
    call.digest = Must(DigestOf(request->layout_digest(), ""));
  } else {
    call.digest = Must(DigestOf(request->version_digest(), ""));
  }
  bool first = true;
  return ToGrpc(transport_->Download(
      call,
      [&](uint64_t total, uint64_t offset, std::span<const std::byte> bytes) {
        v1::DownloadChunk chunk;
        if (first) chunk.set_total_bytes(total);
        first = false;
        chunk.set_offset(offset);
        chunk.set_data(std::string(AsChars(bytes)));
        return writer->Write(chunk) ? absl::OkStatus()
                                    : absl::CancelledError("gone");
      },
      {}));
}

grpc::Status FakeService::ReportEvaluation(
    grpc::ServerContext*, const v1::ReportEvaluationRequest* request,
    v1::ReportEvaluationResponse*) {
  std::map<std::string, double> metrics;
  for (const v1::NamedValue& metric : request->metrics()) {
    metrics[metric.name()] = metric.value();
  }
  return ToGrpc(
      transport_->ReportEvaluation({}, request->examples(), metrics, {})
          .status());
}

grpc::Status FakeService::Enroll(grpc::ServerContext*,
                                 const v1::EnrollRequest* request,
                                 v1::EnrollResponse* response) {
  if (!enrolment_errors.empty()) {
    const absl::Status error = enrolment_errors.front();
    enrolment_errors.pop_front();
    return ToGrpc(error);
  }
  if (request->token() != token) {
    return ToGrpc(
        absl::UnauthenticatedError("the token is wrong, used or expired"));
  }
  const auto chain =
      pki_->ca.IssuePeer(request->csr_pem(), pki_->Name("bank-a"), pki_->now,
                         kPeerLifetime, *SystemRandom());
  if (!chain.ok()) return ToGrpc(chain.status());
  response->set_protocol(1);
  response->set_federation("cards");
  response->set_uri("consilium://cards/institution/bank-a");
  response->set_certificate_chain_pem(*chain);
  response->set_root_ca_pem(pki_->ca.root_pem());
  response->set_signing_public_key(far_->Identity().signing_key.ToString());
  response->set_service_address("coordinator.example:7443");
  if (edit_enrolment) edit_enrolment(*response);
  return grpc::Status::OK;
}

GrpcCoordinator::GrpcCoordinator(bool enrolment) : enrolment_(enrolment) {
  const TlsIdentity identity = pki.Server();
  const auto write = [&](const char* name, std::string_view text) {
    CONSILIUM_CHECK(
        WriteFileAtomic(PosixFileSystem(), directory_ / name, AsBytes(text))
            .ok());
  };
  write("root.pem", identity.root_pem);
  write("server.pem", identity.chain_pem);
  write("server.key", identity.key_pem.Text(SecretAccess("test")));
  Start();
}

void GrpcCoordinator::Start() {
  ReloadableServerIdentity::Options options;
  options.files = {directory_ / "root.pem", directory_ / "server.pem",
                   directory_ / "server.key"};
  options.fs = PosixFileSystem();
  options.clock = SystemClock();
  auto identity = Must(ReloadableServerIdentity::Create(options));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(Cat("127.0.0.1:", port_),
                           enrolment_
                               ? MakeEnrollmentServerCredentials(identity)
                               : MakeServerCredentials(identity),
                           &port);
  ApplyServerOptions(ServerOptions(), builder);
  builder.RegisterService(
      static_cast<v1::FederationService::Service*>(&service));
  builder.RegisterService(
      static_cast<v1::EnrollmentService::Service*>(&service));
  server_ = builder.BuildAndStart();
  CONSILIUM_CHECK(server_ != nullptr);
  port_ = port;
}

void GrpcCoordinator::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::time_point());
  server_.reset();
}

void GrpcCoordinator::WriteIdentity(const std::string& directory,
                                    const TlsIdentity& identity) const {
  FileSystem* const fs = PosixFileSystem();
  const IdentityPaths paths(directory);
  const auto write = [&](const std::string& path, std::string_view text) {
    CONSILIUM_CHECK(WriteFileAtomic(fs, path, AsBytes(text)).ok());
  };
  CONSILIUM_CHECK(fs->MakeDirs(directory).ok());
  write(paths.tls.root, identity.root_pem);
  write(paths.tls.chain, identity.chain_pem);
  write(paths.tls.key, identity.key_pem.Text(SecretAccess("test")));
  write(paths.signing_key, Must(far.Identity().signing_key.ToPem()));
}

ClientOptions GrpcCoordinator::Options(const std::string& directory) const {
  ClientOptions options;
  options.coordinator = address();
  options.identity_dir = directory;
  options.retry.initial = absl::Milliseconds(5);
  options.retry.cap = absl::Milliseconds(50);
  options.proxy = "none";
  return options;
}

}  // namespace consilium::client::internal

#include "examples/local/local_federation.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <utility>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/random.h"
#include "consilium/secure/sha256.h"
#include "coordinator/app/init.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

std::string LastLine(const std::string& path) {
  std::ifstream in(path);
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalFederation>> LocalFederation::Create(
    LocalFederationOptions options) {
  std::unique_ptr<LocalFederation> out(new LocalFederation(std::move(options)));
  CONSILIUM_RETURN_IF_ERROR(out->Init());
  CONSILIUM_RETURN_IF_ERROR(out->StartCoordinator());
  CONSILIUM_RETURN_IF_ERROR(out->WaitUntilUp(absl::Seconds(30)));
  return out;
}

std::string LocalFederation::coordinator_dir() const {
  return JoinPath(options_.directory, "coordinator");
}
std::string LocalFederation::logs_dir() const {
  return JoinPath(options_.directory, "logs");
}
std::string LocalFederation::InstitutionDir(const std::string& name) const {
  return JoinPath(options_.directory, name);
}
std::string LocalFederation::address() const {
  return Cat("127.0.0.1:", port_);
}
std::string LocalFederation::enrollment_address() const {
  return Cat("127.0.0.1:", enrollment_port_);
}
std::string LocalFederation::metrics_address() const {
  return Cat("127.0.0.1:", metrics_port_);
}

absl::Status LocalFederation::Init() {
  FileSystem* const fs = PosixFileSystem();
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(logs_dir(), 0700));
  port_ = FreePort();
  enrollment_port_ = FreePort();
  metrics_port_ = FreePort();
  InitOptions init;
  init.directory = coordinator_dir();
  init.federation = options_.federation;
  init.hosts = {"127.0.0.1"};
  init.config = options_.config;
  init.config.listen.address = address();
  init.config.listen.enrollment_address = enrollment_address();
  init.config.listen.metrics_address = metrics_address();
  CONSILIUM_ASSIGN_OR_RETURN(
      const InitResult made,
      InitFederation(init, absl::Now(), fs, SystemRandom()));
  fingerprint_ = made.root_fingerprint;
  return ConnectAdmin();
}

absl::Status LocalFederation::ConnectAdmin() {
  const std::string folder = JoinPath(coordinator_dir(), "operator");
  CONSILIUM_ASSIGN_OR_RETURN(
      const TlsIdentity identity,
      LoadTlsIdentity(
          PosixFileSystem(),
          {JoinPath(folder, "ca.pem"), JoinPath(folder, "operator.pem"),
           JoinPath(folder, "operator.key")},
          CertificateUse::kClient, absl::Now()));
  ChannelOptions channel;
  channel.own_connection = true;
  // A coordinator that starts beside us is up in a moment.
  channel.reconnect_initial = absl::Milliseconds(20);
  channel.reconnect_cap = absl::Milliseconds(200);
  admin_ = v1::AdminService::NewStub(
      grpc::CreateCustomChannel(address(), MakeClientCredentials(identity),
                                MakeChannelArguments(channel)));
  return absl::OkStatus();
}

absl::Status LocalFederation::StartCoordinator() {
  coordinator_.reset();
  CONSILIUM_ASSIGN_OR_RETURN(
      coordinator_,
      Process::Start(
          {options_.coordinator_program.empty()
               ? JoinPath(OwnFolder(), "consilium-coordinator")
               : options_.coordinator_program,
           "--config", JoinPath(coordinator_dir(), "consilium.toml")},
          JoinPath(logs_dir(), "coordinator.log"), options_.environment));
  return absl::OkStatus();
}

absl::Status LocalFederation::WaitUntilUp(absl::Duration timeout) {
  const absl::Time until = absl::Now() + timeout;
  // Short ones first: a process that ends at its start is seen between calls.
  absl::Duration patience = absl::Milliseconds(200);
  for (;; patience = std::min(patience * 2, absl::Seconds(5))) {
    grpc::ClientContext context;
    // A call that fails fast would leave nobody to drive the connection.
    context.set_wait_for_ready(true);
    SetTimeout(context, patience);
    v1::StatusInfo status;
    const grpc::Status up = admin_->GetStatus(&context, {}, &status);
    if (up.ok()) return absl::OkStatus();
    const std::string log = JoinPath(logs_dir(), "coordinator.log");
    if (coordinator_->Poll().has_value()) {
      return absl::InternalError(Cat("the coordinator ended with code ",
                                     *coordinator_->Poll(), ": ", LastLine(log),
                                     " (", log, ")"));
    }
    if (absl::Now() > until) {
      return absl::DeadlineExceededError(
          Cat("the coordinator does not answer: ", up.error_message(), " (",
              log, ")"));
    }
    poll(nullptr, 0, 20);
  }
}

absl::Status LocalFederation::StopCoordinator() {
  coordinator_->Signal(SIGTERM);
  const int code = coordinator_->Wait(absl::Seconds(20));
  if (code == 0) return absl::OkStatus();
  return absl::InternalError(Cat("the coordinator ended with code ", code,
                                 "; see ",
                                 JoinPath(logs_dir(), "coordinator.log")));
}

absl::Status LocalFederation::SetPolicy(
    const std::map<std::string, std::string>& policy) {
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(20));
  v1::SetFederationRequest request;
  request.mutable_policy()->insert(policy.begin(), policy.end());
  v1::FederationInfo response;
  return FromPeer(admin_->SetFederation(&context, request, &response));
}

absl::Status LocalFederation::Enroll(const std::string& name) {
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(20));
  v1::InviteInstitutionRequest request;
  request.set_name(name);
  v1::InviteInstitutionResponse response;
  CONSILIUM_RETURN_IF_ERROR(
      FromPeer(admin_->InviteInstitution(&context, request, &response)));
  client::EnrollOptions options;
  options.coordinator = enrollment_address();
  options.token = response.token();
  options.ca_fingerprint = fingerprint_;
  options.directory = InstitutionDir(name);
  options.proxy = "none";
  return client::Enroll(options).status();
}

absl::StatusOr<v1::VersionInfo> LocalFederation::ImportVersion(
    const Layout& layout,
    const std::function<
        absl::StatusOr<std::span<const float>>(const TensorSlot&)>& values) {
  FileSystem* const fs = PosixFileSystem();
  const std::string path = JoinPath(options_.directory, "import.safetensors");
  OpenOptions open;
  open.write = open.create = open.truncate = true;
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             fs->Open(path, open));
  CONSILIUM_ASSIGN_OR_RETURN(
      const WrittenVersion written,
      WriteVersionFile(layout, layout.ComputeId(Sha256HasherFactory()), values,
                       Sha256HasherFactory(), file.get()));
  grpc::ClientContext context;
  SetTimeout(context, absl::Minutes(5));
  v1::VersionInfo response;
  const auto writer = admin_->ImportVersion(&context, &response);
  const int64_t total = written.info.file_bytes;
  constexpr int64_t kPiece = int64_t{1} << 20;
  for (int64_t at = 0; at < total; at += kPiece) {
    v1::ImportVersionChunk chunk;
    if (at == 0) {
      chunk.set_layout_text(layout.CanonicalText());
      chunk.set_sha256(std::string(AsChars(written.digest.bytes)));
      chunk.set_total_bytes(static_cast<uint64_t>(total));
    }
    std::string& data = *chunk.mutable_data();
    data.resize(static_cast<size_t>(std::min(kPiece, total - at)));
    CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
        file.get(), at,
        std::as_writable_bytes(std::span(data.data(), data.size()))));
    if (!writer->Write(chunk)) break;
  }
  writer->WritesDone();
  CONSILIUM_RETURN_IF_ERROR(FromPeer(writer->Finish()));
  CONSILIUM_RETURN_IF_ERROR(fs->Remove(path));
  return response;
}

absl::StatusOr<v1::RoundInfo> LocalFederation::StartRound() {
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(30));
  v1::RoundInfo response;
  CONSILIUM_RETURN_IF_ERROR(
      FromPeer(admin_->StartRound(&context, {}, &response)));
  return response;
}

absl::StatusOr<v1::RoundInfo> LocalFederation::WatchRound(
    uint64_t round, const std::function<void(const v1::RoundInfo&)>& on_change,
    absl::Duration timeout) {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  v1::WatchRoundRequest request;
  request.set_round(round);
  const auto reader = admin_->WatchRound(&context, request);
  v1::RoundInfo info;
  while (reader->Read(&info)) {
    if (on_change) on_change(info);
  }
  CONSILIUM_RETURN_IF_ERROR(FromPeer(reader->Finish()));
  return info;
}

absl::Status LocalFederation::Download(
    const v1::VersionRef& version,
    const std::function<absl::Status(std::span<const std::byte>)>& sink) {
  grpc::ClientContext context;
  SetTimeout(context, absl::Minutes(5));
  v1::DownloadRequest request;
  request.set_version_digest(version.digest());
  const auto reader = admin_->DownloadVersion(&context, request);
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  v1::DownloadChunk chunk;
  uint64_t bytes = 0;
  while (reader->Read(&chunk)) {
    hasher->Update(AsBytes(chunk.data()));
    bytes += chunk.data().size();
    CONSILIUM_RETURN_IF_ERROR(sink(AsBytes(chunk.data())));
  }
  CONSILIUM_RETURN_IF_ERROR(FromPeer(reader->Finish()));
  if (bytes != version.bytes() ||
      AsChars(hasher->Finish().bytes) != version.digest()) {
    return absl::DataLossError(Cat("version ", version.number(),
                                   " arrived damaged: ", bytes, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace consilium

#include "tests/integration/harness.h"

#include <gtest/gtest.h>

#include <fstream>
#include <utility>
#include <variant>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/random.h"
#include "consilium/secure/sha256.h"
#include "consilium/v1/enrollment.grpc.pb.h"
#include "coordinator/app/init.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value, std::string_view what) {
  if (!value.ok()) {
    ADD_FAILURE() << what << ": " << value.status();
    std::abort();  // nothing after it could make sense
  }
  return *std::move(value);
}
void Must(const grpc::Status& status, std::string_view what) {
  if (!status.ok()) {
    ADD_FAILURE() << what << ": " << status.error_message();
    std::abort();
  }
}

}  // namespace

Layout TestLayout() {
  std::vector<SlotSpec> slots;
  const auto add = [&](std::string name, std::vector<int64_t> shape,
                       const char* group) {
    SlotSpec slot;
    slot.name = std::move(name);
    slot.shape = std::move(shape);
    slot.group = *GroupName::Parse(group);
    slots.push_back(std::move(slot));
  };
  add("trunk.lora_a", {8, 300}, "shared");
  add("trunk.lora_b", {1000, 600}, "shared");
  add("experts.0.up", {64, 30}, "expert/0/0");
  add("experts.1.up", {64, 30}, "expert/0/1");
  return *Layout::Create(std::move(slots));
}

TestFederation::TestFederation(Options options) : options_(std::move(options)) {
  config_.federation.name = "cards";
  config_.sealing = options_.sealing;
  config_.listen.address = "127.0.0.1:0";
  config_.listen.enrollment_address = "127.0.0.1:0";
  config_.listen.metrics_address = "127.0.0.1:0";
  config_.storage.min_free_bytes = 0;
  if (options_.configure) options_.configure(config_);
  InitOptions init;
  init.directory = JoinPath(dir_.path(), "coordinator");
  init.federation = "cards";
  init.hosts = {"127.0.0.1"};
  init.config = config_;
  const InitResult made =
      Must(InitFederation(init, options_.clock->Now(), PosixFileSystem(),
                          SystemRandom()),
           "init");
  fingerprint_ = made.root_fingerprint;
  config_ = Must(LoadConfig(made.config_path), "config");
  logger_ = Must(Logger::Create(options_.log), "log");
  StartServer();
  if (!options_.policy.empty()) {
    v1::SetFederationRequest request;
    request.mutable_policy()->insert(options_.policy.begin(),
                                     options_.policy.end());
    v1::FederationInfo response;
    grpc::ClientContext context;
    Must(admin_->SetFederation(&context, request, &response), "policy");
  }
  if (options_.import_version0) {
    const absl::Status imported = Import(0.0f);
    if (!imported.ok()) {
      ADD_FAILURE() << "import: " << imported;
      std::abort();
    }
  }
}

TestFederation::~TestFederation() { Stop(); }

void TestFederation::StartServer() {
  held_.clear();
  server_ =
      Must(CoordinatorServer::Start(config_, logger_.get(),
                                    options_.coordinator_fs, options_.clock),
           "start");
  // A restart takes the same ports, as clients remember them.
  config_.listen.address = Cat("127.0.0.1:", server_->port());
  if (server_->enrollment_port() != 0) {
    config_.listen.enrollment_address =
        Cat("127.0.0.1:", server_->enrollment_port());
  }
  config_.listen.metrics_address = Cat("127.0.0.1:", server_->metrics_port());
  ConnectAdmin();
}

void TestFederation::ConnectAdmin() {
  const std::string folder = JoinPath(dir_.path(), "coordinator/operator");
  const TlsIdentity identity =
      Must(LoadTlsIdentity(
               PosixFileSystem(),
               {JoinPath(folder, "ca.pem"), JoinPath(folder, "operator.pem"),
                JoinPath(folder, "operator.key")},
               CertificateUse::kClient, absl::Now()),
           "operator identity");
  admin_ = v1::AdminService::NewStub(ChannelWith(identity));
}

std::shared_ptr<grpc::Channel> TestFederation::ChannelWith(
    const TlsIdentity& identity) const {
  ChannelOptions channel;
  channel.own_connection = true;
  // A peer that means harm does not keep to our limits.
  channel.max_message_bytes = 64 << 20;
  return grpc::CreateCustomChannel(address(), MakeClientCredentials(identity),
                                   MakeChannelArguments(channel));
}

TlsIdentity TestFederation::IdentityOf(const std::string& name) const {
  const std::string folder = JoinPath(dir_.path(), name);
  return Must(LoadTlsIdentity(PosixFileSystem(),
                              {JoinPath(folder, "root-ca.pem"),
                               JoinPath(folder, "client.pem"),
                               JoinPath(folder, "client.key")},
                              CertificateUse::kClient, absl::Now()),
              name);
}

TlsIdentity TestFederation::Issue(const PeerName& name, absl::Time issued_at,
                                  absl::Duration lifetime) const {
  const IssuingCa ca =
      Must(IssuingCa::LoadDirectory(
               PosixFileSystem(), JoinPath(dir_.path(), "coordinator/identity"),
               config_.federation.name, absl::Now()),
           "issuing CA");
  const TlsKey key = Must(TlsKey::Generate(), "key");
  TlsIdentity identity;
  identity.root_pem = ca.root_pem();
  identity.chain_pem =
      Must(ca.IssuePeer(Must(CreateCertificateRequest(key, ""), "request"),
                        name, issued_at, lifetime, *SystemRandom()),
           "certificate");
  identity.key_pem = Must(key.ToPem(), "key");
  identity.leaf = Must(ParseCertificate(identity.chain_pem), "certificate");
  return identity;
}

absl::Status TestFederation::Import(float value) {
  const Sha256Digest id = options_.layout.ComputeId(Sha256HasherFactory());
  const std::string path = JoinPath(dir_.path(), "import.safetensors");
  OpenOptions open;
  open.write = open.create = open.truncate = true;
  auto file = Must(PosixFileSystem()->Open(path, open), "version file");
  std::vector<float> values;
  const WrittenVersion written =
      Must(WriteVersionFile(
               options_.layout, id,
               [&](const TensorSlot& slot)
                   -> absl::StatusOr<std::span<const float>> {
                 values.assign(static_cast<size_t>(slot.elements), value);
                 return std::span<const float>(values);
               },
               Sha256HasherFactory(), file.get()),
           "version");
  const std::string bytes =
      Must(ReadWholeFile(PosixFileSystem(), path, int64_t{1} << 30), "version");
  grpc::ClientContext context;
  v1::VersionInfo response;
  auto writer = admin_->ImportVersion(&context, &response);
  constexpr size_t kPiece = size_t{1} << 20;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    v1::ImportVersionChunk chunk;
    if (at == 0) {
      chunk.set_layout_text(options_.layout.CanonicalText());
      chunk.set_sha256(std::string(AsChars(written.digest.bytes)));
      chunk.set_total_bytes(bytes.size());
    }
    chunk.set_data(bytes.substr(at, kPiece));
    if (!writer->Write(chunk)) break;
  }
  writer->WritesDone();
  return FromGrpc(writer->Finish());
}

std::string TestFederation::address() const {
  return Cat("127.0.0.1:", server_->port());
}
std::string TestFederation::enrollment_address() const {
  return Cat("127.0.0.1:", server_->enrollment_port());
}

void TestFederation::Stop() {
  admin_.reset();
  if (server_ == nullptr) return;
  const int ports[] = {server_->port(), server_->enrollment_port(),
                       server_->metrics_port()};
  server_->Stop();
  server_.reset();
  for (const int port : ports) held_.emplace_back(port);
}
void TestFederation::StartAgain() { StartServer(); }
void TestFederation::Restart() {
  Stop();
  StartAgain();
}

std::string TestFederation::Token(const std::string& name,
                                  const std::string& role) {
  v1::InviteInstitutionRequest request;
  request.set_name(name);
  request.set_role(role);
  v1::InviteInstitutionResponse response;
  grpc::ClientContext context;
  Must(admin_->InviteInstitution(&context, request, &response), "invite");
  return response.token();
}

void TestFederation::EnrollWith(const std::string& name,
                                const std::string& token) {
  client::EnrollOptions options;
  options.coordinator = enrollment_address();
  options.token = token;
  options.ca_fingerprint = fingerprint_;
  options.directory = JoinPath(dir_.path(), name);
  options.proxy = "none";
  Must(client::Enroll(options), "enrol");
}

TlsIdentity TestFederation::EnrollStaff(const std::string& name,
                                        const std::string& role) {
  return EnrollByHand(name, OperatorToken(name, role));
}

std::string TestFederation::OperatorToken(const std::string& name,
                                          const std::string& role) {
  v1::InviteOperatorRequest request;
  request.set_name(name);
  request.set_role(role);
  v1::InviteInstitutionResponse response;
  grpc::ClientContext context;
  Must(admin_->InviteOperator(&context, request, &response), "invite");
  return response.token();
}

absl::Status TestFederation::RevokeOperator(const std::string& name,
                                            const std::string& reason) {
  v1::RevokeOperatorRequest request;
  request.set_name(name);
  request.set_reason(reason);
  v1::OperatorInfo response;
  grpc::ClientContext context;
  return FromGrpc(admin_->RevokeOperator(&context, request, &response));
}

TlsIdentity TestFederation::EnrollByHand(const std::string& name,
                                         const std::string& token) {
  const TlsKey key = Must(TlsKey::Generate(), "key");
  const std::string root = Must(
      ReadWholeFile(PosixFileSystem(),
                    JoinPath(dir_.path(), "coordinator/identity/root-ca.pem"),
                    64 << 10),
      "root");
  const auto stub = v1::EnrollmentService::NewStub(grpc::CreateCustomChannel(
      enrollment_address(), MakeEnrollmentChannelCredentials(root),
      MakeChannelArguments({})));
  v1::EnrollRequest request;
  *request.mutable_protocol() = OwnProtocolRange();
  request.set_token(token);
  request.set_csr_pem(Must(CreateCertificateRequest(key, ""), "request"));
  v1::EnrollResponse response;
  grpc::ClientContext context;
  Must(stub->Enroll(&context, request, &response), "enrol");
  return Must(
      MakeTlsIdentity(response.root_ca_pem(), response.certificate_chain_pem(),
                      Must(key.ToPem(), "key"), CertificateUse::kClient,
                      absl::Now()),
      name);
}

client::ClientOptions TestFederation::OptionsFor(
    const std::string& name) const {
  client::ClientOptions options;
  options.coordinator = address();
  options.identity_dir = JoinPath(dir_.path(), name);
  options.proxy = "none";
  options.retry.initial = absl::Milliseconds(5);
  options.retry.cap = absl::Milliseconds(200);
  options.retry.give_up_after = absl::Seconds(60);
  return options;
}

std::unique_ptr<client::Client> TestFederation::Connect(
    const std::string& name) {
  return Must(client::Client::Connect(OptionsFor(name)), "connect");
}

absl::Status TestFederation::SetState(
    const std::string& name, v1::SetInstitutionStateRequest::Change change,
    const std::string& reason) {
  v1::SetInstitutionStateRequest request;
  request.set_name(name);
  request.set_change(change);
  request.set_reason(reason);
  v1::InstitutionInfo response;
  grpc::ClientContext context;
  return FromGrpc(admin_->SetInstitutionState(&context, request, &response));
}

uint64_t TestFederation::StartRound(
    const std::map<std::string, std::string>& overrides,
    const std::vector<std::string>& cohort) {
  v1::StartRoundRequest request;
  request.mutable_overrides()->insert(overrides.begin(), overrides.end());
  for (const std::string& name : cohort) request.add_cohort(name);
  v1::RoundInfo response;
  grpc::ClientContext context;
  Must(admin_->StartRound(&context, request, &response), "start round");
  return response.round();
}

v1::RoundInfo TestFederation::WaitForPhase(uint64_t round,
                                           const std::string& phase) {
  return WaitUntil(round, [&phase](const v1::RoundInfo& info) {
    return info.phase() == phase;
  });
}

v1::RoundInfo TestFederation::WaitUntil(
    uint64_t round, const std::function<bool(const v1::RoundInfo&)>& reached) {
  v1::WatchRoundRequest request;
  request.set_round(round);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  auto reader = admin_->WatchRound(&context, request);
  v1::RoundInfo info;
  while (reader->Read(&info)) {
    if (reached(info) || info.terminal()) break;
  }
  context.TryCancel();
  return info;
}

v1::RoundInfo TestFederation::WaitForEnd(uint64_t round) {
  return WaitForPhase(round, "");
}

std::vector<float> TestFederation::CurrentParameters(client::Client& client) {
  const auto current = engine().current_version();
  client::Version version;
  version.number = static_cast<uint64_t>(current->number);
  version.digest = current->digest;
  version.bytes = static_cast<uint64_t>(current->blob_bytes);
  const client::Parameters parameters =
      Must(client.OpenVersion(version), "open version");
  std::vector<float> flat;
  for (const TensorSlot& slot : layout().slots()) {
    const auto tensor = Must(parameters.Tensor(slot.name), "tensor");
    flat.insert(flat.end(), tensor.begin(), tensor.end());
  }
  return flat;
}

client::TrainTask WaitForTask(client::Client& client) {
  const client::Work work = Must(client.WaitForWork(absl::Seconds(60)), "work");
  const auto* const task = std::get_if<client::TrainTask>(&work);
  if (task == nullptr) {
    ADD_FAILURE() << "nothing to train";
    std::abort();  // nothing after it could make sense
  }
  return *task;
}

absl::StatusOr<client::SubmitOutcome> SubmitConstant(
    client::Client& client, const client::TrainTask& task, float value,
    uint64_t examples) {
  client::UpdateSource source;
  source.fill = [value](std::string_view, int64_t, std::span<float> out) {
    for (float& x : out) x = value;
    return absl::OkStatus();
  };
  source.report.examples = examples;
  return client.Submit(task, source);
}

}  // namespace consilium

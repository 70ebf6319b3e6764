// Certificates change while calls go on: the server's by command, by SIGHUP
// and by itself, an institution's before it ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/random.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/auth_context.h"
#include "proto/wire/status.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Of the certificate that the server shows to a new connection.
std::string ServerSerial(TestFederation& federation) {
  const TlsIdentity identity = federation.IdentityOf("bank-a");
  const auto stub =
      v1::FederationService::NewStub(federation.ChannelWith(identity));
  v1::HelloRequest request;
  request.mutable_protocol()->set_min(1);
  request.mutable_protocol()->set_max(1);
  v1::HelloResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(FromGrpc(stub->Hello(&context, request, &response)), IsOk());
  const auto pem = context.auth_context()->FindPropertyValues("x509_pem_cert");
  if (pem.size() != 1) return "none";
  const auto info = ParseCertificate(std::string(pem[0].data(), pem[0].size()));
  return info.ok() ? info->serial : std::string(info.status().message());
}

// Another certificate for the same key and names, as an operator's own CA
// tooling would leave it on the disk. Returns its serial.
std::string ReplaceServerCertificate(TestFederation& federation) {
  const CoordinatorConfig& config = federation.config();
  const auto ca = IssuingCa::LoadDirectory(
      federation.fs(), JoinPath(federation.dir(), "coordinator/identity"),
      config.federation.name, absl::Now());
  const auto key = TlsKey::LoadFile(federation.fs(), config.tls.server_key);
  const auto old =
      ReadWholeFile(federation.fs(), config.tls.server_certificate, 1 << 16);
  EXPECT_THAT(ca.status(), IsOk());
  EXPECT_THAT(key.status(), IsOk());
  EXPECT_THAT(old, IsOk());
  const auto names = ServerNamesOf(*old);
  EXPECT_THAT(names, IsOk());
  const auto chain = ca->IssueServer(*names, *key, absl::Now(),
                                     absl::Hours(24 * 30), *SystemRandom());
  EXPECT_THAT(chain, IsOk());
  EXPECT_OK(WriteFileAtomic(federation.fs(), config.tls.server_certificate,
                            AsBytes(*chain), 0600));
  return ParseCertificate(*chain)->serial;
}

TEST(ReloadTest, ANewServerCertificateIsShownWithoutARestart) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  const std::string before = ServerSerial(*f);
  // A long poll over the old connection, which must not notice.
  client::TrainTask task;
  std::thread waiting([&] { task = WaitForTask(f["bank-a"]); });
  v1::RenewServerCertificateRequest request;
  v1::CertificateInfo renewed;
  grpc::ClientContext context;
  ASSERT_THAT(
      FromGrpc(f->admin().RenewServerCertificate(&context, request, &renewed)),
      IsOk());
  EXPECT_NE(renewed.serial(), before);
  EXPECT_EQ(ServerSerial(*f), renewed.serial());
  const uint64_t id = f->StartRound();
  waiting.join();
  EXPECT_EQ(task.round, id);
  ExpectReceipt(SubmitConstant(f["bank-a"], task, 1, 1));
}

TEST(ReloadTest, ReloadTakesWhatLiesOnTheDisk) {
  TimedFederation f({}, {"bank-a"});
  const std::string before = ServerSerial(*f);
  const std::string placed = ReplaceServerCertificate(*f);
  EXPECT_EQ(ServerSerial(*f), before);
  ASSERT_OK(f->server().Reload());
  EXPECT_EQ(ServerSerial(*f), placed);
}

TEST(ReloadTest, ItLooksByItselfFromTimeToTime) {
  TimedFederation f({}, {"bank-a"});
  ServerSerial(*f);
  const std::string placed = ReplaceServerCertificate(*f);
  f.Advance(f->config().tls.reload_interval + absl::Seconds(1));
  EXPECT_EQ(ServerSerial(*f), placed);
}

TEST(ReloadTest, ABadFileLeavesTheOldCertificateInUse) {
  TimedFederation f({}, {"bank-a"});
  const std::string before = ServerSerial(*f);
  ASSERT_OK(WriteFileAtomic(f->fs(), f->config().tls.server_certificate,
                            AsBytes("no certificate"), 0600));
  EXPECT_FALSE(f->server().Reload().ok());
  EXPECT_EQ(ServerSerial(*f), before);
}

// A coordinator whose log is read by the test.
class ConfigReloadTest : public testing::Test {
 protected:
  ConfigReloadTest() {
    TestFederation::Options options;
    options.log.file = LogPath();
    options.log.level = LogLevel::kInfo;
    federation_ = std::make_unique<TestFederation>(std::move(options));
  }
  std::string LogPath() const { return JoinPath(dir_.path(), "log"); }
  std::string Log() const {
    const auto text = ReadWholeFile(PosixFileSystem(), LogPath(), 1 << 20);
    EXPECT_THAT(text, IsOk());
    return text.ok() ? *text : "";
  }
  // As SIGHUP finds it.
  absl::Status ReloadWith(const std::string& text) {
    const std::string path =
        JoinPath(federation_->dir(), "coordinator/consilium.toml");
    EXPECT_OK(WriteFileAtomic(PosixFileSystem(), path, AsBytes(text), 0600));
    return federation_->server().Reload(LoadConfig(path));
  }
  absl::Status ReloadWith(const CoordinatorConfig& config) {
    return ReloadWith(DefaultConfigText(config));
  }

  TempDir dir_;
  std::unique_ptr<TestFederation> federation_;
};

TEST_F(ConfigReloadTest, WhatCanChangeLiveDoesAndTheRestIsNamed) {
  // As the server was started; the harness knows the ports by now.
  CoordinatorConfig config = federation_->config();
  config.listen.address = "127.0.0.1:0";
  config.listen.enrollment_address = "127.0.0.1:0";
  config.listen.metrics_address = "127.0.0.1:0";
  ASSERT_OK(ReloadWith(config));
  EXPECT_THAT(Log(), Not(HasSubstr("reload: ")));

  const EngineOptions& running = federation_->engine().options();
  config.log.level = LogLevel::kWarn;
  config.limits.max_uploads = 7;
  config.limits.long_poll_timeout = absl::Seconds(3);
  config.storage.min_free_bytes = 4096;
  config.workers.fold_threads = 5;
  config.limits.max_metrics = 9;
  ASSERT_OK(ReloadWith(config));
  EXPECT_EQ(running.max_uploads, 7);
  EXPECT_EQ(running.long_poll.get(), absl::Seconds(3));
  EXPECT_EQ(federation_->engine().store().space().min_free_bytes(), 4096);
  EXPECT_EQ(running.fold_threads, CoordinatorConfig().workers.fold_threads);
  EXPECT_THAT(Log(), HasSubstr("changed, and in use after a restart: "
                               "limits.max_metrics, workers.fold_threads"));

  // The level was taken first: what is taken is no warning, and is not said.
  EXPECT_THAT(Log(), Not(HasSubstr("changed and in use")));
  config.log.level = LogLevel::kInfo;
  config.limits.max_uploads = 8;
  ASSERT_OK(ReloadWith(config));
  EXPECT_THAT(Log(), HasSubstr("changed and in use: limits.max_uploads, "
                               "log.level"));
}

TEST_F(ConfigReloadTest, ABrokenFileKeepsTheRunningConfiguration) {
  const int64_t uploads = federation_->engine().options().max_uploads;
  EXPECT_THAT(ReloadWith("[limits]\nmax_uploads = \"many\"\n"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(federation_->engine().options().max_uploads, uploads);
  EXPECT_THAT(Log(), HasSubstr("everything stays as it was: "));
  EXPECT_THAT(Log(), HasSubstr("limits.max_uploads"));
  federation_->Enroll("bank-a");
  EXPECT_EQ(federation_->Connect("bank-a")->info().federation, "cards");
}

TEST_F(ConfigReloadTest, ABrokenFileKeepsCertificatesAndLogToo) {
  federation_->Enroll("bank-a");
  const std::string before = ServerSerial(*federation_);
  ReplaceServerCertificate(*federation_);
  const std::string moved = LogPath() + ".1";
  ASSERT_OK(PosixFileSystem()->Rename(LogPath(), moved));
  EXPECT_FALSE(ReloadWith("[limits]\nmax_uploads = \"many\"\n").ok());
  EXPECT_EQ(ServerSerial(*federation_), before);
  EXPECT_FALSE(PosixFileSystem()->Exists(LogPath()));
}

TEST_F(ConfigReloadTest, ALogThatCannotBeOpenedKeepsNoCertificateOut) {
  federation_->Enroll("bank-a");
  const std::string placed = ReplaceServerCertificate(*federation_);
  ASSERT_OK(PosixFileSystem()->Remove(LogPath()));
  ASSERT_OK(PosixFileSystem()->MakeDirs(LogPath()));
  const absl::Status status = federation_->server().Reload();
  EXPECT_THAT(std::string(status.message()), HasSubstr("log.file"));
  EXPECT_EQ(ServerSerial(*federation_), placed);
}

TEST_F(ConfigReloadTest, AStartThatFailsLeavesItsReasonInTheLog) {
  LogOptions options;
  options.file = JoinPath(dir_.path(), "second");
  ASSERT_OK_AND_ASSIGN(const auto logger, Logger::Create(options));
  // The first one holds the store.
  EXPECT_FALSE(
      CoordinatorServer::Start(federation_->config(), logger.get()).ok());
  ASSERT_OK_AND_ASSIGN(const std::string log,
                       ReadWholeFile(PosixFileSystem(), options.file, 1 << 20));
  EXPECT_THAT(log, HasSubstr("cannot start: lock "));
}

TEST_F(ConfigReloadTest, AtDebugTheLogTellsOfEachCall) {
  CoordinatorConfig config = federation_->config();
  federation_->Token("bank-a");
  EXPECT_THAT(Log(), Not(HasSubstr("InviteInstitution")));
  config.log.level = LogLevel::kDebug;
  ASSERT_OK(ReloadWith(config));
  federation_->Token("bank-b");
  EXPECT_THAT(Log(), HasSubstr("[institution=admin] InviteInstitution: OK, "));
}

TEST(RenewalTest, AnInstitutionGetsANewKeyAndGoesOn) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  client::Client& a = f["bank-a"];
  const client::SessionInfo info = a.info();
  EXPECT_LT(info.renew_after, info.certificate_not_after);
  EXPECT_GT(info.renew_after, f.now());
  const uint64_t id = f->StartRound();
  const client::TrainTask task = WaitForTask(a);
  const TlsIdentity before = f->IdentityOf("bank-a");
  ASSERT_OK(a.Renew());
  const TlsIdentity after = f->IdentityOf("bank-a");
  EXPECT_NE(after.leaf.serial, before.leaf.serial);
  EXPECT_EQ(after.leaf.subject_uri, before.leaf.subject_uri);
  // The round goes on with the new certificate, and so does a new process.
  ExpectReceipt(SubmitConstant(a, task, 1, 100));
  Contribute(f["bank-b"], 3);
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  v1::GetInstitutionRequest request;
  request.set_name("bank-a");
  v1::InstitutionInfo known;
  grpc::ClientContext context;
  ASSERT_THAT(FromGrpc(f->admin().GetInstitution(&context, request, &known)),
              IsOk());
  EXPECT_EQ(known.certificates_size(), 2);
  // Revocation takes both away.
  ASSERT_OK(f->SetState("bank-a", v1::SetInstitutionStateRequest::REVOKE, ""));
  for (const TlsIdentity* identity : {&before, &after}) {
    const auto stub = v1::FederationService::NewStub(f->ChannelWith(*identity));
    v1::WaitForWorkRequest wait;
    v1::WaitForWorkResponse answer;
    grpc::ClientContext call;
    EXPECT_THAT(
        FromGrpc(stub->WaitForWork(&call, wait, &answer)),
        StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  }
}

}  // namespace
}  // namespace consilium

#include "consilium/secure/grpc/credentials.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "consilium/base/clock.h"
#include "consilium/base/mutex.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/grpc/whoami.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class CredentialsTest : public ::testing::Test {
 protected:
  const TestPki pki_ = TestPki::Create(SystemClock()->Now());
  const TlsIdentity bank_ = pki_.Peer("bank-a");
};

TEST_F(CredentialsTest, AMembersCertificateGivesItsNameAndSerial) {
  TestServer server(pki_, pki_.Server());
  TestClient client(server.port(), MakeClientCredentials(bank_));
  const Answer answer = client.Ask();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text,
            "consilium://cards/institution/bank-a " + bank_.leaf.serial);
  const TlsIdentity olga = pki_.Peer(pki_.Name("olga", PeerRole::kOperator),
                                     kPeerLifetime, pki_.now);
  TestClient admin(server.port(), MakeClientCredentials(olga));
  EXPECT_THAT(admin.Ask().text, HasSubstr("consilium://cards/operator/olga"));
}

// The handshake ends the attempt, so the call never reaches the service.
TEST_F(CredentialsTest, OtherCallersDoNotGetThroughTheHandshake) {
  TestServer server(pki_, pki_.Server());
  const auto refused = [&](std::shared_ptr<grpc::ChannelCredentials> creds) {
    return TestClient(server.port(), std::move(creds)).Ask().status;
  };
  EXPECT_EQ(refused(MakeEnrollmentChannelCredentials(pki_.ca.root_pem()))
                .error_code(),
            grpc::StatusCode::UNAVAILABLE)
      << "no certificate";
  EXPECT_EQ(refused(grpc::InsecureChannelCredentials()).error_code(),
            grpc::StatusCode::UNAVAILABLE)
      << "no TLS";

  TlsIdentity stranger = TestPki::Create(pki_.now).Peer("bank-a");
  stranger.root_pem = pki_.ca.root_pem();
  EXPECT_EQ(refused(MakeClientCredentials(stranger)).error_code(),
            grpc::StatusCode::UNAVAILABLE)
      << "another root";

  const TlsIdentity expired = pki_.Peer(pki_.Name("bank-a"), absl::Hours(1),
                                        pki_.now + kClockSkew - absl::Hours(2));
  EXPECT_EQ(refused(MakeClientCredentials(expired)).error_code(),
            grpc::StatusCode::UNAVAILABLE)
      << "expired";

  EXPECT_EQ(refused(MakeClientCredentials(pki_.Server())).error_code(),
            grpc::StatusCode::UNAVAILABLE)
      << "a server's certificate";
}

TEST_F(CredentialsTest, ClientsRefuseOtherServers) {
  const TestPki stranger = TestPki::Create(pki_.now);
  TestServer imposter(stranger, stranger.Server());
  TestClient deceived(imposter.port(), MakeClientCredentials(bank_));
  EXPECT_EQ(deceived.Ask().status.error_code(), grpc::StatusCode::UNAVAILABLE);

  TestServer elsewhere(pki_, pki_.Server({{"fl.example.org"}, false}));
  TestClient lost(elsewhere.port(), MakeClientCredentials(bank_));
  EXPECT_EQ(lost.Ask().status.error_code(), grpc::StatusCode::UNAVAILABLE);

  ChannelOptions named;
  named.server_name = "fl.example.org";
  TestClient tunnelled(elsewhere.port(), MakeClientCredentials(bank_), named);
  EXPECT_TRUE(tunnelled.Ask().status.ok());
}

// A member must not be able to pose as the coordinator.
TEST_F(CredentialsTest, AMembersCertificateMakesNoServer) {
  TempDir directory;
  ReloadableServerIdentity::Options options;
  options.files = {directory / "root.pem", directory / "a.pem",
                   directory / "a.key"};
  options.fs = PosixFileSystem();
  options.clock = SystemClock();
  ASSERT_OK(
      WriteFileAtomic(options.fs, options.files.root, AsBytes(bank_.root_pem)));
  ASSERT_OK(WriteFileAtomic(options.fs, options.files.chain,
                            AsBytes(bank_.chain_pem)));
  ASSERT_OK(WriteFileAtomic(options.fs, options.files.key,
                            bank_.key_pem.Bytes(SecretAccess("test"))));
  EXPECT_THAT(
      ReloadableServerIdentity::Create(options),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("purpose")));
}

TEST_F(CredentialsTest, ANewCertificateServesNewConnectionsWithoutARestart) {
  const TlsIdentity first = pki_.Server();
  const TlsIdentity second = pki_.Server();
  TestServer server(pki_, first);
  TestClient early(server.port(), MakeClientCredentials(bank_));
  EXPECT_EQ(early.Ask().server_serial, first.leaf.serial);

  server.Install(second);
  ASSERT_OK(server.identity().Reload());
  EXPECT_EQ(server.identity().leaf().serial, second.leaf.serial);
  TestClient late(server.port(), MakeClientCredentials(bank_));
  EXPECT_EQ(late.Ask().server_serial, second.leaf.serial);
  EXPECT_EQ(early.Ask().server_serial, first.leaf.serial)
      << "a live connection stays";
}

TEST_F(CredentialsTest, TheFilesAreLookedAtOncePerInterval) {
  const TlsIdentity first = pki_.Server();
  const TlsIdentity second = pki_.Server();
  TestServer server(pki_, first);
  server.Install(second);
  const auto serial = [&] {
    return TestClient(server.port(), MakeClientCredentials(bank_))
        .Ask()
        .server_serial;
  };
  EXPECT_EQ(serial(), first.leaf.serial);
  server.clock().Advance(absl::Seconds(59));
  EXPECT_EQ(serial(), first.leaf.serial);
  server.clock().Advance(absl::Seconds(1));
  EXPECT_EQ(serial(), second.leaf.serial);
}

TEST_F(CredentialsTest, ABadReloadKeepsWhatIsInUse) {
  const TlsIdentity first = pki_.Server();
  TestServer server(pki_, first);
  TlsIdentity mixed = pki_.Server();
  mixed.key_pem = pki_.Server().key_pem.Clone();
  server.Install(mixed);  // certificate and key of different pairs
  EXPECT_THAT(server.identity().Reload(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(server.identity().last_check(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  TestClient client(server.port(), MakeClientCredentials(bank_));
  EXPECT_EQ(client.Ask().server_serial, first.leaf.serial);
  server.Install(first);
  EXPECT_OK(server.identity().Reload());
  EXPECT_OK(server.identity().last_check());
}

TEST_F(CredentialsTest, CallsGoThroughAnHttpProxy) {
  TestServer server(pki_, pki_.Server());
  ConnectProxy proxy(server.port());
  ChannelOptions options;
  options.proxy = proxy.address("user:secret");
  // The name is for the proxy to find; the certificate must carry it.
  TestClient client(server.port(), MakeClientCredentials(bank_), options,
                    "coordinator.example");
  const Answer answer = client.Ask();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(proxy.heads().size(), 1u);
  EXPECT_THAT(proxy.heads()[0], HasSubstr("CONNECT coordinator.example:"));
  EXPECT_THAT(proxy.heads()[0],
              HasSubstr("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="));
}

TEST_F(CredentialsTest, MessagesAreBounded) {
  TestServer server(pki_, pki_.Server());
  ChannelOptions wide;
  wide.max_message_bytes = 8 << 20;
  TestClient client(server.port(), MakeClientCredentials(bank_), wide);
  EXPECT_TRUE(client.Ask(std::string(3 << 20, 'x')).status.ok());
  EXPECT_EQ(client.Ask(std::string(5 << 20, 'x')).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// Takes calls and ends each when it is told to; remembers how many it had.
class HoldingService final : public grpc::CallbackGenericService {
 public:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    void OnDone() override { delete this; }
  };

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext*) override {
    auto* const call = new Call;
    MutexLock lock(&mu_);
    calls_.push_back(call);
    most_ = std::max(most_, calls_.size());
    changed_.SignalAll();
    return call;
  }
  void WaitFor(size_t calls) {
    MutexLock lock(&mu_);
    while (calls_.size() < calls) changed_.Wait(&mu_);
  }
  void EndOne() {
    Call* call = nullptr;
    {
      MutexLock lock(&mu_);
      call = calls_.front();
      calls_.erase(calls_.begin());
    }
    call->Finish(grpc::Status::OK);
  }
  size_t most() {
    MutexLock lock(&mu_);
    return most_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<Call*> calls_ ABSL_GUARDED_BY(mu_);
  size_t most_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST(ServerOptionsTest, AConnectionHasSoManyCallsAtATime) {
  constexpr size_t kCalls = 7;
  HoldingService service;
  ServerOptions options;
  options.max_streams_per_connection = 2;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  ApplyServerOptions(options, builder);
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const auto channel = grpc::CreateChannel(
      HostPort{"127.0.0.1", static_cast<uint16_t>(port)}.ToString(),
      grpc::InsecureChannelCredentials());
  std::vector<std::thread> callers;
  for (size_t i = 0; i < kCalls; ++i) {
    callers.emplace_back([&] {
      grpc::ClientContext context;
      grpc::CompletionQueue queue;
      grpc::GenericStub stub(channel);
      const auto call = stub.PrepareCall(&context, "/test.Hold/Call", &queue);
      grpc::Status status;
      void* tag = nullptr;
      bool ok = false;
      call->StartCall(&queue);
      queue.Next(&tag, &ok);
      call->Finish(&status, &queue);
      queue.Next(&tag, &ok);
      EXPECT_TRUE(status.ok()) << status.error_message();
      queue.Shutdown();
    });
  }
  // Two are there; each that ends makes room for the next.
  for (size_t left = kCalls; left > 0; --left) {
    service.WaitFor(std::min<size_t>(left, 2));
    service.EndOne();
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(service.most(), 2u);
  server->Shutdown();
}

TEST_F(CredentialsTest, TwoServersDoNotShareAPort) {
  TestServer server(pki_, pki_.Server());
  WhoAmIService service("cards");
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(HostPort{"127.0.0.1", server.port()}.ToString(),
                           grpc::InsecureServerCredentials(), &port);
  ApplyServerOptions(ServerOptions(), builder);
  builder.RegisterCallbackGenericService(&service);
  EXPECT_EQ(builder.BuildAndStart(), nullptr);
}

int IntegerArgument(const grpc::ChannelArguments& arguments, const char* key) {
  const grpc_channel_args args = arguments.c_channel_args();
  for (size_t i = 0; i < args.num_args; ++i) {
    if (std::strcmp(args.args[i].key, key) == 0) {
      return args.args[i].value.integer;
    }
  }
  return -1;
}

TEST(ChannelTest, KeepaliveAndLimitsReachGrpc) {
  const grpc::ChannelArguments arguments = MakeChannelArguments({});
  const auto value = [&](const char* key) {
    return IntegerArgument(arguments, key);
  };
  EXPECT_EQ(value(GRPC_ARG_KEEPALIVE_TIME_MS), 30'000);
  EXPECT_EQ(value(GRPC_ARG_KEEPALIVE_TIMEOUT_MS), 10'000);
  EXPECT_EQ(value(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS), 1);
  EXPECT_EQ(value(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA), 0);
  EXPECT_EQ(value(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH), 4 << 20);
  EXPECT_EQ(value(GRPC_ARG_ENABLE_RETRIES), 0);
  EXPECT_EQ(value(GRPC_ARG_ENABLE_HTTP_PROXY), 0);
}

}  // namespace
}  // namespace consilium

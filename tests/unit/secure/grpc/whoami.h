// A server over real TLS that answers every call with the caller's identity,
// and a client for it. TLS checks certificates by the machine's clock, so here,
// and only here, certificates are issued by it, too.
#ifndef CONSILIUM_TESTS_UNIT_SECURE_GRPC_WHOAMI_H_
#define CONSILIUM_TESTS_UNIT_SECURE_GRPC_WHOAMI_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "consilium/base/bytes.h"
#include "consilium/base/clock.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/grpc/peer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {

inline grpc::ByteBuffer ToBuffer(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

inline std::string ToText(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

// Answers "<uri> <serial>", or the status of PeerAuthenticator.
class WhoAmIService final : public grpc::CallbackGenericService {
 public:
  explicit WhoAmIService(std::string federation)
      : authenticator_(std::move(federation)) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new Reactor(
        authenticator_.PeerOf(*context->auth_context(), SystemClock()->Now()));
  }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Reactor(absl::StatusOr<std::shared_ptr<const Peer>> peer)
        : peer_(std::move(peer)) {
      if (peer_.ok()) {
        StartRead(&request_);
      } else {
        Finish(
            grpc::Status(static_cast<grpc::StatusCode>(peer_.status().code()),
                         std::string(peer_.status().message())));
      }
    }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      answer_ = ToBuffer((*peer_)->name.Uri() + " " + (*peer_)->serial);
      StartWriteAndFinish(&answer_, {}, grpc::Status::OK);
    }
    void OnDone() override { delete this; }

   private:
    const absl::StatusOr<std::shared_ptr<const Peer>> peer_;
    grpc::ByteBuffer request_;
    grpc::ByteBuffer answer_;
  };

  PeerAuthenticator authenticator_;
};

// Its identity lies in files, as a coordinator's does.
class TestServer {
 public:
  explicit TestServer(const TestPki& pki, const TlsIdentity& identity,
                      bool enrollment = false)
      : service_(pki.federation) {
    Install(identity);
    ReloadableServerIdentity::Options options;
    options.files = files();
    options.fs = PosixFileSystem();
    options.clock = &clock_;
    clock_.JumpTo(pki.now);
    identity_ = Must(ReloadableServerIdentity::Create(options));
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0",
                             enrollment
                                 ? MakeEnrollmentServerCredentials(identity_)
                                 : MakeServerCredentials(identity_),
                             &port_);
    ApplyServerOptions(ServerOptions(), builder);
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    CONSILIUM_CHECK(server_ != nullptr);
  }
  // Calls that still run are cancelled.
  ~TestServer() { server_->Shutdown(std::chrono::system_clock::time_point()); }

  TlsIdentityFiles files() const {
    return {directory_ / "root.pem", directory_ / "server.pem",
            directory_ / "server.key"};
  }
  void Install(const TlsIdentity& identity) {
    Write(files().root, identity.root_pem);
    Write(files().chain, identity.chain_pem);
    Write(files().key,
          std::string(identity.key_pem.Text(SecretAccess("test"))));
  }
  void Write(const std::string& path, const std::string& text) {
    CONSILIUM_CHECK(
        WriteFileAtomic(PosixFileSystem(), path, AsBytes(text), 0600).ok());
  }

  uint16_t port() const { return static_cast<uint16_t>(port_); }
  FakeClock& clock() { return clock_; }
  ReloadableServerIdentity& identity() { return *identity_; }

 private:
  TempDir directory_;
  FakeClock clock_;  // of the reload interval, not of TLS
  WhoAmIService service_;
  std::shared_ptr<ReloadableServerIdentity> identity_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

struct Answer {
  grpc::Status status;
  std::string text;
  std::string server_serial;
};

class TestClient {
 public:
  TestClient(uint16_t port, std::shared_ptr<grpc::ChannelCredentials> creds,
             ChannelOptions options = {}, const std::string& host = "127.0.0.1")
      : channel_(grpc::CreateCustomChannel(HostPort{host, port}.ToString(),
                                           creds, MakeChannelArguments([&] {
                                             options.own_connection = true;
                                             return options;
                                           }()))),
        stub_(channel_) {}

  Answer Ask(const std::string& request = "who am I?") {
    grpc::ClientContext context;
    context.set_deadline(gpr_time_from_seconds(20, GPR_TIMESPAN));
    const grpc::ByteBuffer message = ToBuffer(request);
    grpc::ByteBuffer reply;
    Answer answer;
    absl::Notification done;
    stub_.UnaryCall(&context, "/test.WhoAmI/Ask", {}, &message, &reply,
                    [&](grpc::Status status) {
                      answer.status = std::move(status);
                      done.Notify();
                    });
    done.WaitForNotification();
    if (answer.status.ok()) {
      answer.text = ToText(reply);
      const auto pem = context.auth_context()->FindPropertyValues(
          GRPC_X509_PEM_CERT_PROPERTY_NAME);
      answer.server_serial =
          Must(ParseCertificate({pem[0].data(), pem[0].size()})).serial;
    }
    return answer;
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_SECURE_GRPC_WHOAMI_H_

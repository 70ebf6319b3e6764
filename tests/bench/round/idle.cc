#include "tests/bench/round/idle.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "consilium/base/file.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/v1/enrollment.grpc.pb.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"

namespace consilium::bench {
namespace {

// One institution: a connection and the long poll on it, asked again whenever
// it ends.
class Waiter {
 public:
  explicit Waiter(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)),
        stub_(v1::FederationService::NewStub(channel_)) {}

  bool Connect() {
    return channel_->WaitForConnected(std::chrono::system_clock::now() +
                                      std::chrono::seconds(60));
  }
  // The first answer tells the revision; from then on it waits.
  bool Begin() {
    grpc::ClientContext context;
    v1::WaitForWorkRequest request;
    v1::WaitForWorkResponse response;
    if (!stub_->WaitForWork(&context, request, &response).ok()) return false;
    request_.set_known_revision(response.revision());
    request_.set_max_wait_millis(25'000);
    Poll();
    return true;
  }
  // Milliseconds, or -1 where the call failed.
  double TimedCall() {
    grpc::ClientContext context;
    v1::ReportProgressRequest request;
    request.set_round(1);
    request.set_fraction(0.5);
    v1::ReportProgressResponse response;
    const absl::Time start = absl::Now();
    if (!stub_->ReportProgress(&context, request, &response).ok()) return -1;
    return absl::ToDoubleMilliseconds(absl::Now() - start);
  }

 private:
  void Poll() {
    context_ = std::make_unique<grpc::ClientContext>();
    stub_->async()->WaitForWork(context_.get(), &request_, &response_,
                                [this](const grpc::Status& status) {
                                  if (status.ok()) Poll();
                                });
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::FederationService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  v1::WaitForWorkRequest request_;
  v1::WaitForWorkResponse response_;
};

}  // namespace

int RunIdle(const std::string& service_address,
            const std::string& enrollment_address, const std::string& root_path,
            int count, int calls) {
  rlimit files{65536, 65536};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const auto root = ReadWholeFile(PosixFileSystem(), root_path, 64 << 10);
  if (!root.ok()) return 1;
  // A connection may bring few enrolments: each has its own, as in life.
  ChannelOptions own;
  own.own_connection = true;
  std::vector<std::unique_ptr<Waiter>> waiters;
  for (int i = 0; i < count; ++i) {
    std::string token;
    if (!std::getline(std::cin, token)) return 1;
    const auto key = TlsKey::Generate();
    const auto csr = CreateCertificateRequest(*key, "idle");
    grpc::ClientContext context;
    v1::EnrollRequest request;
    *request.mutable_protocol() = OwnProtocolRange();
    request.set_token(token);
    request.set_csr_pem(*csr);
    v1::EnrollResponse response;
    const grpc::Status enrolled =
        v1::EnrollmentService::NewStub(
            grpc::CreateCustomChannel(enrollment_address,
                                      MakeEnrollmentChannelCredentials(*root),
                                      MakeChannelArguments(own)))
            ->Enroll(&context, request, &response);
    if (!enrolled.ok()) {
      std::fprintf(stderr, "idle: %s\n", enrolled.error_message().c_str());
      return 1;
    }
    auto identity =
        MakeTlsIdentity(*root, response.certificate_chain_pem(), *key->ToPem(),
                        CertificateUse::kClient, absl::Now());
    if (!identity.ok()) return 1;
    waiters.push_back(std::make_unique<Waiter>(grpc::CreateCustomChannel(
        service_address, MakeClientCredentials(*identity),
        MakeChannelArguments(own))));
    if (!waiters.back()->Connect() || !waiters.back()->Begin()) {
      std::fprintf(stderr, "idle: institution %d cannot connect\n", i);
      return 1;
    }
  }
  std::cout << "waiting" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<double> millis;
    for (int i = 0; i < calls; ++i) {
      millis.push_back(
          waiters[static_cast<size_t>(i) % waiters.size()]->TimedCall());
    }
    std::sort(millis.begin(), millis.end());
    if (millis.front() < 0) {
      std::fprintf(stderr, "idle: a call was refused\n");
      return 1;
    }
    std::cout << millis[millis.size() * 99 / 100] << std::endl;
  }
  // The long polls are still pending: end without running destructors.
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace consilium::bench

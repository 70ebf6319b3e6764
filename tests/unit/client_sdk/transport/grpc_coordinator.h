// The fake coordinator of the session's tests behind real gRPC and real TLS on
// loopback. TLS goes by the machine's clock, and so do the certificates here.
#ifndef CONSILIUM_TESTS_UNIT_CLIENT_SDK_TRANSPORT_GRPC_COORDINATOR_H_
#define CONSILIUM_TESTS_UNIT_CLIENT_SDK_TRANSPORT_GRPC_COORDINATOR_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "consilium/client/options.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/v1/enrollment.grpc.pb.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client_sdk/session/fake_coordinator.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium::client::internal {

// FederationService and EnrollmentService over a FakeCoordinator.
class FakeService final : public v1::FederationService::Service,
                          public v1::EnrollmentService::Service {
 public:
  FakeService(FakeCoordinator* far, const TestPki* pki)
      : far_(far), pki_(pki), transport_(far->NewTransport()) {}

  grpc::Status Hello(grpc::ServerContext*, const v1::HelloRequest*,
                     v1::HelloResponse* response) override;
  grpc::Status RenewCertificate(
      grpc::ServerContext*, const v1::RenewCertificateRequest* request,
      v1::RenewCertificateResponse* response) override;
  grpc::Status WaitForWork(grpc::ServerContext*,
                           const v1::WaitForWorkRequest* request,
                           v1::WaitForWorkResponse* response) override;
  grpc::Status ReportProgress(grpc::ServerContext*,
                              const v1::ReportProgressRequest* request,
                              v1::ReportProgressResponse* response) override;
  grpc::Status Decline(grpc::ServerContext*, const v1::DeclineRequest* request,
                       v1::DeclineResponse* response) override;
  grpc::Status BeginUpload(grpc::ServerContext*,
                           const v1::BeginUploadRequest* request,
                           v1::BeginUploadResponse* response) override;
  grpc::Status Upload(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::UploadReply, v1::UploadChunk>* stream)
      override;
  grpc::Status CommitUpload(grpc::ServerContext*,
                            const v1::CommitUploadRequest* request,
                            v1::CommitUploadResponse* response) override;
  grpc::Status Download(grpc::ServerContext*,
                        const v1::DownloadRequest* request,
                        grpc::ServerWriter<v1::DownloadChunk>* writer) override;
  grpc::Status ReportEvaluation(
      grpc::ServerContext*, const v1::ReportEvaluationRequest* request,
      v1::ReportEvaluationResponse* response) override;
  grpc::Status Enroll(grpc::ServerContext*, const v1::EnrollRequest* request,
                      v1::EnrollResponse* response) override;

  // What Enroll takes, and a way to spoil its answer.
  std::string token;
  std::function<void(v1::EnrollResponse&)> edit_enrolment;
  // Answers to the next calls of Enroll, instead of a certificate.
  std::deque<absl::Status> enrolment_errors;

 private:
  FakeCoordinator* const far_;
  const TestPki* const pki_;
  const std::unique_ptr<Transport> transport_;
};

// A server on a port of its own; Stop and Start again keep the port.
class GrpcCoordinator {
 public:
  explicit GrpcCoordinator(bool enrolment = false);
  ~GrpcCoordinator() { Stop(); }

  void Start();
  void Stop();  // cuts every call
  int port() const { return port_; }
  std::string address() const { return Cat("localhost:", port_); }

  // An identity directory of bank-a.
  void WriteIdentity(const std::string& directory,
                     const TlsIdentity& identity) const;
  // For that directory, with short waits.
  ClientOptions Options(const std::string& directory) const;

  FakeClock clock{SystemClock()->Now()};
  const TestPki pki = TestPki::Create(SystemClock()->Now());
  FakeCoordinator far{&clock};
  FakeService service{&far, &pki};

 private:
  const bool enrolment_;
  TempDir directory_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_TESTS_UNIT_CLIENT_SDK_TRANSPORT_GRPC_COORDINATOR_H_

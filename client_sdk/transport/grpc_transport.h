#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_TRANSPORT_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_TRANSPORT_H_

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/session/identity.h"
#include "client_sdk/session/transport.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "grpcpp/channel.h"

namespace consilium::client::internal {

// Transport over gRPC with mutual TLS. One channel, which is one connection;
// Reconnect() makes another, and calls under way finish on the old one.
class GrpcTransport final : public Transport {
 public:
  struct Options {
    std::string target;  // host:port
    IdentityPaths identity;
    ChannelOptions channel;
    FileSystem* fs = nullptr;  // not owned
    Clock* clock = nullptr;    // not owned
  };
  // Errors: those of LoadTlsIdentity.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(Options options);

  absl::StatusOr<Greeting> Hello(const HelloCall& call,
                                 const CallContext& context) override;
  absl::StatusOr<std::string> RenewCertificate(
      const std::string& csr_pem, const CallContext& context) override;
  absl::StatusOr<WorkReply> WaitForWork(uint64_t known_revision,
                                        absl::Duration max_wait,
                                        const CallContext& context) override;
  absl::StatusOr<ProgressReply> ReportProgress(
      const RoundRef& round, double fraction, std::string_view text,
      const CallContext& context) override;
  absl::StatusOr<std::optional<Refused>> Decline(
      const RoundRef& round, std::string_view reason, bool evaluation,
      const CallContext& context) override;
  absl::StatusOr<BeginOutcome> BeginUpload(const Manifest& manifest,
                                           const CallContext& context) override;
  absl::StatusOr<CommitOutcome> CommitUpload(
      const std::string& upload_id, const Sha256Digest& payload_digest,
      const CallContext& context) override;
  absl::StatusOr<std::optional<Refused>> ReportEvaluation(
      const EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics,
      const CallContext& context) override;
  std::unique_ptr<UploadStream> OpenUpload(
      const std::string& upload_id) override;
  absl::Status Download(const DownloadCall& call, const DownloadSink& sink,
                        const CallContext& context) override;
  absl::Status Reconnect() override;

 private:
  // What calls hold on to while they run.
  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::FederationService::Stub> stub;
  };

  explicit GrpcTransport(Options options) : options_(std::move(options)) {}
  std::shared_ptr<const Connection> connection() const;

  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::FederationService::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response,
                    const CallContext& context);

  const Options options_;
  mutable Mutex mutex_;
  std::shared_ptr<const Connection> connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_GRPC_TRANSPORT_H_

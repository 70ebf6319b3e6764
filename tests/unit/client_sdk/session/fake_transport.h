// The wire between a session and a FakeCoordinator.
#ifndef CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_TRANSPORT_H_
#define CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_TRANSPORT_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "client_sdk/session/transport.h"
#include "tests/unit/client_sdk/session/fake_coordinator.h"

namespace consilium::client::internal {

class FakeTransport final : public Transport {
 public:
  explicit FakeTransport(FakeCoordinator* far) : far_(far) {}

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
  absl::Status Reconnect() override { return absl::OkStatus(); }

 private:
  // One unary call: counts the step, applies the fault, runs `effect`.
  template <typename T, typename Effect>
  absl::StatusOr<T> Unary(const char* what, const CallContext& context,
                          const Effect& effect);

  FakeCoordinator* const far_;
};

// One upload stream.
class FakeStream final : public UploadStream {
 public:
  FakeStream(FakeCoordinator* far, std::string upload_id);

  bool Write(uint64_t index, ChunkBytes chunk) override;
  void Done() override;
  absl::StatusOr<std::optional<UploadReply>> Read() override;
  absl::Status Finish() override;
  void Cancel() override;

 private:
  using Upload = FakeCoordinator::Upload;
  Upload* Find() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_);
  void End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_);
  void Ack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_);
  bool Cut() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_);

  FakeCoordinator* const far_;
  const std::string upload_id_;
  uint64_t epoch_ = 0;
  // All under far_->mutex_.
  std::deque<UploadReply> replies_;
  int taken_ = 0;
  bool ended_ = false;
  absl::Status status_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_TRANSPORT_H_

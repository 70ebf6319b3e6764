// A transport that tells of each of its steps, for tests that do something to
// an institution between any two of them.

#ifndef CONSILIUM_TESTS_INTEGRATION_HOOKED_TRANSPORT_H_
#define CONSILIUM_TESTS_INTEGRATION_HOOKED_TRANSPORT_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "client_sdk/session/session.h"
#include "client_sdk/session/timer_thread.h"
#include "client_sdk/transport/make_transport.h"
#include "consilium/base/clock.h"
#include "consilium/base/retry.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/secure/random.h"

namespace consilium {

// Called before a call leaves and after its answer has come, before a chunk is
// sent and after it was handed over. On any thread of the SDK.
using StepHook = std::function<void(std::string_view label)>;

class HookedTransport final : public client::internal::Transport {
 public:
  HookedTransport(std::unique_ptr<client::internal::Transport> inner,
                  StepHook hook)
      : inner_(std::move(inner)), hook_(std::move(hook)) {}

  absl::StatusOr<client::internal::Greeting> Hello(
      const client::internal::HelloCall& call,
      const client::internal::CallContext& context) override {
    return Around("Hello", [&] { return inner_->Hello(call, context); });
  }
  absl::StatusOr<std::string> RenewCertificate(
      const std::string& csr_pem,
      const client::internal::CallContext& context) override {
    return inner_->RenewCertificate(csr_pem, context);
  }
  absl::StatusOr<client::internal::WorkReply> WaitForWork(
      uint64_t known_revision, absl::Duration max_wait,
      const client::internal::CallContext& context) override {
    return Around("WaitForWork", [&] {
      return inner_->WaitForWork(known_revision, max_wait, context);
    });
  }
  absl::StatusOr<client::internal::ProgressReply> ReportProgress(
      const client::internal::RoundRef& round, double fraction,
      std::string_view text,
      const client::internal::CallContext& context) override {
    return Around("ReportProgress", [&] {
      return inner_->ReportProgress(round, fraction, text, context);
    });
  }
  absl::StatusOr<std::optional<client::Refused>> Decline(
      const client::internal::RoundRef& round, std::string_view reason,
      bool evaluation, const client::internal::CallContext& context) override {
    return inner_->Decline(round, reason, evaluation, context);
  }
  absl::StatusOr<client::internal::BeginOutcome> BeginUpload(
      const client::internal::Manifest& manifest,
      const client::internal::CallContext& context) override {
    return Around("BeginUpload",
                  [&] { return inner_->BeginUpload(manifest, context); });
  }
  absl::StatusOr<client::internal::CommitOutcome> CommitUpload(
      const std::string& upload_id, const Sha256Digest& payload_digest,
      const client::internal::CallContext& context) override {
    return Around("CommitUpload", [&] {
      return inner_->CommitUpload(upload_id, payload_digest, context);
    });
  }
  absl::StatusOr<std::optional<client::Refused>> ReportEvaluation(
      const client::EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics,
      const client::internal::CallContext& context) override {
    return Around("ReportEvaluation", [&] {
      return inner_->ReportEvaluation(task, examples, metrics, context);
    });
  }
  std::unique_ptr<client::internal::UploadStream> OpenUpload(
      const std::string& upload_id) override;
  absl::Status Download(const client::internal::DownloadCall& call,
                        const client::internal::DownloadSink& sink,
                        const client::internal::CallContext& context) override {
    return Around("Download", [&] {
      return inner_->Download(
          call,
          [&](uint64_t total, uint64_t offset,
              std::span<const std::byte> bytes) {
            hook_("part of a download");
            return sink(total, offset, bytes);
          },
          context);
    });
  }
  absl::Status Reconnect() override { return inner_->Reconnect(); }

 private:
  template <typename Call>
  std::invoke_result_t<const Call&> Around(const char* name, const Call& call) {
    hook_(Cat("call ", name));
    auto result = call();
    hook_(Cat("after ", name));
    return result;
  }

  const std::unique_ptr<client::internal::Transport> inner_;
  const StepHook hook_;
};

class HookedStream final : public client::internal::UploadStream {
 public:
  HookedStream(std::unique_ptr<client::internal::UploadStream> inner,
               StepHook hook)
      : inner_(std::move(inner)), hook_(std::move(hook)) {}
  bool Write(uint64_t index, client::internal::ChunkBytes chunk) override {
    hook_(Cat("send chunk ", index));
    const bool open = inner_->Write(index, std::move(chunk));
    hook_(Cat("after chunk ", index));
    return open;
  }
  void Done() override { inner_->Done(); }
  absl::StatusOr<std::optional<client::internal::UploadReply>> Read() override {
    auto reply = inner_->Read();
    hook_("take an acknowledgement");
    return reply;
  }
  absl::Status Finish() override { return inner_->Finish(); }
  void Cancel() override { inner_->Cancel(); }

 private:
  const std::unique_ptr<client::internal::UploadStream> inner_;
  const StepHook hook_;
};

inline std::unique_ptr<client::internal::UploadStream>
HookedTransport::OpenUpload(const std::string& upload_id) {
  return std::make_unique<HookedStream>(inner_->OpenUpload(upload_id), hook_);
}

// As Client::Connect, with steps.
inline absl::StatusOr<std::unique_ptr<client::Client>> ConnectHooked(
    const client::ClientOptions& options, FileSystem* fs, StepHook hook) {
  client::internal::Session::Parts parts;
  parts.options = options;
  parts.deps.fs = fs;
  parts.deps.clock = SystemClock();
  parts.deps.sleeper = SystemSleeper();
  parts.deps.random = SystemRandom();
  parts.runner =
      std::make_unique<client::internal::TimerThread>(parts.deps.clock);
  CONSILIUM_ASSIGN_OR_RETURN(parts.lock,
                             client::internal::LockState(fs, options));
  CONSILIUM_ASSIGN_OR_RETURN(
      parts.identity, client::internal::LoadIdentity(fs, options.identity_dir,
                                                     parts.deps.clock->Now()));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<client::internal::Transport> transport,
      client::internal::MakeGrpcTransport(options));
  parts.transport =
      std::make_unique<HookedTransport>(std::move(transport), std::move(hook));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<client::internal::Session> session,
      client::internal::Session::Create(std::move(parts), CancelToken()));
  return std::make_unique<client::Client>(std::move(session));
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_HOOKED_TRANSPORT_H_

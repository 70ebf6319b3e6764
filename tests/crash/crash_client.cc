// One institution in one round, for tests that kill it: a session of the SDK
// over the real transport, which announces every change of a file, every call
// and every chunk to the kill switch that CONSILIUM_KILL_SWITCH names. Ends
// with 0 once the round has its contribution and its evaluation.
//   crash_client COORDINATOR IDENTITY_DIR ROUND DELTA EXAMPLES

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "client_sdk/session/session.h"
#include "client_sdk/session/timer_thread.h"
#include "client_sdk/transport/make_transport.h"
#include "consilium/base/retry.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/secure/random.h"
#include "consilium/secure/tls13.h"
#include "tests/crash/kill_switch.h"

namespace consilium {
namespace {

namespace internal = client::internal;

// Steps before a call leaves and after its answer has come.
class KillingTransport final : public internal::Transport {
 public:
  KillingTransport(std::unique_ptr<internal::Transport> inner, KillSwitch* kill)
      : inner_(std::move(inner)), kill_(kill) {}

  absl::StatusOr<internal::Greeting> Hello(
      const internal::HelloCall& call,
      const internal::CallContext& context) override {
    return Around("Hello", [&] { return inner_->Hello(call, context); });
  }
  absl::StatusOr<std::string> RenewCertificate(
      const std::string& csr_pem,
      const internal::CallContext& context) override {
    return inner_->RenewCertificate(csr_pem, context);
  }
  absl::StatusOr<internal::WorkReply> WaitForWork(
      uint64_t known_revision, absl::Duration max_wait,
      const internal::CallContext& context) override {
    return Around("WaitForWork", [&] {
      return inner_->WaitForWork(known_revision, max_wait, context);
    });
  }
  absl::StatusOr<internal::ProgressReply> ReportProgress(
      const internal::RoundRef& round, double fraction, std::string_view text,
      const internal::CallContext& context) override {
    return Around("ReportProgress", [&] {
      return inner_->ReportProgress(round, fraction, text, context);
    });
  }
  absl::StatusOr<std::optional<client::Refused>> Decline(
      const internal::RoundRef& round, std::string_view reason, bool evaluation,
      const internal::CallContext& context) override {
    return inner_->Decline(round, reason, evaluation, context);
  }
  absl::StatusOr<internal::BeginOutcome> BeginUpload(
      const internal::Manifest& manifest,
      const internal::CallContext& context) override {
    return Around("BeginUpload",
                  [&] { return inner_->BeginUpload(manifest, context); });
  }
  absl::StatusOr<internal::CommitOutcome> CommitUpload(
      const std::string& upload_id, const Sha256Digest& payload_digest,
      const internal::CallContext& context) override {
    return Around("CommitUpload", [&] {
      return inner_->CommitUpload(upload_id, payload_digest, context);
    });
  }
  absl::StatusOr<std::optional<client::Refused>> ReportEvaluation(
      const client::EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics,
      const internal::CallContext& context) override {
    return Around("ReportEvaluation", [&] {
      return inner_->ReportEvaluation(task, examples, metrics, context);
    });
  }
  std::unique_ptr<internal::UploadStream> OpenUpload(
      const std::string& upload_id) override;
  absl::Status Download(const internal::DownloadCall& call,
                        const internal::DownloadSink& sink,
                        const internal::CallContext& context) override {
    return Around("Download", [&] {
      return inner_->Download(
          call,
          [&](uint64_t total, uint64_t offset,
              std::span<const std::byte> bytes) {
            kill_->Step("part of a download");
            return sink(total, offset, bytes);
          },
          context);
    });
  }
  absl::Status Reconnect() override { return inner_->Reconnect(); }

 private:
  template <typename Call>
  std::invoke_result_t<const Call&> Around(const char* name, const Call& call) {
    kill_->Step(Cat("call ", name));
    auto result = call();
    kill_->Step(Cat("after ", name));
    return result;
  }

  const std::unique_ptr<internal::Transport> inner_;
  KillSwitch* const kill_;
};

class KillingStream final : public internal::UploadStream {
 public:
  KillingStream(std::unique_ptr<internal::UploadStream> inner, KillSwitch* kill)
      : inner_(std::move(inner)), kill_(kill) {}
  bool Write(uint64_t index, internal::ChunkBytes chunk) override {
    kill_->Step(Cat("send chunk ", index));
    return inner_->Write(index, std::move(chunk));
  }
  void Done() override { inner_->Done(); }
  absl::StatusOr<std::optional<internal::UploadReply>> Read() override {
    auto reply = inner_->Read();
    kill_->Step("take an acknowledgement");
    return reply;
  }
  absl::Status Finish() override { return inner_->Finish(); }
  void Cancel() override { inner_->Cancel(); }

 private:
  const std::unique_ptr<internal::UploadStream> inner_;
  KillSwitch* const kill_;
};

std::unique_ptr<internal::UploadStream> KillingTransport::OpenUpload(
    const std::string& upload_id) {
  return std::make_unique<KillingStream>(inner_->OpenUpload(upload_id), kill_);
}

// As Client::Connect, with steps.
absl::StatusOr<std::unique_ptr<client::Client>> Connect(
    const client::ClientOptions& options, FileSystem* fs, KillSwitch* kill) {
  internal::Session::Parts parts;
  parts.options = options;
  parts.deps.fs = fs;
  parts.deps.clock = SystemClock();
  parts.deps.sleeper = SystemSleeper();
  parts.deps.random = SystemRandom();
  parts.runner = std::make_unique<internal::TimerThread>(parts.deps.clock);
  CONSILIUM_ASSIGN_OR_RETURN(parts.lock, internal::LockState(fs, options));
  CONSILIUM_ASSIGN_OR_RETURN(parts.identity,
                             internal::LoadIdentity(fs, options.identity_dir,
                                                    parts.deps.clock->Now()));
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<internal::Transport> transport,
                             internal::MakeGrpcTransport(options));
  parts.transport =
      std::make_unique<KillingTransport>(std::move(transport), kill);
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<internal::Session> session,
      internal::Session::Create(std::move(parts), CancelToken()));
  return std::make_unique<client::Client>(std::move(session));
}

absl::Status Train(client::Client& session, const client::TrainTask& task,
                   float delta, uint64_t examples, KillSwitch* kill) {
  CONSILIUM_RETURN_IF_ERROR(session.OpenVersion(task.base).status());
  kill->Step("train");
  kill->Count();
  CONSILIUM_RETURN_IF_ERROR(
      session.ReportProgress(task, 0.5, "half way").status());
  client::UpdateSource source;
  source.fill = [&](std::string_view, int64_t, std::span<float> out) {
    kill->Step("encode");
    std::fill(out.begin(), out.end(), delta);
    return absl::OkStatus();
  };
  source.report.examples = examples;
  source.report.metrics["loss"] = 0.5;
  return session.Submit(task, source).status();
}

// Until this round is evaluated.
absl::Status TakePart(client::Client& session, uint64_t round, float delta,
                      uint64_t examples, KillSwitch* kill) {
  CONSILIUM_RETURN_IF_ERROR(session.ResumePending().status());
  for (;;) {
    // Short, since an earlier life may have left nothing to wait for.
    CONSILIUM_ASSIGN_OR_RETURN(const client::Work work,
                               session.WaitForWork(absl::Milliseconds(300)));
    if (const auto* train = std::get_if<client::TrainTask>(&work)) {
      CONSILIUM_RETURN_IF_ERROR(Train(session, *train, delta, examples, kill));
    } else if (const auto* task = std::get_if<client::EvaluateTask>(&work)) {
      CONSILIUM_RETURN_IF_ERROR(session.OpenVersion(task->candidate).status());
      kill->Step("evaluate");
      CONSILIUM_RETURN_IF_ERROR(
          session.ReportEvaluation(*task, 50, {{"loss", 0.25}}).status());
      if (task->round == round) return absl::OkStatus();
    } else if (const auto& current = std::get<client::Idle>(work).current;
               current.has_value() && current->number >= round) {
      return absl::OkStatus();  // it was evaluated by an earlier life
    }
  }
}

absl::Status Run(char** argv) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<KillSwitch> kill,
      KillSwitch::Open(std::getenv("CONSILIUM_KILL_SWITCH")));
  CONSILIUM_RETURN_IF_ERROR(ConfigureTls13Only());
  KillingFileSystem fs(PosixFileSystem(), kill.get());
  client::ClientOptions options;
  options.coordinator = argv[1];
  options.identity_dir = argv[2];
  options.proxy = "none";
  options.retry.initial = absl::Milliseconds(5);
  options.retry.cap = absl::Milliseconds(100);
  CONSILIUM_ASSIGN_OR_RETURN(const auto session,
                             Connect(options, &fs, kill.get()));
  return TakePart(*session, std::strtoull(argv[3], nullptr, 10),
                  std::strtof(argv[4], nullptr),
                  std::strtoull(argv[5], nullptr, 10), kill.get());
}

}  // namespace
}  // namespace consilium

int main(int argc, char** argv) {
  if (argc != 6 || std::getenv("CONSILIUM_KILL_SWITCH") == nullptr) {
    std::fprintf(stderr,
                 "CONSILIUM_KILL_SWITCH=FILE %s COORDINATOR IDENTITY_DIR ROUND "
                 "DELTA EXAMPLES\n",
                 argv[0]);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const absl::Status status = consilium::Run(argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "crash_client: %s\n", status.ToString().c_str());
  return 1;
}

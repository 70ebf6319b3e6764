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
#include <utility>
#include <variant>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/secure/tls13.h"
#include "tests/crash/kill_switch.h"
#include "tests/integration/hooked_transport.h"

namespace consilium {
namespace {

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
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto session,
      ConnectHooked(options, &fs,
                    [&](std::string_view step) { kill->Step(step); }));
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

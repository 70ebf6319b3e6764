// One institution: waits for rounds, trains, hands in its delta.
//   take_part COORDINATOR IDENTITY_DIR     (after `consilium-client enroll`)
#include <algorithm>
#include <cstdio>

#include "consilium/client/client.h"

namespace client = consilium::client;

// Does what the coordinator wants next, or waits for it.
absl::Status Step(client::Client& session) {
  auto work = session.WaitForWork(absl::Minutes(5));
  if (!work.ok()) return work.status();
  if (const auto* task = std::get_if<client::TrainTask>(&*work)) {
    auto base = session.OpenVersion(task->base);  // base->Tensor("...")
    if (!base.ok()) return base.status();
    client::UpdateSource delta;  // your training: trained minus base
    delta.report.examples = 1000;
    delta.fill = [](std::string_view, int64_t, std::span<float> out) {
      std::ranges::fill(out, 0.001f);
      return absl::OkStatus();
    };
    auto outcome = session.Submit(*task, delta);
    if (!outcome.ok()) return outcome.status();
    const auto* no = std::get_if<client::Refused>(&*outcome);
    if (no != nullptr && no->code != client::RefusalCode::kSuspended) {
      // Or the same round comes again, to be trained for in vain.
      return session.Decline(*task, no->message);
    }
    return absl::OkStatus();
  }
  if (const auto* task = std::get_if<client::EvaluateTask>(&*work)) {
    return session.Decline(*task, "no validation data here");
  }
  std::printf("waiting: %s\n", std::get<client::Idle>(*work).reason.c_str());
  return absl::OkStatus();
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  client::ClientOptions options;
  options.coordinator = argv[1];
  options.identity_dir = argv[2];
  auto session = client::Client::Connect(options);
  absl::Status status = session.status();
  if (status.ok()) status = (*session)->ResumePending().status();
  while (status.ok()) status = Step(**session);
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

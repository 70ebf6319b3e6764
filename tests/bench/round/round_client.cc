#include "tests/bench/round/round_client.h"

#include <algorithm>
#include <cstdio>
#include <variant>

#include "consilium/client/client.h"

namespace consilium::bench {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "client: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int RunClient(const std::string& address, const std::string& identity_dir,
              float value, uint64_t examples) {
  client::ClientOptions options;
  options.coordinator = address;
  options.identity_dir = identity_dir;
  options.proxy = "none";
  const auto client = client::Client::Connect(options);
  if (!client.ok()) return Fail(client.status());
  for (;;) {
    const auto work = (*client)->WaitForWork(absl::Minutes(5));
    if (!work.ok()) return Fail(work.status());
    const auto* const task = std::get_if<client::TrainTask>(&*work);
    if (task == nullptr) continue;
    const auto base = (*client)->OpenVersion(task->base);
    if (!base.ok()) return Fail(base.status());
    client::UpdateSource source;
    source.report.examples = examples;
    source.fill = [value](std::string_view, int64_t, std::span<float> out) {
      std::fill(out.begin(), out.end(), value);
      return absl::OkStatus();
    };
    const auto outcome = (*client)->Submit(*task, source);
    if (!outcome.ok()) return Fail(outcome.status());
    if (const auto* refused = std::get_if<client::Refused>(&*outcome)) {
      std::fprintf(stderr, "client: refused: %s\n", refused->message.c_str());
      return 1;
    }
  }
}

}  // namespace consilium::bench

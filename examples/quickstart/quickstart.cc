// The SDK in twenty lines: an institution that pulls every weight 1 % towards
// zero. Put your training where `delta.fill` is.
//   consilium-quickstart COORDINATOR IDENTITY_DIR   (see consilium-client
//   enroll)
#include <iostream>

#include "consilium/client/client.h"

using namespace consilium::client;  // NOLINT: an example

absl::Status TakePart(Client& client) {
  auto work = client.WaitForWork(absl::Minutes(5));
  if (!work.ok()) return work.status();
  if (auto* task = std::get_if<EvaluateTask>(&*work)) {
    return client.Decline(*task, "no validation data here");
  }
  auto* task = std::get_if<TrainTask>(&*work);
  if (task == nullptr) return absl::OkStatus();  // Idle: it says why
  auto base = client.OpenVersion(task->base);    // mapped, checked by digest
  if (!base.ok()) return base.status();
  UpdateSource delta;  // trained minus base, tensor by tensor
  delta.report.examples = 1000;
  delta.fill = [&](std::string_view tensor, int64_t first,
                   std::span<float> out) {
    const auto values = base->Tensor(tensor);
    for (size_t i = 0; values.ok() && i < out.size(); ++i) {
      out[i] = -0.01f * (*values)[static_cast<size_t>(first) + i];
    }
    return values.status();
  };
  auto outcome = client.Submit(*task, delta);  // sealed, resumed, receipted
  if (outcome.ok() && std::holds_alternative<Refused>(*outcome)) {
    return client.Decline(*task, std::get<Refused>(*outcome).message);
  }
  return outcome.status();
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  ClientOptions options;
  options.coordinator = argv[1];
  options.identity_dir = argv[2];
  auto client = Client::Connect(options);
  absl::Status status = client.status();
  if (status.ok()) status = (*client)->ResumePending().status();
  while (status.ok()) status = TakePart(**client);
  std::cerr << status.ToString() << "\n";
  return 1;
}

// One institution and its coordinator, all in memory.
#ifndef CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_SESSION_HARNESS_H_
#define CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_SESSION_HARNESS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client_sdk/session/session.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sleeper.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client_sdk/session/fake_coordinator.h"

namespace consilium::client::internal {

// Keeps tasks until the test runs them.
class HeldTasks final : public DelayedRunner {
 public:
  void RunAfter(absl::Duration delay, Task task) override {
    if (at_once_) return task();
    delays_.push_back(delay);
    tasks_.push_back(std::move(task));
  }
  void RunAll() {
    for (Task& task : std::exchange(tasks_, {})) task();
  }
  void set_at_once(bool on) { at_once_ = on; }
  const std::vector<absl::Duration>& delays() const { return delays_; }

 private:
  bool at_once_ = false;
  std::vector<absl::Duration> delays_;
  std::vector<Task> tasks_;
};

// Values of a delta, the same for every run.
inline std::vector<float> Delta(const TensorSlot& slot, float scale = 1.0f) {
  std::vector<float> values(static_cast<size_t>(slot.elements));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] =
        scale *
        static_cast<float>(
            static_cast<int>((i * 2654435761u + slot.first_element) % 2001) -
            1000) /
        4096.0f;
  }
  return values;
}

struct Harness {
  explicit Harness(FileSystem* file_system = nullptr)
      : fs(file_system != nullptr ? file_system : &memory) {
    options.coordinator = "coordinator.test:7443";
    options.identity_dir = "/id";
    options.state_dir = "/state";
    options.stall_timeout = absl::Seconds(30);
    options.observer = [this](const Event& event) {
      events.push_back(event.text);
    };
  }

  absl::StatusOr<std::unique_ptr<Session>> Connect() {
    CONSILIUM_ASSIGN_OR_RETURN(auto lock, LockState(fs, options));
    return Session::Create({.options = options,
                            .lock = std::move(lock),
                            .identity = coordinator.Identity(),
                            .transport = coordinator.NewTransport(),
                            .deps = {.fs = fs,
                                     .clock = &clock,
                                     .sleeper = &sleeper,
                                     .random = &random,
                                     .later = &later},
                            .runner = nullptr},
                           stop.token());
  }

  // All tensors of the layout.
  Update FullUpdate(float scale = 1.0f) {
    Update update;
    update.report.examples = 120;
    update.report.group_tokens = {{"expert/0/0", 70}, {"expert/0/1", 50}};
    update.report.metrics = {{"loss", 0.5}};
    storage.clear();
    for (const TensorSlot& slot : coordinator.layout().slots()) {
      storage.push_back(Delta(slot, scale));
    }
    for (size_t i = 0; i < storage.size(); ++i) {
      update.tensors.push_back(
          {coordinator.layout().slots()[i].name, storage[i]});
    }
    return update;
  }

  absl::StatusOr<TrainTask> Task(Session& session) {
    CONSILIUM_ASSIGN_OR_RETURN(Work work,
                               session.WaitForWork(absl::Minutes(1), {}));
    if (auto* task = std::get_if<TrainTask>(&work)) return *std::move(task);
    return absl::FailedPreconditionError("no task to train");
  }

  // What OutboxFiles() may still hold after a receipt: nothing.
  std::vector<std::string> OutboxFiles() {
    auto names = fs->List("/state/outbox");
    return names.ok() ? *names : std::vector<std::string>();
  }

  FakeClock clock;
  FakeCoordinator coordinator{&clock};
  FakeSleeper sleeper{&clock};
  SeededRandom random{99};
  HeldTasks later;
  FaultFileSystem memory;
  FileSystem* fs;
  ClientOptions options;
  CancelSource stop;
  std::vector<std::string> events;
  std::vector<std::vector<float>> storage;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_SESSION_HARNESS_H_

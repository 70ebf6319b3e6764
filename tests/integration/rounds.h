// Words for tests of rounds: time that moves when told, institutions that stop
// half-way, reports of evaluations.

#ifndef CONSILIUM_TESTS_INTEGRATION_ROUNDS_H_
#define CONSILIUM_TESTS_INTEGRATION_ROUNDS_H_

#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/integration/harness.h"
#include "tests/support/fake_clock.h"

namespace consilium {

using Policy = std::map<std::string, std::string>;

// A federation whose coordinator's time stands still until told otherwise.
// Certificates are checked against real time too, so it begins there.
class TimedFederation {
 public:
  explicit TimedFederation(Policy policy, std::vector<std::string> members);

  // Enrols and connects the members, in this order.
  client::Client& operator[](const std::string& name);
  TestFederation* operator->() { return federation_.get(); }
  TestFederation& operator*() { return *federation_; }

  absl::Time now() { return clock_.Now(); }
  // Time passes, and the coordinator does what has fallen due.
  void Advance(absl::Duration by);
  // While the coordinator is stopped.
  void AdvanceStopped(absl::Duration by) { clock_.Advance(by); }

 private:
  FakeClock clock_;
  std::unique_ptr<TestFederation> federation_;
  std::map<std::string, std::unique_ptr<client::Client>> clients_;
};

void ExpectReceipt(const absl::StatusOr<client::SubmitOutcome>& outcome);
// Returns the message.
std::string ExpectRefusal(const absl::StatusOr<client::SubmitOutcome>& outcome,
                          client::RefusalCode code);

// Trains whatever the client is asked to: waits for the task, hands in a
// constant, expects the receipt.
void Contribute(client::Client& client, float value, uint64_t examples = 100);
// Only these tensors.
absl::StatusOr<client::SubmitOutcome> SubmitTensors(
    client::Client& client, const client::TrainTask& task,
    std::vector<std::string> tensors, float value, uint64_t examples);

client::EvaluateTask WaitForEvaluation(client::Client& client);
// Expects that the report is taken.
void Evaluate(client::Client& client, uint64_t examples,
              const std::map<std::string, double>& metrics);

// An institution whose chunks are all durable and that has not committed: its
// process is slow, or dies there.
class HeldSubmit {
 public:
  HeldSubmit(client::Client& client, client::TrainTask task, float value,
             uint64_t examples);
  ~HeldSubmit();

  // Goes on to the commit.
  absl::StatusOr<client::SubmitOutcome> Finish();
  // Never goes on.
  void Die();

 private:
  CancelSource cancel_;
  std::promise<void> uploaded_;
  std::promise<void> go_;
  bool gone_ = false;
  absl::StatusOr<client::SubmitOutcome> outcome_;
  std::thread thread_;
};

v1::RoundInfo RoundOf(TestFederation& federation, uint64_t round);
v1::VersionInfo VersionOf(TestFederation& federation, uint64_t number);
v1::MemberInfo Member(const v1::RoundInfo& round, const std::string& name);
absl::Status SetPolicy(TestFederation& federation, const Policy& policy);
absl::Status TryStartRound(TestFederation& federation);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_ROUNDS_H_

// An institution that keeps its outbox in memory and remembers every promise
// it was given.

#ifndef CONSILIUM_TESTS_CRASH_FAKE_INSTITUTION_H_
#define CONSILIUM_TESTS_CRASH_FAKE_INSTITUTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/engine/upload_hub.h"
#include "tests/crash/engine_world.h"

namespace consilium {

class FakeInstitution {
 public:
  struct Plan {
    std::string name;
    float delta = 0;  // of every element it covers
    uint64_t examples = 0;
    std::vector<std::string> groups;
    // Sends all chunks before it waits; else one at a time.
    bool send_ahead = false;
  };
  explicit FakeInstitution(Plan plan) : plan_(std::move(plan)) {}

  // Trains once and uploads, until it holds a receipt. After an error, call it
  // again: it goes on with the same payload at the acknowledged chunk. Answers
  // of a coordinator that went back on a promise are failures of the test.
  // Errors: those of the engine; RESOURCE_EXHAUSTED for a refusal for want of
  // space; FAILED_PRECONDITION for any other refusal.
  absl::Status Contribute(EngineWorld& world, int64_t round);
  // Only the beginning of it: the upload is open, its first chunk sent.
  absl::Status BeginUpload(EngineWorld& world, int64_t round);
  // Asks for the receipt again. OK when it is the one given before.
  absl::Status AskAgain(EngineWorld& world);
  // Reports about the candidate, or declines to.
  absl::Status Evaluate(EngineWorld& world, int64_t round, bool decline);

  const std::string& name() const { return plan_.name; }
  const Plan& plan() const { return plan_; }
  int trainings() const { return trainings_; }
  bool has_receipt() const { return receipt_.has_value(); }
  // For the next round.
  void Forget();

 private:
  struct Outbox {
    UploadManifest manifest;
    std::vector<std::vector<std::byte>> chunks;  // as they leave
  };
  absl::Status Train(EngineWorld& world, const RoundContext& context);
  absl::StatusOr<BeginOutcome> Begin(EngineWorld& world);
  absl::Status Send(EngineWorld& world, uint64_t first, uint64_t end);
  absl::Status TakeReceipt(const SignedReceipt& receipt);

  const Plan plan_;
  std::optional<Outbox> outbox_;
  uint64_t acked_ = 0;  // chunks that the coordinator said are durable
  std::optional<SignedReceipt> receipt_;
  bool evaluated_ = false;
  int trainings_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_FAKE_INSTITUTION_H_

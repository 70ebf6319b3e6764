// An institution on the real SDK, on a thread of its own, that takes part in
// every round until it is told to stop and counts what it was made to do.

#ifndef CONSILIUM_TESTS_CRASH_SDK_INSTITUTION_H_
#define CONSILIUM_TESTS_CRASH_SDK_INSTITUTION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "consilium/base/mutex.h"
#include "consilium/client/client.h"

namespace consilium {

class SdkInstitution {
 public:
  enum class Conduct {
    kTakePart,
    kDeclineTraining,
    kDeclineEvaluation,
  };
  struct Seen {
    int trainings = 0;
    int receipts = 0;
    int refusals = 0;
    int evaluations = 0;  // asked for
    int reports = 0;      // of evaluations, answered
  };

  // `delta` of every element, weighed by `examples`.
  SdkInstitution(client::ClientOptions options, float delta, uint64_t examples);
  ~SdkInstitution();

  // Connects and begins. Errors: of Client::Connect.
  absl::Status Start();
  void Behave(Conduct conduct);
  // Does nothing about a task of training, or of evaluation, until Release().
  void Hold();
  void HoldEvaluation();
  void Release();
  Seen SeenIn(uint64_t round);
  // Until Receipt or refusal of this round is there.
  void AwaitOutcome(uint64_t round);
  // Until it was asked to evaluate, and until it has reported.
  void AwaitEvaluation(uint64_t round);
  void AwaitReport(uint64_t round);

 private:
  void Run();
  absl::Status Step();
  absl::Status Train(const client::TrainTask& task);
  absl::Status Evaluate(const client::EvaluateTask& task);
  Conduct conduct();

  const client::ClientOptions options_;
  const float delta_;
  const uint64_t examples_;
  std::unique_ptr<client::Client> client_;
  std::thread thread_;

  Mutex mu_;
  CondVar changed_;
  Conduct conduct_ ABSL_GUARDED_BY(mu_) = Conduct::kTakePart;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool evaluation_held_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<uint64_t, Seen> seen_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_SDK_INSTITUTION_H_

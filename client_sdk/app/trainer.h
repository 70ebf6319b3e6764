#ifndef CONSILIUM_CLIENT_SDK_APP_TRAINER_H_
#define CONSILIUM_CLIENT_SDK_APP_TRAINER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/app/config.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/cancel.h"
#include "consilium/client/client.h"

namespace consilium::client::internal {

// A delta and the memory it lies in.
class TrainedUpdate {
 public:
  virtual ~TrainedUpdate() = default;
  virtual const Update& update() const = 0;
};

struct Measured {
  uint64_t examples = 0;
  std::map<std::string, double> metrics;
};

// What the reference institution does with its data. Calls block, and come
// from one thread.
class Trainer {
 public:
  // `fraction` in 0..1. Returns whether to go on.
  using Progress = std::function<bool(double fraction, std::string_view text)>;

  virtual ~Trainer() = default;
  // One line for the log: model, rows, device.
  virtual std::string Describe() const = 0;
  virtual bool CanEvaluate() const = 0;
  // Errors: FAILED_PRECONDITION  it cannot train adapters of this layout.
  virtual absl::Status CheckLayout(const Layout& layout) const = 0;

  // Errors: CANCELLED when `progress` said stop or `cancel`; others mean that
  // this institution cannot contribute to this round.
  virtual absl::StatusOr<std::unique_ptr<TrainedUpdate>> Train(
      const TrainTask& task, const Parameters& base, const Progress& progress,
      const CancelToken& cancel) = 0;
  virtual absl::StatusOr<Measured> Evaluate(const Parameters& parameters) = 0;
};

// The trainer that was linked in: table_trainer.cc in a build with
// CONSILIUM_WITH_TRAINING, else no_trainer.cc, which answers UNIMPLEMENTED
// and says how to get one.
absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(
    const TrainingConfig& config);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_TRAINER_H_

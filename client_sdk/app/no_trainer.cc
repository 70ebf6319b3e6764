#include "client_sdk/app/trainer.h"

namespace consilium::client::internal {

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const TrainingConfig&) {
  return absl::UnimplementedError(
      "this build of consilium-client has no trainer: configure with "
      "-DCONSILIUM_WITH_TRAINING=ON (./run build does, unless it is given "
      "--without-torch), or link the SDK into your own training program "
      "(examples/quickstart)");
}

}  // namespace consilium::client::internal

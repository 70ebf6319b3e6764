#ifndef CONSILIUM_CLIENT_SDK_APP_TRAIN_SETTINGS_H_
#define CONSILIUM_CLIENT_SDK_APP_TRAIN_SETTINGS_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium::client::internal {

// A federation's training settings (TrainTask::parameters), by the names of
// TrainOptions' fields; what is not named keeps its default. The seed is the
// institution's own. Errors: INVALID_ARGUMENT for a name that does not exist
// or a value that is no number.
absl::StatusOr<TrainOptions> ParseTrainSettings(
    const std::map<std::string, std::string>& parameters);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_TRAIN_SETTINGS_H_

#include "client_sdk/app/train_settings.h"

#include <cstdint>

#include "absl/strings/numbers.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {

absl::StatusOr<TrainOptions> ParseTrainSettings(
    const std::map<std::string, std::string>& parameters) {
  TrainOptions options;
  const std::map<std::string, int64_t*> integers = {
      {"epochs", &options.epochs},
      {"batch_rows", &options.batch_rows},
      {"warmup_steps", &options.warmup_steps},
  };
  const std::map<std::string, double*> numbers = {
      {"learning_rate", &options.learning_rate},
      {"learning_rate_decay", &options.learning_rate_decay},
      {"beta1", &options.beta1},
      {"beta2", &options.beta2},
      {"weight_decay", &options.weight_decay},
      {"clip_norm", &options.clip_norm},
      {"balance_alpha", &options.balance_alpha},
      {"prox_mu", &options.prox_mu},
  };
  for (const auto& [name, value] : parameters) {
    bool good = false;
    if (const auto it = integers.find(name); it != integers.end()) {
      good = absl::SimpleAtoi(value, it->second);
    } else if (const auto it = numbers.find(name); it != numbers.end()) {
      good = absl::SimpleAtod(value, it->second);
    } else {
      return absl::InvalidArgumentError(
          Cat("the federation's training setting ", Quoted(name),
              " means nothing to this trainer; upgrade consilium-client or "
              "remove the setting"));
    }
    if (!good) {
      return absl::InvalidArgumentError(
          Cat("the federation's training setting ", name, " is ", Quoted(value),
              ", not a number; the operator mends it with "
              "`consilium federation set`"));
    }
  }
  return options;
}

}  // namespace consilium::client::internal

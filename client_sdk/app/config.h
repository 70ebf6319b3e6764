// The configuration file of consilium-client.

#ifndef CONSILIUM_CLIENT_SDK_APP_CONFIG_H_
#define CONSILIUM_CLIENT_SDK_APP_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "consilium/client/options.h"

namespace consilium::client {

struct ClientConfig {
  ClientOptions client;
  bool renew_automatically = true;
  std::string log_format = "text";  // text | json
  std::string log_level = "info";   // debug | info | warning | error
  std::string base_model = "base_model.safetensors";
  std::string table = "train.csv";
  std::string validation_table = "validation.csv";  // empty: no evaluations
  std::string device = "auto";                      // auto | cpu | cuda
  int threads = 1;
  uint64_t seed = 1;
};

// Relative paths count from `folder`.
// Errors: INVALID_ARGUMENT naming the key, its value and what is allowed;
// unknown keys are errors.
absl::StatusOr<ClientConfig> ParseClientConfig(std::string_view toml,
                                               const std::string& folder);
absl::StatusOr<ClientConfig> LoadClientConfig(const std::string& path);

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_SDK_APP_CONFIG_H_

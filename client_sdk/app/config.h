#ifndef CONSILIUM_CLIENT_SDK_APP_CONFIG_H_
#define CONSILIUM_CLIENT_SDK_APP_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client_sdk/app/log.h"
#include "consilium/base/file.h"
#include "consilium/client/options.h"

namespace consilium::client::internal {

// The table [training]: the reference trainer of `consilium-client run`.
struct TrainingConfig {
  std::string base_model = "base_model.safetensors";
  std::string table = "train.csv";
  std::string validation_table = "validation.csv";  // "": none
  std::string device = "auto";                      // "cpu", "cuda"
  int threads = 1;
  uint64_t seed = 1;
};

// consilium-client.toml, whose text transport/config_template.cc writes.
struct ClientConfig {
  ClientOptions client;
  bool renew_automatically = true;
  LogOptions log;
  TrainingConfig training;
};

// Paths that are not absolute count from `directory`.
// Errors: INVALID_ARGUMENT "line 3: ..." for what is not TOML, a key that does
// not exist, a value of another type or out of range.
absl::StatusOr<ClientConfig> ParseConfig(std::string_view text,
                                         const std::string& directory);

// Errors: also those of reading the file, which the message names.
absl::StatusOr<ClientConfig> LoadConfig(FileSystem* fs,
                                        const std::string& path);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_CONFIG_H_

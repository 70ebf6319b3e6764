// operator/config.toml: how the `consilium` command reaches its coordinator.

#ifndef CONSILIUM_COORDINATOR_CLI_OPERATOR_CONFIG_H_
#define CONSILIUM_COORDINATOR_CLI_OPERATOR_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "consilium/base/file.h"

namespace consilium {

struct OperatorConfig {
  std::string coordinator;  // host:port
  std::string federation;
  std::string certificate;  // paths; absolute once loaded
  std::string key;
  std::string ca;
  std::string signing_key;  // the coordinator's public key; may be empty
};

// Paths that are not absolute count from the file's folder.
// Errors: NOT_FOUND; INVALID_ARGUMENT naming line or key: not TOML, unknown
// key, not text, a key missing.
absl::StatusOr<OperatorConfig> LoadOperatorConfig(FileSystem* fs,
                                                  const std::string& path);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_OPERATOR_CONFIG_H_

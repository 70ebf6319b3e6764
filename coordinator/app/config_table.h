// The keys of the configuration file. Internal to coordinator/app.

#ifndef CONSILIUM_COORDINATOR_APP_CONFIG_TABLE_H_
#define CONSILIUM_COORDINATOR_APP_CONFIG_TABLE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "consilium/base/toml.h"
#include "coordinator/app/config.h"

namespace consilium {

using ConfigValue = TomlValue;

struct ConfigKey {
  std::string section;  // "rounds.evaluation"
  std::string name;
  std::string comment;  // sentences; wrapped when printed
  // The value as TOML.
  std::function<std::string(const CoordinatorConfig&)> emit;
  // Errors: INVALID_ARGUMENT "is ..., must be ...", without the key's name.
  std::function<absl::Status(const ConfigValue&, CoordinatorConfig&)> parse;
};

struct ConfigSection {
  std::string name;
  std::string comment;
};

// In the order of the file; the keys of a section are consecutive.
const std::vector<ConfigSection>& ConfigSections();
const std::vector<ConfigKey>& ConfigKeys();

// Every string of `config` that is a path.
std::vector<std::string*> ConfigPaths(CoordinatorConfig& config);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_CONFIG_TABLE_H_

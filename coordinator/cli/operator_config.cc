#include "coordinator/cli/operator_config.h"

#include <map>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include "toml++/toml.h"

namespace consilium {
namespace {

constexpr int64_t kMaxBytes = 64 << 10;

}  // namespace

absl::StatusOr<OperatorConfig> LoadOperatorConfig(FileSystem* fs,
                                                  const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs, path, kMaxBytes));
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return absl::InvalidArgumentError(
        Cat(path, " line ", parsed.error().source().begin.line,
            ": not TOML: ", parsed.error().description()));
  }
  OperatorConfig config;
  const std::map<std::string, std::string*> keys = {
      {"coordinator", &config.coordinator},
      {"federation", &config.federation},
      {"certificate", &config.certificate},
      {"key", &config.key},
      {"ca", &config.ca},
      {"signing_key", &config.signing_key},
  };
  for (const auto& [key, node] : parsed.table()) {
    const auto found = keys.find(std::string(key.str()));
    const auto* value = node.as_string();
    if (found == keys.end() || value == nullptr) {
      return absl::InvalidArgumentError(
          Cat(path, " line ", node.source().begin.line, ": ", Quoted(key.str()),
              found == keys.end() ? " is not a key of this file"
                                  : " must be text in quotes"));
    }
    *found->second = value->get();
  }
  for (const char* key : {"coordinator", "certificate", "key", "ca"}) {
    if (keys.at(key)->empty()) {
      return absl::InvalidArgumentError(Cat(path, ": ", key, " is missing"));
    }
  }
  for (std::string* file :
       {&config.certificate, &config.key, &config.ca, &config.signing_key}) {
    if (!file->empty()) *file = JoinPath(DirName(path), *file);
  }
  return config;
}

}  // namespace consilium

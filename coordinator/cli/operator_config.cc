#include "coordinator/cli/operator_config.h"

#include <map>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/toml.h"

namespace consilium {
namespace {

constexpr int64_t kMaxBytes = 64 << 10;

}  // namespace

absl::StatusOr<OperatorConfig> LoadOperatorConfig(FileSystem* fs,
                                                  const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs, path, kMaxBytes));
  const auto document = ReadToml(text);
  if (!document.ok()) return Annotate(document.status(), path);
  OperatorConfig config;
  const std::map<std::string, std::string*> keys = {
      {"coordinator", &config.coordinator},
      {"federation", &config.federation},
      {"certificate", &config.certificate},
      {"key", &config.key},
      {"ca", &config.ca},
      {"signing_key", &config.signing_key},
  };
  const auto mistake = [&](int64_t line, std::string_view text) {
    return absl::InvalidArgumentError(Cat(path, ": line ", line, ": ", text));
  };
  if (!document->tables.empty()) {
    return mistake(document->tables[0].line, "this file has no sections");
  }
  for (const TomlEntry& entry : document->entries) {
    const std::string name = DottedName(entry.path);
    const auto found = keys.find(name);
    if (found == keys.end()) {
      return mistake(entry.line,
                     Cat(Quoted(name), " is not a key of this file"));
    }
    const auto* value = std::get_if<std::string>(&entry.value);
    if (value == nullptr) {
      return mistake(entry.line, Cat(Quoted(name), " must be text in quotes"));
    }
    *found->second = *value;
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

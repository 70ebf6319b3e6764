#include "client_sdk/app/config.h"

#include <functional>
#include <map>
#include <utility>

#include "client_sdk/session/session.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/toml.h"

namespace consilium::client::internal {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

using Setter = std::function<absl::Status(const TomlValue&)>;

absl::Status WrongType(std::string_view wanted) {
  return absl::InvalidArgumentError(Cat("must be ", wanted));
}

Setter Text(std::string* out) {
  return [out](const TomlValue& value) -> absl::Status {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return WrongType("text in quotes");
    *out = *text;
    return absl::OkStatus();
  };
}

Setter Bool(bool* out) {
  return [out](const TomlValue& value) -> absl::Status {
    const bool* flag = std::get_if<bool>(&value);
    if (flag == nullptr) return WrongType("true or false");
    *out = *flag;
    return absl::OkStatus();
  };
}

template <typename Int>
Setter Integer(Int* out, int64_t low, int64_t high) {
  return [=](const TomlValue& value) -> absl::Status {
    const int64_t* number = std::get_if<int64_t>(&value);
    if (number == nullptr || *number < low || *number > high) {
      return WrongType(Cat("a whole number from ", low, " to ", high));
    }
    *out = static_cast<Int>(*number);
    return absl::OkStatus();
  };
}

Setter Number(double* out) {
  return [out](const TomlValue& value) -> absl::Status {
    if (const int64_t* whole = std::get_if<int64_t>(&value)) {
      *out = static_cast<double>(*whole);
      return absl::OkStatus();
    }
    const double* number = std::get_if<double>(&value);
    if (number == nullptr) return WrongType("a number");
    *out = *number;
    return absl::OkStatus();
  };
}

Setter Duration(absl::Duration* out) {
  return [out](const TomlValue& value) -> absl::Status {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return WrongType("a duration such as \"20s\"");
    CONSILIUM_ASSIGN_OR_RETURN(*out, ParseDuration(*text));
    return absl::OkStatus();
  };
}

template <typename T, typename Parse>
Setter Word(T* out, Parse parse) {
  return [out, parse](const TomlValue& value) -> absl::Status {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return WrongType("text in quotes");
    CONSILIUM_ASSIGN_OR_RETURN(*out, parse(*text));
    return absl::OkStatus();
  };
}

std::map<std::string, Setter> Keys(ClientConfig* config) {
  ClientOptions& client = config->client;
  TrainingConfig& training = config->training;
  return {
      {"coordinator", Text(&client.coordinator)},
      {"identity_dir", Text(&client.identity_dir)},
      {"state_dir", Text(&client.state_dir)},
      {"proxy", Text(&client.proxy)},
      {"server_name", Text(&client.server_name)},
      {"renew_automatically", Bool(&config->renew_automatically)},
      {"timeouts.control", Duration(&client.control_timeout)},
      {"timeouts.stall", Duration(&client.stall_timeout)},
      {"timeouts.keepalive", Duration(&client.keepalive_time)},
      {"timeouts.keepalive_answer", Duration(&client.keepalive_timeout)},
      {"retry.initial", Duration(&client.retry.initial)},
      {"retry.cap", Duration(&client.retry.cap)},
      {"retry.multiplier", Number(&client.retry.multiplier)},
      {"retry.give_up_after", Duration(&client.retry.give_up_after)},
      {"storage.outbox_sync", Bool(&client.outbox_sync)},
      {"storage.outbox_sync_delay", Duration(&client.outbox_sync_delay)},
      {"storage.cached_versions",
       Integer(&client.cached_versions, 1, 1'000'000)},
      {"storage.spare_bytes",
       Integer(&client.spare_bytes, 0, int64_t{1} << 50)},
      {"limits.max_layout_bytes",
       Integer(&client.max_layout_bytes, 1024, int64_t{1} << 30)},
      {"limits.max_layout_slots",
       Integer(&client.max_layout_slots, 1, int64_t{1} << 24)},
      {"log.format", Word(&config->log.format, ParseLogFormat)},
      {"log.level", Word(&config->log.level, ParseLogLevel)},
      {"training.base_model", Text(&training.base_model)},
      {"training.table", Text(&training.table)},
      {"training.validation_table", Text(&training.validation_table)},
      {"training.device", Text(&training.device)},
      {"training.threads", Integer(&training.threads, 1, 1024)},
      {"training.seed", Integer(&training.seed, 0, int64_t{1} << 53)},
  };
}

absl::Status Mistake(int64_t line, std::string_view text) {
  return absl::InvalidArgumentError(Cat("line ", line, ": ", text));
}

absl::Status Apply(const TomlDocument& document,
                   const std::map<std::string, Setter>& keys) {
  for (const TomlTable& table : document.tables) {
    const std::string name = DottedName(table.path);
    const auto first = keys.lower_bound(name + ".");
    if (first == keys.end() || !first->first.starts_with(name + ".")) {
      return Mistake(table.line, Cat("there is no section ", Quoted(name)));
    }
  }
  for (const TomlEntry& entry : document.entries) {
    const std::string name = DottedName(entry.path);
    const auto found = keys.find(name);
    if (found == keys.end()) {
      return Mistake(entry.line, Cat("there is no key ", Quoted(name)));
    }
    const absl::Status status = found->second(entry.value);
    if (!status.ok()) {
      return Mistake(entry.line, Cat(name, ": ", StdView(status.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClientConfig> ParseConfig(std::string_view text,
                                         const std::string& directory) {
  CONSILIUM_ASSIGN_OR_RETURN(const TomlDocument document, ReadToml(text));
  ClientConfig config;
  config.client.identity_dir = ".";
  config.client.state_dir = "state";
  CONSILIUM_RETURN_IF_ERROR(Apply(document, Keys(&config)));
  const std::string& device = config.training.device;
  if (device != "auto" && device != "cpu" && device != "cuda") {
    return absl::InvalidArgumentError(Cat("training.device: ", Quoted(device),
                                          " is not one of auto, cpu, cuda"));
  }
  for (std::string* path :
       {&config.client.identity_dir, &config.client.state_dir,
        &config.training.base_model, &config.training.table,
        &config.training.validation_table}) {
    if (!path->empty()) *path = JoinPath(directory, *path);
  }
  CONSILIUM_RETURN_IF_ERROR(ValidateOptions(config.client));
  return config;
}

absl::StatusOr<ClientConfig> LoadConfig(FileSystem* fs,
                                        const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string text,
                             ReadWholeFile(fs, path, kMaxConfigBytes));
  auto config = ParseConfig(text, DirName(path));
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

}  // namespace consilium::client::internal

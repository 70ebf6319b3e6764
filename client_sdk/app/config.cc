#include "client_sdk/app/config.h"

#include <algorithm>
#include <functional>
#include <map>
#include <sstream>
#include <vector>

#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include "toml++/toml.h"

namespace consilium::client {
namespace {

using Setter = std::function<absl::Status(const toml::node&)>;

absl::Status Wrong(std::string_view want) {
  return absl::InvalidArgumentError(Cat("must be ", want));
}

Setter Text(std::string* out, std::vector<std::string> allowed = {}) {
  return [out, allowed](const toml::node& node) {
    const auto value = node.value_exact<std::string>();
    if (!value.has_value()) return Wrong("a string in quotes");
    if (!allowed.empty() &&
        std::find(allowed.begin(), allowed.end(), *value) == allowed.end()) {
      std::string words;
      for (const std::string& word : allowed) {
        CatInto(words, words.empty() ? "" : ", ", "\"", word, "\"");
      }
      return Wrong(Cat("one of ", words));
    }
    *out = *value;
    return absl::OkStatus();
  };
}
Setter Path(std::string* out, std::string folder) {
  return [out, folder](const toml::node& node) {
    const auto value = node.value_exact<std::string>();
    if (!value.has_value()) return Wrong("a path in quotes");
    *out = value->empty() ? *value : JoinPath(folder, *value);
    return absl::OkStatus();
  };
}
Setter Time(absl::Duration* out) {
  return [out](const toml::node& node) -> absl::Status {
    const auto value = node.value_exact<std::string>();
    if (!value.has_value()) return Wrong("a duration such as \"20s\"");
    CONSILIUM_ASSIGN_OR_RETURN(*out, ParseDuration(*value));
    return absl::OkStatus();
  };
}
Setter Flag(bool* out) {
  return [out](const toml::node& node) {
    const auto value = node.value_exact<bool>();
    if (!value.has_value()) return Wrong("true or false");
    *out = *value;
    return absl::OkStatus();
  };
}
template <typename T>
Setter Whole(T* out, int64_t low, int64_t high) {
  return [out, low, high](const toml::node& node) {
    const auto value = node.value_exact<int64_t>();
    if (!value.has_value() || *value < low || *value > high) {
      return Wrong(Cat("a whole number from ", low, " to ", high));
    }
    *out = static_cast<T>(*value);
    return absl::OkStatus();
  };
}
Setter Real(double* out, double low, double high) {
  return [out, low, high](const toml::node& node) {
    const auto value = node.value<double>();
    if (!value.has_value() || !(*value >= low && *value <= high)) {
      return Wrong(Cat("a number from ", low, " to ", high));
    }
    *out = *value;
    return absl::OkStatus();
  };
}

absl::Status Apply(const toml::table& table, const std::string& prefix,
                   const std::map<std::string, Setter>& setters) {
  for (const auto& [key, node] : table) {
    const std::string name =
        prefix.empty() ? std::string(key.str())
                       : Cat(prefix, ".", std::string_view(key.str()));
    if (const toml::table* const inner = node.as_table()) {
      CONSILIUM_RETURN_IF_ERROR(Apply(*inner, name, setters));
      continue;
    }
    const auto setter = setters.find(name);
    if (setter == setters.end()) {
      std::string known;
      for (const auto& [k, unused] : setters) {
        CatInto(known, known.empty() ? "" : ", ", k);
      }
      return absl::InvalidArgumentError(
          Cat("there is no key ", Quoted(name), "; there are: ", known));
    }
    const absl::Status set = setter->second(node);
    if (!set.ok()) {
      std::ostringstream value;
      value << toml::node_view<const toml::node>(&node);
      return absl::InvalidArgumentError(
          Cat(name, " is ", value.str(), ": ", StdView(set.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClientConfig> ParseClientConfig(std::string_view text,
                                               const std::string& folder) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    std::ostringstream where;
    where << parsed.error();
    return absl::InvalidArgumentError(Cat("not TOML: ", where.str()));
  }
  ClientConfig c;
  ClientOptions& o = c.client;
  o.identity_dir = folder;
  c.base_model = JoinPath(folder, c.base_model);
  c.table = JoinPath(folder, c.table);
  c.validation_table = JoinPath(folder, c.validation_table);
  const std::map<std::string, Setter> setters = {
      {"coordinator", Text(&o.coordinator)},
      {"identity_dir", Path(&o.identity_dir, folder)},
      {"state_dir", Path(&o.state_dir, folder)},
      {"proxy", Text(&o.proxy)},
      {"server_name", Text(&o.server_name)},
      {"renew_automatically", Flag(&c.renew_automatically)},
      {"timeouts.control", Time(&o.control_timeout)},
      {"timeouts.stall", Time(&o.stall_timeout)},
      {"timeouts.keepalive", Time(&o.keepalive_time)},
      {"timeouts.keepalive_answer", Time(&o.keepalive_timeout)},
      {"retry.initial", Time(&o.retry.initial)},
      {"retry.cap", Time(&o.retry.cap)},
      {"retry.multiplier", Real(&o.retry.multiplier, 1, 100)},
      {"retry.give_up_after", Time(&o.retry.give_up_after)},
      {"storage.outbox_sync", Flag(&o.outbox_sync)},
      {"storage.outbox_sync_delay", Time(&o.outbox_sync_delay)},
      {"storage.cached_versions", Whole(&o.cached_versions, 1, 1000)},
      {"log.format", Text(&c.log_format, {"text", "json"})},
      {"log.level", Text(&c.log_level, {"debug", "info", "warning", "error"})},
      {"training.base_model", Path(&c.base_model, folder)},
      {"training.table", Path(&c.table, folder)},
      {"training.validation_table", Path(&c.validation_table, folder)},
      {"training.device", Text(&c.device, {"auto", "cpu", "cuda"})},
      {"training.threads", Whole(&c.threads, 1, 256)},
      {"training.seed", Whole(&c.seed, 0, int64_t{1} << 62)},
  };
  CONSILIUM_RETURN_IF_ERROR(Apply(parsed.table(), "", setters));
  if (o.coordinator.empty()) {
    return absl::InvalidArgumentError(
        "coordinator is missing: give the host:port of the coordinator");
  }
  return c;
}

absl::StatusOr<ClientConfig> LoadClientConfig(const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string text,
      ReadWholeFile(PosixFileSystem(), path, int64_t{1} << 20));
  auto config = ParseClientConfig(text, DirName(path));
  if (!config.ok()) {
    return absl::Status(config.status().code(),
                        Cat(path, ": ", StdView(config.status().message())));
  }
  return config;
}

}  // namespace consilium::client

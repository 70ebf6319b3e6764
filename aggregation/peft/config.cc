#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "consilium/aggregation/peft.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "nlohmann/json.hpp"

namespace consilium::peft {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxRank = int64_t{1} << 16;
constexpr size_t kShownBytes = 80;
constexpr double kLeastAlpha = 1e-6;
constexpr double kMostAlpha = 1e6;

// Short, and flat: what is nested deep must not be walked.
std::string Shown(const Json& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump(-1, ' ', true, Json::error_handler_t::replace)
      .substr(0, kShownBytes);
}

absl::Status Wrong(std::string_view key, const Json& value,
                   std::string_view rule) {
  return absl::InvalidArgumentError(
      Cat("adapter_config.json: ", key, " is ", Shown(value), "; ", rule));
}

absl::Status Unsupported(std::string_view key, const Json& value) {
  return absl::UnimplementedError(Cat("adapter_config.json: ", key, " is ",
                                      Shown(value),
                                      ", which is not supported"));
}

// Brackets that stand open at once, outside of texts.
int64_t DepthOf(std::string_view json) {
  int64_t depth = 0, deepest = 0;
  bool text = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (text) {
      if (c == '\\') ++i;
      if (c == '"') text = false;
    } else if (c == '"') {
      text = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

// Absent and null are the same.
const Json* Find(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

// Whether a switch says what it says when it is off.
bool IsOff(const Json& value) {
  return value.is_null() || value == false || value == "none" ||
         (value.is_structured() && value.empty()) || value == 0 || value == "";
}

// They change what the factors mean, or add tensors that nobody would read.
constexpr const char* kUnsupported[] = {
    "use_dora",          "lora_bias",         "bias",
    "use_qalora",        "use_bdlora",        "alora_invocation_tokens",
    "arrow_config",      "kasa_config",       "trainable_token_indices",
    "layer_replication", "monteclora_config", "velora_config"};

absl::StatusOr<std::vector<std::string>> Strings(const Json& config,
                                                 const char* key) {
  std::vector<std::string> out;
  const Json* const value = Find(config, key);
  if (value == nullptr) return out;
  if (!value->is_array()) return Wrong(key, *value, "a list of names is meant");
  if (value->size() > kMaxConfigNames) {
    return absl::ResourceExhaustedError(
        Cat("adapter_config.json: ", key, " has ", value->size(),
            " entries, the limit is ", kMaxConfigNames));
  }
  for (const Json& entry : *value) {
    if (!entry.is_string() || entry.get_ref<const std::string&>().empty()) {
      return Wrong(key, entry, "a name is meant");
    }
    out.push_back(entry.get<std::string>());
  }
  return out;
}

absl::StatusOr<double> Alpha(std::string_view key, const Json& value) {
  if (!value.is_number()) return Wrong(key, value, "a number is meant");
  const double alpha = value.get<double>();
  if (!(alpha >= kLeastAlpha && alpha <= kMostAlpha)) {
    return Wrong(key, value, Cat("it is ", kLeastAlpha, " to ", kMostAlpha));
  }
  return alpha;
}

absl::StatusOr<std::map<std::string, double>> AlphaPattern(const Json& config) {
  std::map<std::string, double> out;
  const Json* const value = Find(config, "alpha_pattern");
  if (value == nullptr) return out;
  if (!value->is_object()) {
    return Wrong("alpha_pattern", *value, "an object is meant");
  }
  if (value->size() > kMaxConfigNames) {
    return absl::ResourceExhaustedError(
        Cat("adapter_config.json: alpha_pattern has ", value->size(),
            " entries, the limit is ", kMaxConfigNames));
  }
  for (const auto& [name, alpha] : value->items()) {
    if (name.find_first_of("\\^$*+?()[]{}|") != std::string::npos) {
      return absl::UnimplementedError(
          Cat("adapter_config.json: alpha_pattern has the regular expression ",
              Quoted(name), "; only ends of module names are understood"));
    }
    CONSILIUM_ASSIGN_OR_RETURN(out[name], Alpha("alpha_pattern", alpha));
  }
  return out;
}

}  // namespace

absl::StatusOr<Config> ParseConfig(std::string_view json) {
  if (static_cast<int64_t>(json.size()) > kMaxConfigBytes) {
    return absl::ResourceExhaustedError(
        Cat("adapter_config.json has ", json.size(), " bytes, the limit is ",
            kMaxConfigBytes));
  }
  if (const int64_t depth = DepthOf(json); depth > kMaxConfigDepth) {
    return absl::ResourceExhaustedError(Cat("adapter_config.json is nested ",
                                            depth, " deep, the limit is ",
                                            kMaxConfigDepth));
  }
  const Json config = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(
        "adapter_config.json is not a JSON object");
  }
  const Json* const type = Find(config, "peft_type");
  if (type == nullptr || *type != "LORA") {
    return absl::UnimplementedError(
        Cat("adapter_config.json: peft_type is ",
            type == nullptr ? "missing" : Shown(*type),
            "; only \"LORA\" is understood"));
  }
  for (const char* const key : kUnsupported) {
    const Json* const value = Find(config, key);
    if (value != nullptr && !IsOff(*value)) return Unsupported(key, *value);
  }
  // The others among these replace the base model by another one.
  const Json* const init = Find(config, "init_lora_weights");
  if (init != nullptr && !init->is_boolean() && *init != "gaussian" &&
      *init != "eva" && *init != "orthogonal") {
    return Unsupported("init_lora_weights", *init);
  }
  Config out;
  const Json* const rank = Find(config, "r");
  if (rank == nullptr || !rank->is_number_integer()) {
    return Wrong("r", rank == nullptr ? Json() : *rank, "an integer is meant");
  }
  out.rank = rank->is_number_unsigned() && rank->get<uint64_t>() > kMaxRank
                 ? 0
                 : rank->get<int64_t>();
  if (out.rank < 1 || out.rank > kMaxRank) {
    return Wrong("r", *rank, Cat("it is 1 to ", kMaxRank));
  }
  const Json* const alpha = Find(config, "lora_alpha");
  CONSILIUM_ASSIGN_OR_RETURN(
      out.alpha, Alpha("lora_alpha", alpha == nullptr ? Json() : *alpha));
  if (const Json* const rslora = Find(config, "use_rslora")) {
    if (!rslora->is_boolean()) {
      return Wrong("use_rslora", *rslora, "true or false is meant");
    }
    out.rslora = rslora->get<bool>();
  }
  CONSILIUM_ASSIGN_OR_RETURN(out.alpha_pattern, AlphaPattern(config));
  CONSILIUM_ASSIGN_OR_RETURN(out.target_parameters,
                             Strings(config, "target_parameters"));
  for (const std::string& parameter : out.target_parameters) {
    if (parameter.find('.') == std::string::npos) {
      return absl::UnimplementedError(
          Cat("adapter_config.json: target_parameters has ", Quoted(parameter),
              " without its module; write it as "
              "\"experts.",
              parameter, "\""));
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(out.modules_to_save,
                             Strings(config, "modules_to_save"));
  // The rank of a plain module shows in its factors; that of a fused one is
  // needed to tell its experts apart.
  const Json* const ranks = Find(config, "rank_pattern");
  out.rank_pattern = ranks != nullptr && !IsOff(*ranks);
  if (out.rank_pattern && !out.target_parameters.empty()) {
    return absl::UnimplementedError(
        "adapter_config.json: rank_pattern together with target_parameters is "
        "not supported");
  }
  return out;
}

}  // namespace consilium::peft

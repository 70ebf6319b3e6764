// The federation's policy, and settings as dotted keys over it.

#include <string>
#include <utility>

#include "absl/strings/str_replace.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/round_json.h"
#include "nlohmann/json.hpp"

namespace consilium {
namespace {

using nlohmann::json;

constexpr std::string_view kTrainingPrefix = "training.";
constexpr size_t kMaxTrainingKeys = 256;
constexpr size_t kMaxTrainingBytes = 4096;

void Flatten(const json& value, const std::string& prefix, Settings& out) {
  for (const auto& [key, child] : value.items()) {
    const std::string path = prefix.empty() ? key : Cat(prefix, ".", key);
    if (child.is_object()) {
      Flatten(child, path, out);
    } else {
      out[path] = child.is_string() ? child.get<std::string>() : child.dump();
    }
  }
}

std::string KnownKeys(const json& config) {
  Settings all;
  Flatten(config, "", all);
  std::string text;
  for (const auto& [key, value] : all) {
    CatInto(text, text.empty() ? "" : ", ", key);
  }
  return text;
}

// Writes one setting into the JSON of a RoundConfig, which checks its type.
absl::Status SetKey(json& config, const std::string& key,
                    const std::string& value) {
  json* at = &config;
  size_t begin = 0;
  for (;;) {
    const size_t dot = key.find('.', begin);
    const std::string part =
        key.substr(begin, dot == std::string::npos ? dot : dot - begin);
    if (!at->is_object() || !at->contains(part)) {
      return absl::InvalidArgumentError(Cat("there is no setting ", Quoted(key),
                                            "; there are: ", KnownKeys(config),
                                            ", router, training.<name>"));
    }
    at = &(*at)[part];
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  if (at->is_object()) {
    return absl::InvalidArgumentError(
        Cat("setting ", Quoted(key),
            " is a group; set one of its keys, such "
            "as ",
            key, ".", at->begin().key()));
  }
  const json parsed = json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_discarded() && !parsed.is_structured()) {
    *at = parsed;
    return absl::OkStatus();
  }
  *at = value;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RoundConfig> ApplyOverrides(const RoundConfig& base,
                                           const Settings& overrides) {
  if (overrides.empty()) return base;
  json config = json::parse(RoundConfigToJson(base), nullptr, false);
  for (const auto& [key, value] : overrides) {
    CONSILIUM_RETURN_IF_ERROR(SetKey(config, key, value));
  }
  return RoundConfigFromJson(config.dump());
}

Settings SettingsOf(const RoundConfig& config, const Settings& training) {
  Settings out;
  Flatten(json::parse(RoundConfigToJson(config), nullptr, false), "", out);
  for (const auto& [key, value] : training) {
    out[Cat(kTrainingPrefix, key)] = value;
  }
  return out;
}

namespace {

// Over the defaults, so that they rule wherever nothing was set.
absl::StatusOr<RoundConfig> WithChanges(const RoundConfig& defaults,
                                        const json& changes) {
  json merged = json::parse(RoundConfigToJson(defaults), nullptr, false);
  merged.merge_patch(changes);
  absl::StatusOr<RoundConfig> config = RoundConfigFromJson(merged.dump());
  if (config.ok()) return config;
  return Annotate(config.status(),
                  "what `consilium federation set` stored, over [rounds] of "
                  "consilium.toml");
}

}  // namespace

std::string FederationPolicy::ToJson() const {
  json out;
  out["rounds"] = json::parse(round_changes, nullptr, false);
  out["router"] = router == RouterPolicy::kFrozen ? "frozen" : "examples";
  out["training"] = training;
  return out.dump();
}

absl::StatusOr<FederationPolicy> FederationPolicy::FromJson(
    std::string_view text, const RoundConfig& defaults) {
  FederationPolicy policy;
  policy.rounds = defaults;
  const json in = json::parse(text, nullptr, false);
  if (!in.is_object()) {
    return absl::DataLossError("the federation's stored policy is not JSON");
  }
  if (in.contains("rounds")) {
    policy.round_changes = in["rounds"].dump();
    CONSILIUM_ASSIGN_OR_RETURN(policy.rounds,
                               WithChanges(defaults, in["rounds"]));
  }
  if (in.contains("router")) {
    CONSILIUM_RETURN_IF_ERROR(policy.Set(
        {{"router", in["router"].is_string() ? in["router"].get<std::string>()
                                             : in["router"].dump()}}));
  }
  if (in.contains("training") && in["training"].is_object()) {
    for (const auto& [key, value] : in["training"].items()) {
      if (value.is_string()) policy.training[key] = value.get<std::string>();
    }
  }
  return policy;
}

Settings FederationPolicy::ToSettings() const {
  Settings out = SettingsOf(rounds, training);
  out["router"] = router == RouterPolicy::kFrozen ? "frozen" : "examples";
  return out;
}

absl::Status FederationPolicy::Set(const Settings& changes) {
  FederationPolicy next = *this;
  Settings changed;
  for (const auto& [key, value] : changes) {
    if (key == "router") {
      if (value != "frozen" && value != "examples") {
        return absl::InvalidArgumentError(
            Cat("router is ", Quoted(value),
                ", must be \"frozen\" or \"examples\""));
      }
      next.router =
          value == "frozen" ? RouterPolicy::kFrozen : RouterPolicy::kExamples;
    } else if (key.compare(0, kTrainingPrefix.size(),
                           std::string(kTrainingPrefix)) == 0) {
      const std::string name = key.substr(kTrainingPrefix.size());
      if (value.empty()) {
        next.training.erase(name);
        continue;
      }
      const bool fresh = !next.training.contains(name);
      if (name.empty() || key.size() + value.size() > kMaxTrainingBytes ||
          (fresh && next.training.size() >= kMaxTrainingKeys)) {
        return absl::InvalidArgumentError(Cat(
            "training setting ", Quoted(key), ": at most ", kMaxTrainingKeys,
            " of at most ", kMaxTrainingBytes, " bytes each"));
      }
      next.training[name] = value;
    } else {
      changed[key] = value;
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(next.rounds, ApplyOverrides(rounds, changed));
  // The new values as they are now written, beside those set before.
  const json all = json::parse(RoundConfigToJson(next.rounds), nullptr, false);
  json stored = json::parse(round_changes, nullptr, false);
  for (const auto& [key, value] : changed) {
    const json::json_pointer at(
        Cat("/", absl::StrReplaceAll(key, {{".", "/"}})));
    stored[at] = all[at];
  }
  next.round_changes = stored.dump();
  *this = std::move(next);
  return absl::OkStatus();
}

}  // namespace consilium

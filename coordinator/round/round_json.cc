#include "coordinator/round/round_json.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "nlohmann/json.hpp"

namespace consilium {
namespace {

using nlohmann::json;

// --- The fields, once, for both directions ---------------------------------

template <typename T, typename Visitor>
void VisitFields(T& value, Visitor& visit) {
  using V = std::remove_const_t<T>;
  if constexpr (std::is_same_v<V, EvaluationRule>) {
    visit("metric", value.metric);
    visit("higher_is_better", value.higher_is_better);
    visit("tolerance", value.tolerance);
  } else if constexpr (std::is_same_v<V, EvaluationConfig>) {
    visit("enabled", value.enabled);
    visit("quorum", value.quorum);
    visit("deadline", value.deadline);
    visit("without_quorum", value.without_quorum);
    visit("on_regression", value.on_regression);
    visit("rule", value.rule);
  } else if constexpr (std::is_same_v<V, RoundConfig>) {
    visit("quorum", value.quorum);
    visit("target", value.target);
    visit("over_selection", value.over_selection);
    visit("deadline", value.deadline);
    visit("grace", value.grace);
    visit("wait_after_quorum", value.wait_after_quorum);
    visit("minimum_examples", value.minimum_examples);
    visit("minimum_group_contributors", value.minimum_group_contributors);
    visit("maximum_weight", value.maximum_weight);
    visit("maximum_norm", value.maximum_norm);
    visit("fold_timeout", value.fold_timeout);
    visit("fold_attempts", value.fold_attempts);
    visit("fold_retry_delay", value.fold_retry_delay);
    visit("promotion", value.promotion);
    visit("evaluation", value.evaluation);
  } else if constexpr (std::is_same_v<V, RoundWeighting>) {
    visit("router_by_examples", value.router_by_examples);
    visit("maximum_tokens", value.maximum_tokens);
  } else if constexpr (std::is_same_v<V, RoundMember>) {
    visit("institution", value.institution);
    visit("state", value.state);
    visit("reason", value.reason);
    visit("progress", value.progress);
    visit("progress_text", value.progress_text);
    visit("updated_at", value.updated_at);
    visit("interrupted", value.interrupted);
    visit("quarantined", value.quarantined);
    visit("suspended", value.suspended);
    visit("examples", value.examples);
    visit("evaluation", value.evaluation);
    visit("evaluation_reason", value.evaluation_reason);
    visit("evaluation_examples", value.evaluation_examples);
    visit("metrics", value.metrics);
    visit("base_metrics", value.base_metrics);
  } else {
    static_assert(std::is_same_v<V, RoundState>);
    visit("id", value.id);
    visit("attempt", value.attempt);
    visit("phase", value.phase);
    visit("reason", value.reason);
    visit("base_version", value.base_version);
    visit("config", value.config);
    visit("weighting", value.weighting);
    visit("training", value.training);
    visit("members", value.members);
    visit("planned_at", value.planned_at);
    visit("opened_at", value.opened_at);
    visit("deadline", value.deadline);
    visit("quorum_at", value.quorum_at);
    visit("closed_at", value.closed_at);
    visit("evaluation_deadline", value.evaluation_deadline);
    visit("finished_at", value.finished_at);
    visit("extended", value.extended);
    visit("fold_run", value.fold_run);
    visit("fold_failures", value.fold_failures);
    visit("fold_until", value.fold_until);
    visit("fold_retry_at", value.fold_retry_at);
    visit("candidate", value.candidate);
    visit("held_groups", value.held_groups);
    visit("promoted_early", value.promoted_early);
    visit("clock", value.clock);
    visit.Later("elements_per_frame", value.elements_per_frame);
  }
}

constexpr size_t kMostShown = 256;
constexpr char kForever[] = "forever";

// --- Writing ---------------------------------------------------------------

template <typename T>
json ToJson(const T& value);

struct Writer {
  json object = json::object();
  template <typename T>
  void operator()(const char* key, const T& value);
  template <typename T>
  void Later(const char* key, const T& value) {
    (*this)(key, value);
  }
};

json ToJson(const std::string& value) { return value; }
json ToJson(absl::Duration value) {
  // The word of consilium.toml.
  return value == absl::InfiniteDuration() ? std::string(kForever)
                                           : absl::FormatDuration(value);
}
json ToJson(absl::Time value) { return absl::ToUnixMicros(value); }
json ToJson(RoundPhase v) { return RoundPhaseName(v); }
json ToJson(MemberState v) { return MemberStateName(v); }
json ToJson(EvaluationState v) { return EvaluationStateName(v); }
json ToJson(Promotion v) { return PromotionName(v); }
json ToJson(OnRegression v) { return OnRegressionName(v); }
json ToJson(WithoutQuorum v) { return WithoutQuorumName(v); }
template <typename T>
json ToJson(const std::map<std::string, T>& value) {
  json object = json::object();
  for (const auto& [k, v] : value) object[k] = v;
  return object;
}
template <typename T>
json ToJson(const std::optional<T>& value) {
  return value.has_value() ? ToJson(*value) : json();
}
template <typename T>
json ToJson(const std::vector<T>& value) {
  json array = json::array();
  for (const T& v : value) array.push_back(ToJson(v));
  return array;
}
template <typename T>
json ToJson(const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return value;
  } else {
    Writer writer;
    VisitFields(value, writer);
    return std::move(writer.object);
  }
}

template <typename T>
void Writer::operator()(const char* key, const T& value) {
  object[key] = ToJson(value);
}

// Never throws: text that is not UTF-8 is replaced, not refused.
std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// --- Reading ---------------------------------------------------------------

absl::Status WrongType(std::string_view path, std::string_view want,
                       const json& got) {
  return absl::InvalidArgumentError(
      Cat(path, " must be ", want, ", is ",
          got.is_string() ? Quoted(got.get_ref<const std::string&>())
                          : Dump(got).substr(0, kMostShown)));
}

template <typename T>
absl::Status FromJson(const json& in, const std::string& path, bool complete,
                      T& out);

struct Reader {
  const json& object;
  const std::string& path;
  bool complete;
  std::set<std::string> known;
  absl::Status status;

  template <typename T>
  void operator()(const char* key, T& value);
  // A field that rows written before it lack: it keeps its default there.
  template <typename T>
  void Later(const char* key, T& value) {
    const bool was = std::exchange(complete, false);
    (*this)(key, value);
    complete = was;
  }
};

absl::Status FromJson(const json& in, const std::string& path, bool,
                      std::string& out) {
  if (!in.is_string()) return WrongType(path, "a string", in);
  out = in.get<std::string>();
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      bool& out) {
  if (!in.is_boolean()) return WrongType(path, "true or false", in);
  out = in.get<bool>();
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      int64_t& out) {
  if (!in.is_number_integer() ||
      (in.is_number_unsigned() && in.get<uint64_t>() > INT64_MAX)) {
    return WrongType(path, "a whole number such as 3", in);
  }
  out = in.get<int64_t>();
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      double& out) {
  if (!in.is_number()) return WrongType(path, "a number", in);
  out = in.get<double>();
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      absl::Duration& out) {
  if (in.is_number()) {
    out = absl::Trunc(absl::Seconds(in.get<double>()), absl::Microseconds(1));
    return absl::OkStatus();
  }
  if (in.is_string()) {
    const auto& text = in.get_ref<const std::string&>();
    if (text == kForever) {
      out = absl::InfiniteDuration();
      return absl::OkStatus();
    }
    if (absl::ParseDuration(text, &out)) return absl::OkStatus();
    if (const auto days = ParseDuration(text); days.ok()) {
      out = *days;
      return absl::OkStatus();
    }
  }
  return WrongType(
      path, "a duration such as \"1h30m\", a number of seconds or \"forever\"",
      in);
}
absl::Status FromJson(const json& in, const std::string& path, bool complete,
                      absl::Time& out) {
  int64_t micros = 0;
  CONSILIUM_RETURN_IF_ERROR(FromJson(in, path, complete, micros));
  out = absl::FromUnixMicros(micros);
  return absl::OkStatus();
}

template <typename Enum>
absl::Status EnumFromJson(const json& in, const std::string& path, Enum& out,
                          absl::StatusOr<Enum> (*parse)(std::string_view)) {
  if (!in.is_string()) return WrongType(path, "a string", in);
  absl::StatusOr<Enum> parsed = parse(in.get_ref<const std::string&>());
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  out = *parsed;
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      RoundPhase& out) {
  return EnumFromJson(in, path, out, ParseRoundPhase);
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      MemberState& out) {
  return EnumFromJson(in, path, out, ParseMemberState);
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      EvaluationState& out) {
  return EnumFromJson(in, path, out, ParseEvaluationState);
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      Promotion& out) {
  return EnumFromJson(in, path, out, ParsePromotion);
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      OnRegression& out) {
  return EnumFromJson(in, path, out, ParseOnRegression);
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      WithoutQuorum& out) {
  return EnumFromJson(in, path, out, ParseWithoutQuorum);
}

absl::Status FromJson(const json& in, const std::string& path, bool,
                      std::map<std::string, double>& out) {
  if (!in.is_object()) return WrongType(path, "an object", in);
  out.clear();
  for (auto it = in.begin(); it != in.end(); ++it) {
    if (!it->is_number()) return WrongType(path, "numbers by name", *it);
    out[it.key()] = it->get<double>();
  }
  return absl::OkStatus();
}
absl::Status FromJson(const json& in, const std::string& path, bool,
                      std::map<std::string, std::string>& out) {
  if (!in.is_object()) return WrongType(path, "an object", in);
  out.clear();
  for (auto it = in.begin(); it != in.end(); ++it) {
    if (!it->is_string()) return WrongType(path, "texts by name", *it);
    out[it.key()] = it->get<std::string>();
  }
  return absl::OkStatus();
}
template <typename T>
absl::Status FromJson(const json& in, const std::string& path, bool complete,
                      std::optional<T>& out) {
  out.reset();
  if (in.is_null()) return absl::OkStatus();
  return FromJson(in, path, complete, out.emplace());
}
template <typename T>
absl::Status FromJson(const json& in, const std::string& path, bool complete,
                      std::vector<T>& out) {
  if (!in.is_array()) return WrongType(path, "an array", in);
  out.clear();
  for (size_t i = 0; i < in.size(); ++i) {
    T item;
    CONSILIUM_RETURN_IF_ERROR(
        FromJson(in[i], Cat(path, "[", i, "]"), complete, item));
    out.push_back(std::move(item));
  }
  return absl::OkStatus();
}
template <typename T>
absl::Status FromJson(const json& in, const std::string& path, bool complete,
                      T& out) {
  if (!in.is_object()) return WrongType(path, "an object", in);
  Reader reader{in, path, complete, {}, absl::OkStatus()};
  VisitFields(out, reader);
  CONSILIUM_RETURN_IF_ERROR(reader.status);
  for (auto it = in.begin(); it != in.end(); ++it) {
    if (!reader.known.contains(it.key())) {
      return absl::InvalidArgumentError(
          Cat("unknown key ", Quoted(it.key()),
              path.empty() ? "" : Cat(" in ", path)));
    }
  }
  return absl::OkStatus();
}

template <typename T>
void Reader::operator()(const char* key, T& value) {
  known.insert(key);
  if (!status.ok()) return;
  const auto it = object.find(key);
  const std::string full = path.empty() ? key : Cat(path, ".", key);
  if (it != object.end()) {
    status = FromJson(*it, full, complete, value);
  } else if (complete) {
    status = absl::InvalidArgumentError(Cat(full, " is not there"));
  }
}

template <typename T>
absl::StatusOr<T> ParseAs(std::string_view text, std::string_view what,
                          bool complete) {
  const json parsed = json::parse(text.begin(), text.end(), nullptr, false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError(
        Cat(what, " is not JSON: ", Quoted(text)));
  }
  T value;
  const absl::Status status = FromJson(parsed, "", complete, value);
  if (!status.ok()) return Annotate(status, what);
  return value;
}

}  // namespace

std::string RoundConfigToJson(const RoundConfig& config) {
  return Dump(ToJson(config));
}

absl::StatusOr<RoundConfig> RoundConfigFromJson(std::string_view text) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const RoundConfig config,
      ParseAs<RoundConfig>(text, "round configuration", false));
  CONSILIUM_RETURN_IF_ERROR(
      Annotate(ValidateRoundConfig(config), "round configuration"));
  return config;
}

std::string RoundStateToJson(const RoundState& state) {
  return Dump(ToJson(state));
}

absl::StatusOr<RoundState> RoundStateFromJson(std::string_view text) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundState state,
                             ParseAs<RoundState>(text, "round state", true));
  CONSILIUM_RETURN_IF_ERROR(
      Annotate(ValidateRoundConfig(state.config), "round state"));
  const auto not_ascending = [](const RoundMember& a, const RoundMember& b) {
    return a.institution >= b.institution;
  };
  if (std::adjacent_find(state.members.begin(), state.members.end(),
                         not_ascending) != state.members.end()) {
    return absl::InvalidArgumentError(
        "round state: members are not in ascending order");
  }
  return state;
}

}  // namespace consilium

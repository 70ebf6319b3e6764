#include "consilium/aggregation/group_rules.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/toml.h"

namespace consilium {
namespace {

constexpr std::string_view kTable = "groups";
constexpr std::string_view kAny = "**";
constexpr std::string_view kLayer = "{layer}";
constexpr std::string_view kExpert = "{expert}";

std::vector<std::string_view> PartsOf(std::string_view name) {
  std::vector<std::string_view> parts;
  for (const absl::string_view part : absl::StrSplit(AbslView(name), '.')) {
    parts.push_back(StdView(part));
  }
  return parts;
}

bool IsNumber(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
}

// `*` within one part. Goes back only to the last star, so it is quadratic at
// worst.
bool MatchesText(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0;
  size_t star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool MatchesPart(std::string_view pattern, std::string_view part) {
  if (pattern == kLayer || pattern == kExpert) return IsNumber(part);
  return MatchesText(pattern, part);
}

// Which part of the name each part of the pattern stands for; nothing where
// they do not match. `**` takes as few parts as it can.
class Matcher {
 public:
  Matcher(const std::vector<std::string>& pattern,
          const std::vector<std::string_view>& name)
      : pattern_(pattern), name_(name) {}

  std::optional<std::vector<size_t>> Match() {
    // rest[i][j]: pattern from i on matches the name from j on.
    const size_t n = pattern_.size(), m = name_.size();
    std::vector<std::vector<bool>> rest(n + 1, std::vector<bool>(m + 1));
    rest[n][m] = true;
    for (size_t i = n; i-- > 0;) {
      for (size_t j = m + 1; j-- > 0;) {
        rest[i][j] = pattern_[i] == kAny
                         ? rest[i + 1][j] || (j < m && rest[i][j + 1])
                         : j < m && MatchesPart(pattern_[i], name_[j]) &&
                               rest[i + 1][j + 1];
      }
    }
    if (!rest[0][0]) return std::nullopt;
    std::vector<size_t> at(n);
    size_t j = 0;
    for (size_t i = 0; i < n; ++i) {
      at[i] = j;
      if (pattern_[i] != kAny) {
        ++j;
      } else {
        while (!rest[i + 1][j]) ++j;
      }
    }
    return at;
  }

 private:
  const std::vector<std::string>& pattern_;
  const std::vector<std::string_view>& name_;
};

// Literal parts of the pattern that the name has in the same order, less those
// that it has not.
int64_t Nearness(const std::vector<std::string>& pattern,
                 const std::vector<std::string_view>& name) {
  std::vector<int64_t> best(name.size() + 1);
  int64_t literal = 0;
  for (const std::string& part : pattern) {
    if (part == kAny || part == "*") continue;
    ++literal;
    std::vector<int64_t> next(best.size());
    for (size_t j = 0; j < name.size(); ++j) {
      next[j + 1] = MatchesPart(part, name[j]) ? best[j] + 1
                                               : std::max(next[j], best[j + 1]);
    }
    best = std::move(next);
  }
  return 2 * best.back() - literal;
}

// Families share the parts around their experts.
#define CONSILIUM_DECODER_SHARED                               \
  "\"**.layers.*.self_attn.**\" = \"shared\"\n"                \
  "\"**.layers.*.input_layernorm.**\" = \"shared\"\n"          \
  "\"**.layers.*.post_attention_layernorm.**\" = \"shared\"\n" \
  "\"**.embed_tokens.**\" = \"shared\"\n"                      \
  "\"**.norm.**\" = \"shared\"\n"                              \
  "\"**.lm_head.**\" = \"shared\"\n"                           \
  "\"**.score.**\" = \"shared\"\n"

struct Family {
  std::string_view name;
  std::string_view text;
};

constexpr Family kFamilies[] = {
    {"bert",
     "[groups]\n"
     "\"**.embeddings.**\" = \"shared\"\n"
     "\"**.encoder.layer.*.**\" = \"shared\"\n"
     "\"**.pooler.**\" = \"shared\"\n"
     "\"**.cls.**\" = \"shared\"\n"
     "\"**.classifier.**\" = \"shared\"\n"},
    {"deepseek",
     "[groups]\n"
     "\"**.layers.{layer}.mlp.experts.{expert}.**\" = \"expert\"\n"
     "\"**.layers.{layer}.mlp.gate.**\" = \"router\"\n"
     "\"**.layers.*.mlp.shared_experts.**\" = \"shared\"\n"
     "\"**.layers.*.mlp.*_proj.**\" = \"shared\"\n" CONSILIUM_DECODER_SHARED},
    {"gpt_oss",
     "[groups]\n"
     "\"**.layers.{layer}.mlp.experts.{expert}.**\" = \"expert\"\n"
     "\"**.layers.{layer}.mlp.router.**\" = "
     "\"router\"\n" CONSILIUM_DECODER_SHARED},
    {"llama",
     "[groups]\n"
     "\"**.layers.*.mlp.*_proj.**\" = \"shared\"\n" CONSILIUM_DECODER_SHARED},
    {"mixtral",
     "[groups]\n"
     "\"**.layers.{layer}.block_sparse_moe.experts.{expert}.**\" = "
     "\"expert\"\n"
     "\"**.layers.{layer}.mlp.experts.{expert}.**\" = \"expert\"\n"
     "\"**.layers.{layer}.block_sparse_moe.gate.**\" = \"router\"\n"
     "\"**.layers.{layer}.mlp.gate.**\" = "
     "\"router\"\n" CONSILIUM_DECODER_SHARED},
    {"olmoe",
     "[groups]\n"
     "\"**.layers.{layer}.mlp.experts.{expert}.**\" = \"expert\"\n"
     "\"**.layers.{layer}.mlp.gate.**\" = "
     "\"router\"\n" CONSILIUM_DECODER_SHARED},
    {"qwen_moe",
     "[groups]\n"
     "\"**.layers.{layer}.mlp.experts.{expert}.**\" = \"expert\"\n"
     "\"**.layers.{layer}.mlp.gate.**\" = \"router\"\n"
     "\"**.layers.*.mlp.shared_expert.**\" = \"shared\"\n"
     "\"**.layers.*.mlp.shared_expert_gate.**\" = \"shared\"\n"
     "\"**.layers.*.mlp.*_proj.**\" = \"shared\"\n" CONSILIUM_DECODER_SHARED},
};
#undef CONSILIUM_DECODER_SHARED

}  // namespace

absl::StatusOr<GroupRules::Rule> GroupRules::MakeRule(
    const std::string& pattern, std::string_view group) {
  Rule rule;
  rule.pattern = pattern;
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(
        Cat("rule ", Quoted(pattern), ": ", what));
  };
  if (group == "expert") {
    rule.kind = GroupKind::kExpert;
  } else if (group == "router") {
    rule.kind = GroupKind::kRouter;
  } else if (group != "shared") {
    return wrong(Cat("its group is ", Quoted(group),
                     "; it is \"shared\", \"expert\" or \"router\""));
  }
  size_t layers = 0, experts = 0;
  for (const std::string_view part : PartsOf(pattern)) {
    if (part.empty()) return wrong("a part between dots is empty");
    layers += part == kLayer ? 1 : 0;
    experts += part == kExpert ? 1 : 0;
    const bool whole = part == kAny || part == kLayer || part == kExpert;
    if (!whole && (part.find(kAny) != std::string_view::npos ||
                   part.find_first_of("{}") != std::string_view::npos)) {
      return wrong(Cat("the part ", Quoted(part),
                       " mixes `**`, `{layer}` or `{expert}` with text"));
    }
    rule.parts.emplace_back(part);
  }
  if (rule.parts.size() > kMaxNameParts) {
    return wrong(Cat("more than ", kMaxNameParts, " parts"));
  }
  const size_t wants_layer = rule.kind == GroupKind::kShared ? 0 : 1;
  const size_t wants_expert = rule.kind == GroupKind::kExpert ? 1 : 0;
  if (layers != wants_layer || experts != wants_expert) {
    return wrong(Cat("{layer} stands there ", layers, " times and {expert} ",
                     experts, " times; for \"", group, "\" that is ",
                     wants_layer, " and ", wants_expert));
  }
  return rule;
}

absl::StatusOr<GroupRules> GroupRules::Parse(std::string_view toml) {
  CONSILIUM_ASSIGN_OR_RETURN(const TomlDocument document, ReadToml(toml));
  GroupRules out;
  for (const TomlTable& table : document.tables) {
    if (table.path.size() != 1 || table.path[0] != kTable) {
      return absl::InvalidArgumentError(
          Cat("line ", table.line, ": table [", DottedName(table.path),
              "]; rules stand in [", kTable, "]"));
    }
  }
  for (const TomlEntry& entry : document.entries) {
    const auto wrong = [&](std::string_view what) {
      return absl::InvalidArgumentError(Cat("line ", entry.line, ": ", what));
    };
    if (entry.path.size() != 2 || entry.path[0] != kTable) {
      return wrong(Cat("a pattern stands in quotes, in [", kTable, "]"));
    }
    const auto* const group = std::get_if<std::string>(&entry.value);
    if (group == nullptr) return wrong("the group is a text");
    auto rule = MakeRule(entry.path[1], *group);
    if (!rule.ok()) return Annotate(rule.status(), Cat("line ", entry.line));
    if (out.rules_.size() == kMaxGroupRules) {
      return absl::ResourceExhaustedError(
          Cat("line ", entry.line, ": more than ", kMaxGroupRules, " rules"));
    }
    out.rules_.push_back(*std::move(rule));
  }
  if (out.rules_.empty()) {
    return absl::InvalidArgumentError(Cat("no rules in [", kTable, "]"));
  }
  return out;
}

std::vector<std::string_view> GroupRules::BuiltInFamilies() {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) names.push_back(family.name);
  return names;
}

absl::StatusOr<std::string_view> GroupRules::BuiltInText(
    std::string_view family) {
  std::string names;
  for (const Family& one : kFamilies) {
    if (one.name == family) return one.text;
    CatInto(names, names.empty() ? "" : ", ", one.name);
  }
  return absl::NotFoundError(
      Cat("no rules for ", Quoted(family), "; there are: ", names));
}

absl::StatusOr<GroupRules> GroupRules::BuiltIn(std::string_view family) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view text, BuiltInText(family));
  return Parse(text);
}

absl::StatusOr<GroupName> GroupRules::GroupOf(std::string_view name) const {
  const std::vector<std::string_view> parts = PartsOf(name);
  if (parts.size() > kMaxNameParts) {
    return absl::NotFoundError(Cat("tensor ", Quoted(name, 512),
                                   " has more than ", kMaxNameParts, " parts"));
  }
  for (const Rule& rule : rules_) {
    const auto at = Matcher(rule.parts, parts).Match();
    if (!at.has_value()) continue;
    GroupName group;
    group.kind = rule.kind;
    for (size_t i = 0; i < rule.parts.size(); ++i) {
      const bool layer = rule.parts[i] == kLayer;
      if (!layer && rule.parts[i] != kExpert) continue;
      const std::string_view digits = parts[(*at)[i]];
      uint32_t number = 0;
      if (!absl::SimpleAtoi(AbslView(digits), &number)) {
        return absl::OutOfRangeError(Cat("tensor ", Quoted(name, 512), ": ",
                                         layer ? "layer " : "expert ", digits,
                                         " is above 4294967295"));
      }
      (layer ? group.layer : group.expert) = number;
    }
    return group;
  }
  const auto nearest = std::max_element(
      rules_.begin(), rules_.end(), [&](const Rule& a, const Rule& b) {
        return Nearness(a.parts, parts) < Nearness(b.parts, parts);
      });
  return absl::NotFoundError(Cat("no rule matches tensor ", Quoted(name, 512),
                                 "; the nearest is ",
                                 Quoted(nearest->pattern)));
}

}  // namespace consilium

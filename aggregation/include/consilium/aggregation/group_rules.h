// Which release group a tensor belongs to, by its name. Rules are patterns over
// the parts of a name between dots; the first that matches decides:
//
//   [groups]
//   "**.layers.{layer}.mlp.experts.{expert}.**" = "expert"
//   "**.layers.{layer}.mlp.gate.**"             = "router"
//   "**.layers.*.self_attn.**"                  = "shared"
//
// A part is literal text in which `*` stands for any characters; `{layer}` and
// `{expert}` stand for a number; `**` stands for any parts, or none. A rule for
// "expert" holds {layer} and {expert}, one for "router" {layer}, each once.
//
// A name that no rule matches is an error, not `shared`: an expert that is
// averaged as if everybody had trained it is what rules are there to prevent.
#ifndef CONSILIUM_AGGREGATION_GROUP_RULES_H_
#define CONSILIUM_AGGREGATION_GROUP_RULES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"

namespace consilium {

inline constexpr size_t kMaxGroupRules = 1024;
inline constexpr size_t kMaxNameParts = 128;

// Immutable, so safe to share between threads.
class GroupRules {
 public:
  // Errors: INVALID_ARGUMENT naming line and pattern; RESOURCE_EXHAUSTED above
  // kMaxGroupRules.
  static absl::StatusOr<GroupRules> Parse(std::string_view toml);

  // The rules of a family of models: "deepseek" (V2, V3), "mixtral", "qwen_moe"
  // (2 and 3), "olmoe", "gpt_oss", "llama", "bert". Names are those of Hugging
  // Face transformers, experts one by one or fused.
  // Errors: NOT_FOUND, with the names there are.
  static absl::StatusOr<GroupRules> BuiltIn(std::string_view family);
  static std::vector<std::string_view> BuiltInFamilies();
  // The file that BuiltIn() reads, as a start for one's own.
  static absl::StatusOr<std::string_view> BuiltInText(std::string_view family);

  // Errors: NOT_FOUND for a name that no rule matches, with the nearest rule;
  // OUT_OF_RANGE for a layer or an expert above 2^32 - 1.
  absl::StatusOr<GroupName> GroupOf(std::string_view name) const;

 private:
  struct Rule {
    std::string pattern;
    std::vector<std::string> parts;
    GroupKind kind = GroupKind::kShared;
  };
  static absl::StatusOr<Rule> MakeRule(const std::string& pattern,
                                       std::string_view group);

  std::vector<Rule> rules_;
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_GROUP_RULES_H_

#include "consilium/aggregation/weights.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

// The routed tokens of `group`, nullptr when the contribution gives none.
const GroupTokens* FindTokens(std::span<const GroupTokens> tokens,
                              uint32_t group) {
  const auto found = std::lower_bound(
      tokens.begin(), tokens.end(), group,
      [](const GroupTokens& t, uint32_t g) { return t.group < g; });
  if (found == tokens.end() || found->group != group) return nullptr;
  return &*found;
}

bool AllGiveTokens(std::span<const WeightInput> inputs, uint32_t group) {
  return std::all_of(inputs.begin(), inputs.end(), [&](const WeightInput& in) {
    return !in.coverage->Has(group) ||
           FindTokens(in.group_tokens, group) != nullptr;
  });
}

}  // namespace

absl::StatusOr<int64_t> QuantizeWeight(double w, double w_max) {
  if (!std::isfinite(w_max) || w_max <= 0) {
    return absl::InvalidArgumentError(
        Cat("the largest weight ", w_max, " is not a positive number"));
  }
  if (!std::isfinite(w) || w < 0) {
    return absl::InvalidArgumentError(
        Cat("weight ", w, " is not a non-negative number"));
  }
  if (w == 0) return 0;
  const double share = std::min(w, w_max) / w_max;
  const int64_t u = std::llround(share * static_cast<double>(kWeightOne));
  return std::max<int64_t>(u, 1);
}

absl::StatusOr<std::vector<std::vector<int64_t>>> PlanWeights(
    const Layout& layout, std::span<const WeightInput> inputs,
    const WeightPolicy& policy) {
  if (inputs.size() > kMaxContributions) {
    return absl::ResourceExhaustedError(
        Cat(inputs.size(), " contributions exceed the most of ",
            kMaxContributions));
  }
  const auto groups = static_cast<uint32_t>(layout.groups().size());
  std::vector<std::vector<int64_t>> plan(inputs.size(),
                                         std::vector<int64_t>(groups));
  std::vector<int64_t> by_examples(inputs.size());
  for (size_t c = 0; c < inputs.size(); ++c) {
    if (inputs[c].coverage->groups() != groups) {
      return absl::InvalidArgumentError(Cat(
          "contribution ", c, " has coverage of ", inputs[c].coverage->groups(),
          " groups; the layout has ", groups));
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        by_examples[c], QuantizeWeight(static_cast<double>(inputs[c].examples),
                                       policy.max_examples));
  }
  for (uint32_t g = 0; g < groups; ++g) {
    const GroupKind kind = layout.groups()[g].kind;
    if (kind == GroupKind::kRouter && policy.router == RouterPolicy::kFrozen) {
      continue;
    }
    const bool by_tokens =
        kind == GroupKind::kExpert && AllGiveTokens(inputs, g);
    for (size_t c = 0; c < inputs.size(); ++c) {
      if (!inputs[c].coverage->Has(g)) continue;
      plan[c][g] = by_examples[c];
      if (by_tokens) {
        const GroupTokens* const entry = FindTokens(inputs[c].group_tokens, g);
        CONSILIUM_ASSIGN_OR_RETURN(
            plan[c][g], QuantizeWeight(static_cast<double>(entry->tokens),
                                       policy.max_tokens));
      }
    }
  }
  return plan;
}

}  // namespace consilium

#ifndef CONSILIUM_AGGREGATION_WEIGHTS_H_
#define CONSILIUM_AGGREGATION_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/metadata.h"

namespace consilium {

// Weights are integers in the plain and in the masked path alike:
//   u = round(min(w, w_max) / w_max * 2^40)
// A contribution with u = 0 for a group does not take part in that group.
inline constexpr int64_t kWeightOne = int64_t{1} << 40;
// Sums of weights stay below 2^53, so that they are exact as doubles.
inline constexpr size_t kMaxContributions = 4096;

// Half goes away from zero. A weight above zero gives at least 1.
// Errors: INVALID_ARGUMENT when w is negative or not finite, or w_max is not a
// positive finite number.
absl::StatusOr<int64_t> QuantizeWeight(double w, double w_max);

// What becomes of router groups. Averaged gates can misalign experts, so they
// stay as they are unless policy says otherwise.
enum class RouterPolicy { kFrozen, kExamples };

// Fixed per round.
struct WeightPolicy {
  double max_examples = 10'000'000;     // w_max of example counts
  double max_tokens = 1'000'000'000.0;  // w_max of routed-token counts
  RouterPolicy router = RouterPolicy::kFrozen;
};

// What one contribution says about its weight.
struct WeightInput {
  const Coverage* coverage = nullptr;
  uint64_t examples = 0;
  std::span<const GroupTokens> group_tokens = {};  // ascending groups
};

// u by contribution and group, in the order of `inputs`; 0 where a
// contribution does not take part. Examples, except for expert groups for
// which every covering contribution gives a token count: those use it (counts
// of two kinds cannot share a denominator).
// Errors: INVALID_ARGUMENT, as QuantizeWeight(); RESOURCE_EXHAUSTED above
// kMaxContributions.
absl::StatusOr<std::vector<std::vector<int64_t>>> PlanWeights(
    const Layout& layout, std::span<const WeightInput> inputs,
    const WeightPolicy& policy);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_WEIGHTS_H_

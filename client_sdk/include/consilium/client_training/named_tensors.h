// Parameters in memory, by slot name.
#ifndef CONSILIUM_CLIENT_TRAINING_NAMED_TENSORS_H_
#define CONSILIUM_CLIENT_TRAINING_NAMED_TENSORS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;  // row-major; empty: scalar
  std::vector<float> values;
};

// Where the parameters of a version come from: the elements of one slot, which
// stay valid until the call that was given the source returns.
// SafetensorsView::Floats is one.
using ParameterSource =
    std::function<absl::StatusOr<std::span<const float>>(std::string_view)>;

// Reads `tensors`, which must neither change nor move while it is in use. The
// source answers NOT_FOUND for another name.
ParameterSource SourceOf(std::span<const NamedTensor> tensors);

// parameters[name] += delta[name]; what `delta` does not name stays. In
// float32, as one who trains alone does between rounds.
//
// Errors, with `parameters` unchanged:
//   NOT_FOUND         a name that is not in `parameters`
//   INVALID_ARGUMENT  a tensor of another length
absl::Status AddDelta(std::span<const NamedTensor> delta,
                      std::span<NamedTensor> parameters);

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_TRAINING_NAMED_TENSORS_H_

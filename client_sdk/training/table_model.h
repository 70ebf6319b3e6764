// The table classifier on LibTorch tensors. Only files of this folder that
// need them include this header.
#ifndef CONSILIUM_CLIENT_SDK_TRAINING_TABLE_MODEL_H_
#define CONSILIUM_CLIENT_SDK_TRAINING_TABLE_MODEL_H_

#include <ATen/ATen.h>

#include <vector>

#include "absl/status/statusor.h"
#include "client_sdk/training/base_model.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium {

struct FrozenTable {
  at::Tensor mean, inverse_deviation;  // [features]
  at::Tensor weight[2], bias[2];       // trunk
  at::Tensor head_weight, head_bias;

  static FrozenTable From(const BaseModel& model, const at::Device& device);
};

// The parameters that train. The experts' slots are stacked, so that all
// experts run as one batched product.
struct AdapterTable {
  at::Tensor lora_a[2], lora_b[2];  // [rank, in], [width, rank]
  at::Tensor up;                    // [experts, expert_width, width]
  at::Tensor down;                  // [experts, width, expert_width]
  at::Tensor router;                // [experts, width]

  // Asks `source` for every slot. Errors: those of `source`;
  // INVALID_ARGUMENT for a slot of the wrong length or with NaN or infinity.
  static absl::StatusOr<AdapterTable> From(const TableMoeShape& shape,
                                           const ParameterSource& source,
                                           const at::Device& device);

  // In a fixed order, for the optimiser.
  std::vector<at::Tensor> All() const;
  static AdapterTable FromAll(const std::vector<at::Tensor>& all);

  // The slots again, in layout order, on the CPU.
  std::vector<NamedTensor> ToSlots(const TableMoeShape& shape) const;
};

struct TableForward {
  at::Tensor scores;   // [rows, classes]
  at::Tensor chosen;   // [rows, experts], 1 where a row went to an expert
  at::Tensor balance;  // sum_e (f_e / mu - 1)^2
};

// Features as they come, [rows, features].
TableForward Forward(const TableMoeShape& shape, const FrozenTable& frozen,
                     const AdapterTable& adapter, const at::Tensor& features);

// Trunk and head alone; what pre-training trains.
at::Tensor ForwardTrunk(const FrozenTable& frozen, const at::Tensor& features);

// A copy of `values` on `device`.
at::Tensor ToTensor(std::span<const float> values,
                    std::span<const int64_t> shape, const at::Device& device);
std::vector<float> ToVector(const at::Tensor& tensor);

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_SDK_TRAINING_TABLE_MODEL_H_

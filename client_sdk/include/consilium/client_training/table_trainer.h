// The reference trainer: a mixture-of-experts classifier for tables. Its trunk
// is frozen; LoRA adapters, experts and router train and travel.
//
//   x     = (features - mean) / deviation            of the public slice
//   h     = gelu(trunk.1 gelu(trunk.0 x))            each linear: W + s B A
//   p     = softmax(router h)
//   y     = h + sum over the k largest p of  gate_e * down_e gelu(up_e h)
//   score = head y
//
// with s = lora_alpha / lora_rank and gates that are the chosen p, divided by
// their sum. Training minimises cross-entropy plus
// balance_alpha * sum_e (f_e / mu - 1)^2, where f_e is expert e's share of the
// batch's routed tokens and mu = 1 / experts. A token is one (row, chosen
// expert) pair. f counts choices, which have no gradient, so the gradient is
// that of the batch mean of p_e.
//
// No type of LibTorch appears here. LibTorch's own exceptions come out as
// INTERNAL.
#ifndef CONSILIUM_CLIENT_TRAINING_TABLE_TRAINER_H_
#define CONSILIUM_CLIENT_TRAINING_TABLE_TRAINER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/cancel.h"
#include "consilium/client_training/named_tensors.h"

namespace consilium {

// Sizes of the model; stored in the base-model file.
struct TableMoeShape {
  int64_t features = 30;   // columns of the table
  int64_t classes = 2;     // labels are 0 .. classes - 1
  int64_t width = 64;      // of the trunk
  int64_t lora_rank = 8;   // at most `width`
  double lora_alpha = 16;  // above 0
  int64_t experts = 8;
  int64_t expert_width = 32;  // of an expert's hidden layer
  int64_t top_k = 2;          // experts per row, at most `experts`
};

// Rows of a table. Does not own them.
struct TableView {
  std::span<const float> features;  // rows x columns, row-major, finite
  std::span<const int32_t> labels;  // one per row
  int64_t columns = 0;
};

struct PretrainOptions {
  int64_t epochs = 15;  // each one step over the whole slice
  double learning_rate = 0.01;
  double weight_decay = 0.01;
  uint64_t seed = 1;
  // Names of the slice's columns, which go into the base model, so that no
  // institution trains on columns in another order. Empty: none.
  std::vector<std::string> columns = {};
};

struct PretrainedTable {
  // A safetensors file: shape, column names, feature scaling, trunk and head.
  // Institutions need it beside the versions; its SHA-256 is the base-model
  // hash.
  std::string base_model;
  // Every slot, in layout order. The adapters start as no change.
  std::vector<NamedTensor> version_zero;
};

enum class TrainingDevice { kAuto, kCpu, kCuda };

struct TrainerOptions {
  // kAuto: CUDA when LibTorch's CUDA library loads and finds a device.
  TrainingDevice device = TrainingDevice::kAuto;
  // LibTorch's threads on the CPU, for the whole process. With 1, equal
  // arguments give equal bits on one machine.
  int threads = 1;
};

// The defaults are those of the reference federation; DESIGN.md in
// client_sdk/training/ has the measurements behind them.
struct TrainOptions {
  int64_t epochs = 5;
  int64_t batch_rows = 16;
  // AdamW. The rate rises over the first `warmup_steps` of a call, and is
  // multiplied by `learning_rate_decay` after each epoch.
  double learning_rate = 0.003;
  double learning_rate_decay = 0.95;
  int64_t warmup_steps = 5;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double weight_decay = 0.01;
  double clip_norm = 1.0;  // of the gradient over all tensors; 0: no clipping
  double balance_alpha = 0.01;
  // FedProx: adds prox_mu / 2 * |parameters - base|^2 to the loss (Li et al.,
  // "Federated optimization in heterogeneous networks", MLSys 2020).
  double prox_mu = 0.05;
  uint64_t seed = 1;  // of the order of the rows
};

// After each epoch.
struct TrainProgress {
  int64_t epoch = 0;  // 1 .. epochs
  int64_t epochs = 0;
  double loss = 0;  // mean cross-entropy of this epoch
};

struct TrainResult {
  // Trained minus base, by slot name, in layout order. An expert that no row
  // reached has no tensors here.
  std::vector<NamedTensor> delta;
  uint64_t examples = 0;  // rows of the slice
  // By expert, over all epochs; they sum to examples * top_k * epochs.
  std::vector<uint64_t> routed_tokens;
  // Standard deviation over experts of their share of those tokens.
  double utilisation_std = 0;
  int64_t steps = 0;
  // Of the last epoch, measured while it trained.
  double loss = 0;      // mean cross-entropy, without balance and FedProx
  double accuracy = 0;  // 0 .. 1
};

struct TableEvaluation {
  uint64_t examples = 0;
  double loss = 0;      // mean cross-entropy
  double accuracy = 0;  // 0 .. 1
  // Area under the ROC curve of class 1; only with two classes, both present.
  std::optional<double> auc;
};

// Stateless between calls. One call at a time per process: LibTorch's thread
// count belongs to the process, and it looks for CUDA at its first use. So
// where a process pre-trains and wants CUDA, Create() comes first. Calls block.
class TableMoeTrainer {
 public:
  // Trains trunk and head on a public slice, on one CPU thread, without the
  // experts, and draws the other parameters from the seed. The feature scaling
  // is that of the slice. LibTorch's bits depend on the kind of CPU, so this
  // runs once per federation and the result is passed on.
  //
  // Errors:
  //   INVALID_ARGUMENT  shape, options or table out of range; names it
  //   ABORTED           the loss is no longer finite
  static absl::StatusOr<PretrainedTable> Pretrain(
      const TableMoeShape& shape, const TableView& public_slice,
      const PretrainOptions& options);

  // Errors:
  //   INVALID_ARGUMENT     no base model, or a broken one
  //   FAILED_PRECONDITION  kCuda asked for and not to be had; says why
  static absl::StatusOr<std::unique_ptr<TableMoeTrainer>> Create(
      std::span<const std::byte> base_model, const TrainerOptions& options);

  ~TableMoeTrainer();
  TableMoeTrainer(const TableMoeTrainer&) = delete;
  TableMoeTrainer& operator=(const TableMoeTrainer&) = delete;

  const TableMoeShape& shape() const;
  // In the order of the features; empty where the base model names none.
  const std::vector<std::string>& columns() const;
  // "cpu" or "cuda:0".
  std::string device() const;

  // Slots of the adapter, in layout order, for Layout::Create. Trunk adapters
  // are group `shared`, expert i is `expert/0/<i>`, the router `router/0`.
  std::vector<SlotSpec> Slots() const;

  // `progress` may be empty; it is called on this thread.
  //
  // Errors:
  //   INVALID_ARGUMENT  table, options or base parameters do not fit
  //   ABORTED           the loss is no longer finite; says at which epoch
  //   CANCELLED         `cancel`, checked before every step
  //   and those of `base`
  absl::StatusOr<TrainResult> Train(
      const ParameterSource& base, const TableView& rows,
      const TrainOptions& options,
      const std::function<void(const TrainProgress&)>& progress = {},
      const CancelToken& cancel = {}) const;

  // Errors: INVALID_ARGUMENT and ABORTED as above; those of `parameters`.
  absl::StatusOr<TableEvaluation> Evaluate(const ParameterSource& parameters,
                                           const TableView& rows) const;

 private:
  class Impl;
  explicit TableMoeTrainer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_TRAINING_TABLE_TRAINER_H_

#include "consilium/client_training/table_trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "client_sdk/training/base_model.h"
#include "client_sdk/training/table_metrics.h"
#include "client_sdk/training/table_model.h"
#include "client_sdk/training/torch_device.h"
#include "consilium/base/split_mix.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr int64_t kEvaluationRows = 4096;  // per forward pass
constexpr double kAdamEpsilon = 1e-8;
// Experts start close to silent, so that version 0 behaves as the trunk does,
// but not at zero, where the router would have no gradient.
constexpr double kExpertStart = 0.1;

// LibTorch reports by exception; no other code of the project does.
template <typename Function>
auto Guarded(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const c10::Error& error) {
    return absl::InternalError(
        Cat("LibTorch: ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(Cat("LibTorch: ", error.what()));
  }
}

struct Range {
  std::string_view name;
  double value, least, most;
};

absl::Status CheckRanges(std::initializer_list<Range> ranges) {
  for (const Range& range : ranges) {
    // Not the reverse test, which would let NaN pass.
    if (!(range.value >= range.least && range.value <= range.most)) {
      return absl::InvalidArgumentError(
          Cat("training option ", range.name, " is ", range.value,
              "; it must be ", range.least, " to ", range.most));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const TrainOptions& o) {
  return CheckRanges({
      {"epochs", static_cast<double>(o.epochs), 1, 1e6},
      {"batch_rows", static_cast<double>(o.batch_rows), 1, 1e6},
      {"learning_rate", o.learning_rate, 1e-12, 10},
      {"learning_rate_decay", o.learning_rate_decay, 0.01, 1},
      {"warmup_steps", static_cast<double>(o.warmup_steps), 0, 1e9},
      {"beta1", o.beta1, 0, 0.99999},
      {"beta2", o.beta2, 0, 0.99999},
      {"weight_decay", o.weight_decay, 0, 1},
      {"clip_norm", o.clip_norm, 0, 1e9},
      {"balance_alpha", o.balance_alpha, 0, 1e3},
      {"prox_mu", o.prox_mu, 0, 1e3},
  });
}

class AdamW {
 public:
  AdamW(std::vector<at::Tensor> parameters, double beta1, double beta2,
        double weight_decay)
      : parameters_(std::move(parameters)),
        beta1_(beta1),
        beta2_(beta2),
        weight_decay_(weight_decay) {
    for (const at::Tensor& parameter : parameters_) {
      mean_.push_back(at::zeros_like(parameter));
      square_.push_back(at::zeros_like(parameter));
      steps_.push_back(at::zeros({}, parameter.options()));
    }
  }

  void Step(const std::vector<at::Tensor>& gradients, double learning_rate) {
    at::_foreach_add_(steps_, 1);
    at::_fused_adamw_(parameters_, gradients, mean_, square_, {}, steps_,
                      learning_rate, beta1_, beta2_, weight_decay_,
                      kAdamEpsilon, /*amsgrad=*/false, /*maximize=*/false);
  }

 private:
  std::vector<at::Tensor> parameters_;
  const double beta1_, beta2_, weight_decay_;
  std::vector<at::Tensor> mean_, square_, steps_;
};

void ClipGradients(const std::vector<at::Tensor>& gradients, double norm) {
  const at::Tensor total = at::stack(at::_foreach_norm(gradients, 2)).norm();
  at::_foreach_mul_(gradients, (norm / (total + 1e-6)).clamp_max(1.0));
}

// By tensor of `leaves`, laid out like it: the fused optimiser reads plain
// memory, and the gradient of a transposed use comes transposed.
std::vector<at::Tensor> GradientsOf(const at::Tensor& loss,
                                    const std::vector<at::Tensor>& leaves) {
  std::vector<at::Tensor> gradients = torch::autograd::grad({loss}, leaves);
  for (at::Tensor& gradient : gradients) gradient = gradient.contiguous();
  return gradients;
}

std::vector<at::Tensor> AsLeaves(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& tensor : tensors) {
    leaves.push_back(tensor.detach()
                         .clone(at::MemoryFormat::Contiguous)
                         .set_requires_grad(true));
  }
  return leaves;
}

struct TableTensors {
  at::Tensor features;  // [rows, columns]
  at::Tensor labels;    // [rows], int64
};

TableTensors Load(const TableView& rows, const at::Device& device) {
  const int64_t count = static_cast<int64_t>(rows.labels.size());
  const int64_t shape[] = {count, rows.columns};
  at::Tensor labels = at::empty({count}, at::kLong);
  std::copy(rows.labels.begin(), rows.labels.end(),
            labels.mutable_data_ptr<int64_t>());
  return {ToTensor(rows.features, shape, device), labels.to(device)};
}

at::Tensor CountCorrect(const at::Tensor& scores, const at::Tensor& labels) {
  return scores.argmax(1).eq(labels).sum();
}

// The slice's own mean and deviation; a constant column counts for nothing.
void FillScaling(const TableView& rows, std::vector<float>& mean,
                 std::vector<float>& inverse_deviation) {
  const size_t columns = static_cast<size_t>(rows.columns);
  const double count = static_cast<double>(rows.labels.size());
  for (size_t column = 0; column < columns; ++column) {
    double sum = 0, squares = 0;
    for (size_t i = column; i < rows.features.size(); i += columns) {
      sum += rows.features[i];
    }
    const double average = sum / count;
    for (size_t i = column; i < rows.features.size(); i += columns) {
      const double off = rows.features[i] - average;
      squares += off * off;
    }
    const double deviation = std::sqrt(squares / count);
    mean.push_back(static_cast<float>(average));
    inverse_deviation.push_back(
        deviation > 1e-12 ? static_cast<float>(1 / deviation) : 0.0f);
  }
}

// Uniform in +-bound: no function whose last bit depends on the C library.
void FillUniform(RandomSource& random, double bound, NamedTensor& tensor) {
  tensor.values.resize(static_cast<size_t>(ElementsOf(tensor.shape)));
  for (float& value : tensor.values) {
    value = static_cast<float>((2 * RandomUnit(random) - 1) * bound);
  }
}

double StartBound(const NamedTensor& tensor) {
  return 1 / std::sqrt(static_cast<double>(tensor.shape.back()));
}

std::vector<NamedTensor> DrawVersionZero(const TableMoeShape& shape,
                                         RandomSource& random) {
  std::vector<NamedTensor> slots;
  for (SlotSpec& slot : AdapterSlots(shape)) {
    NamedTensor tensor{std::move(slot.name), std::move(slot.shape), {}};
    double bound = StartBound(tensor);
    if (tensor.name.ends_with("lora_B.weight")) bound = 0;
    if (tensor.name.ends_with("down.weight")) bound *= kExpertStart;
    FillUniform(random, bound, tensor);
    slots.push_back(std::move(tensor));
  }
  return slots;
}

}  // namespace

class TableMoeTrainer::Impl {
 public:
  Impl(const BaseModel& model, const at::Device& device)
      : shape_(model.shape),
        columns_(model.columns),
        device_(device),
        frozen_(FrozenTable::From(model, device)) {}

  const TableMoeShape& shape() const { return shape_; }
  const std::vector<std::string>& columns() const { return columns_; }
  const at::Device& device() const { return device_; }

  absl::StatusOr<TrainResult> Train(
      const ParameterSource& base, const TableView& rows,
      const TrainOptions& options,
      const std::function<void(const TrainProgress&)>& progress,
      const CancelToken& cancel) const;
  absl::StatusOr<TableEvaluation> Evaluate(const ParameterSource& parameters,
                                           const TableView& rows) const;

 private:
  const TableMoeShape shape_;
  const std::vector<std::string> columns_;
  const at::Device device_;
  const FrozenTable frozen_;
};

absl::StatusOr<TrainResult> TableMoeTrainer::Impl::Train(
    const ParameterSource& base, const TableView& rows,
    const TrainOptions& options,
    const std::function<void(const TrainProgress&)>& progress,
    const CancelToken& cancel) const {
  CONSILIUM_RETURN_IF_ERROR(CheckTable(rows, shape_));
  CONSILIUM_RETURN_IF_ERROR(CheckOptions(options));
  CONSILIUM_ASSIGN_OR_RETURN(const AdapterTable start,
                             AdapterTable::From(shape_, base, device_));
  const std::vector<at::Tensor> before = start.All();
  const std::vector<at::Tensor> leaves = AsLeaves(before);
  const AdapterTable adapter = AdapterTable::FromAll(leaves);
  const TableTensors table = Load(rows, device_);
  const int64_t count = static_cast<int64_t>(rows.labels.size());

  AdamW optimiser(leaves, options.beta1, options.beta2, options.weight_decay);
  SplitMixRandom random(options.seed);
  std::vector<int64_t> order(rows.labels.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  at::Tensor routed = at::zeros({shape_.experts},
                                at::TensorOptions(device_).dtype(at::kDouble));

  TrainResult result;
  double rate = options.learning_rate;
  for (int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    Shuffle(random, std::span(order));
    at::Tensor shuffled = at::empty({count}, at::kLong);
    std::copy(order.begin(), order.end(), shuffled.mutable_data_ptr<int64_t>());
    shuffled = shuffled.to(device_);
    // Read once per epoch: each read waits for the device.
    at::Tensor loss = at::zeros({}, routed.options());
    at::Tensor correct = at::zeros({}, routed.options());
    for (int64_t at_row = 0; at_row < count; at_row += options.batch_rows) {
      CONSILIUM_RETURN_IF_ERROR(cancel.status());
      const at::Tensor batch = shuffled.slice(
          0, at_row, std::min(count, at_row + options.batch_rows));
      const at::Tensor labels = table.labels.index_select(0, batch);
      const TableForward forward = Forward(
          shape_, frozen_, adapter, table.features.index_select(0, batch));
      const at::Tensor entropy = at::cross_entropy_loss(forward.scores, labels);
      const std::vector<at::Tensor> gradients = GradientsOf(
          entropy + options.balance_alpha * forward.balance, leaves);

      const c10::NoGradGuard no_gradients;
      if (options.prox_mu > 0) {
        for (size_t i = 0; i < leaves.size(); ++i) {
          gradients[i].add_(leaves[i] - before[i], options.prox_mu);
        }
      }
      if (options.clip_norm > 0) ClipGradients(gradients, options.clip_norm);
      ++result.steps;
      const double warm =
          options.warmup_steps == 0
              ? 1
              : std::min(1.0, static_cast<double>(result.steps) /
                                  static_cast<double>(options.warmup_steps));
      optimiser.Step(gradients, rate * warm);

      loss += entropy.detach() * batch.size(0);
      correct += CountCorrect(forward.scores, labels);
      routed += forward.chosen.sum(0);
    }
    rate *= options.learning_rate_decay;
    result.loss = loss.item<double>() / static_cast<double>(count);
    result.accuracy = correct.item<double>() / static_cast<double>(count);
    if (!std::isfinite(result.loss)) {
      return absl::AbortedError(
          Cat("training loss is not finite in epoch ", epoch, " of ",
              options.epochs, "; lower learning_rate, now ",
              options.learning_rate, ", or set clip_norm"));
    }
    if (progress) progress({epoch, options.epochs, result.loss});
  }

  const c10::NoGradGuard no_gradients;
  result.examples = static_cast<uint64_t>(count);
  const at::Tensor tokens = routed.to(at::kCPU);
  for (int64_t i = 0; i < shape_.experts; ++i) {
    result.routed_tokens.push_back(
        static_cast<uint64_t>(tokens.const_data_ptr<double>()[i]));
  }
  result.utilisation_std = ShareDeviation(result.routed_tokens);
  std::vector<at::Tensor> moved;
  for (size_t i = 0; i < leaves.size(); ++i) {
    moved.push_back(leaves[i] - before[i]);
  }
  const std::vector<SlotSpec> slots = AdapterSlots(shape_);
  std::vector<NamedTensor> delta = AdapterTable::FromAll(moved).ToSlots(shape_);
  for (size_t i = 0; i < delta.size(); ++i) {
    // Weight decay moves experts that no row reached; that is no training.
    const GroupName& group = slots[i].group;
    if (group.kind == GroupKind::kExpert &&
        result.routed_tokens[group.expert] == 0) {
      continue;
    }
    result.delta.push_back(std::move(delta[i]));
  }
  return result;
}

absl::StatusOr<TableEvaluation> TableMoeTrainer::Impl::Evaluate(
    const ParameterSource& parameters, const TableView& rows) const {
  CONSILIUM_RETURN_IF_ERROR(CheckTable(rows, shape_));
  CONSILIUM_ASSIGN_OR_RETURN(const AdapterTable adapter,
                             AdapterTable::From(shape_, parameters, device_));
  const c10::NoGradGuard no_gradients;
  const TableTensors table = Load(rows, device_);
  const int64_t count = static_cast<int64_t>(rows.labels.size());
  double loss = 0, correct = 0;
  std::vector<double> margins;
  for (int64_t begin = 0; begin < count; begin += kEvaluationRows) {
    const int64_t end = std::min(count, begin + kEvaluationRows);
    const at::Tensor labels = table.labels.slice(0, begin, end);
    const at::Tensor scores =
        Forward(shape_, frozen_, adapter, table.features.slice(0, begin, end))
            .scores.to(at::kDouble);
    loss += at::cross_entropy_loss(scores, labels, {}, at::Reduction::Sum)
                .item<double>();
    correct += CountCorrect(scores, labels).item<double>();
    if (shape_.classes == 2) {
      const at::Tensor margin =
          (scores.select(1, 1) - scores.select(1, 0)).to(at::kCPU).contiguous();
      const double* data = margin.const_data_ptr<double>();
      margins.insert(margins.end(), data, data + margin.numel());
    }
  }
  if (!std::isfinite(loss)) {
    return absl::AbortedError(
        "evaluation loss is not finite; these parameters are unusable");
  }
  TableEvaluation result;
  result.examples = static_cast<uint64_t>(count);
  result.loss = loss / static_cast<double>(count);
  result.accuracy = correct / static_cast<double>(count);
  if (shape_.classes == 2) result.auc = AreaUnderRoc(margins, rows.labels);
  return result;
}

absl::StatusOr<PretrainedTable> TableMoeTrainer::Pretrain(
    const TableMoeShape& shape, const TableView& public_slice,
    const PretrainOptions& options) {
  CONSILIUM_RETURN_IF_ERROR(CheckShape(shape));
  CONSILIUM_RETURN_IF_ERROR(CheckTable(public_slice, shape));
  CONSILIUM_RETURN_IF_ERROR(CheckRanges({
      {"epochs", static_cast<double>(options.epochs), 1, 1e6},
      {"learning_rate", options.learning_rate, 1e-12, 10},
      {"weight_decay", options.weight_decay, 0, 1},
  }));
  return Guarded([&]() -> absl::StatusOr<PretrainedTable> {
    at::set_num_threads(1);
    SplitMixRandom random(options.seed);
    BaseModel model{shape, FrozenTensors(shape), options.columns};
    FillScaling(public_slice, model.tensors[0].values, model.tensors[1].values);
    for (size_t i = 2; i < model.tensors.size(); ++i) {
      NamedTensor& tensor = model.tensors[i];
      const bool bias = tensor.shape.size() == 1;
      FillUniform(random, bias ? 0 : StartBound(tensor), tensor);
    }

    const at::Device cpu(at::kCPU);
    FrozenTable table = FrozenTable::From(model, cpu);
    const TableTensors rows = Load(public_slice, cpu);
    const std::vector<at::Tensor> leaves =
        AsLeaves({table.weight[0], table.bias[0], table.weight[1],
                  table.bias[1], table.head_weight, table.head_bias});
    for (size_t i = 0; i < 2; ++i) {
      table.weight[i] = leaves[2 * i];
      table.bias[i] = leaves[2 * i + 1];
    }
    table.head_weight = leaves[4];
    table.head_bias = leaves[5];
    AdamW optimiser(leaves, TrainOptions().beta1, TrainOptions().beta2,
                    options.weight_decay);
    for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
      const at::Tensor loss = at::cross_entropy_loss(
          ForwardTrunk(table, rows.features), rows.labels);
      const std::vector<at::Tensor> gradients = GradientsOf(loss, leaves);
      const c10::NoGradGuard no_gradients;
      if (!std::isfinite(loss.item<double>())) {
        return absl::AbortedError(
            Cat("pre-training loss is not finite in epoch ", epoch + 1,
                "; lower learning_rate, now ", options.learning_rate));
      }
      optimiser.Step(gradients, options.learning_rate);
    }
    for (size_t i = 0; i < leaves.size(); ++i) {
      model.tensors[i + 2].values = ToVector(leaves[i]);
    }
    PretrainedTable result;
    CONSILIUM_ASSIGN_OR_RETURN(result.base_model, WriteBaseModel(model));
    result.version_zero = DrawVersionZero(shape, random);
    return result;
  });
}

absl::StatusOr<std::unique_ptr<TableMoeTrainer>> TableMoeTrainer::Create(
    std::span<const std::byte> base_model, const TrainerOptions& options) {
  CONSILIUM_RETURN_IF_ERROR(CheckRanges(
      {{"threads", static_cast<double>(options.threads), 1, 1024}}));
  CONSILIUM_ASSIGN_OR_RETURN(const BaseModel model, ParseBaseModel(base_model));
  return Guarded([&]() -> absl::StatusOr<std::unique_ptr<TableMoeTrainer>> {
    CONSILIUM_ASSIGN_OR_RETURN(const at::Device device,
                               ChooseDevice(options.device));
    at::set_num_threads(options.threads);
    return std::unique_ptr<TableMoeTrainer>(
        new TableMoeTrainer(std::make_unique<Impl>(model, device)));
  });
}

TableMoeTrainer::TableMoeTrainer(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
TableMoeTrainer::~TableMoeTrainer() = default;

const TableMoeShape& TableMoeTrainer::shape() const { return impl_->shape(); }
const std::vector<std::string>& TableMoeTrainer::columns() const {
  return impl_->columns();
}

std::string TableMoeTrainer::device() const { return impl_->device().str(); }

std::vector<SlotSpec> TableMoeTrainer::Slots() const {
  return AdapterSlots(impl_->shape());
}

absl::StatusOr<TrainResult> TableMoeTrainer::Train(
    const ParameterSource& base, const TableView& rows,
    const TrainOptions& options,
    const std::function<void(const TrainProgress&)>& progress,
    const CancelToken& cancel) const {
  return Guarded(
      [&] { return impl_->Train(base, rows, options, progress, cancel); });
}

absl::StatusOr<TableEvaluation> TableMoeTrainer::Evaluate(
    const ParameterSource& parameters, const TableView& rows) const {
  return Guarded([&] { return impl_->Evaluate(parameters, rows); });
}

}  // namespace consilium

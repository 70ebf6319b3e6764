#include "client_sdk/training/table_model.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

// Keeps one wild measurement from saturating the trunk: features further out
// than this many deviations of the public slice count as that far.
constexpr double kMaxDeviations = 5;

at::Tensor Scale(const FrozenTable& frozen, const at::Tensor& features) {
  return ((features - frozen.mean) * frozen.inverse_deviation)
      .clamp(-kMaxDeviations, kMaxDeviations);
}

}  // namespace

at::Tensor ToTensor(std::span<const float> values,
                    std::span<const int64_t> shape, const at::Device& device) {
  at::Tensor tensor =
      at::empty(at::IntArrayRef(shape.data(), shape.size()), at::kFloat);
  std::memcpy(tensor.mutable_data_ptr<float>(), values.data(),
              values.size_bytes());
  return tensor.to(device);
}

std::vector<float> ToVector(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
  const float* data = host.const_data_ptr<float>();
  return std::vector<float>(data, data + host.numel());
}

FrozenTable FrozenTable::From(const BaseModel& model,
                              const at::Device& device) {
  std::vector<at::Tensor> t;
  for (const NamedTensor& tensor : model.tensors) {
    t.push_back(ToTensor(tensor.values, tensor.shape, device));
  }
  return {.mean = t[0],
          .inverse_deviation = t[1],
          .weight = {t[2], t[4]},
          .bias = {t[3], t[5]},
          .head_weight = t[6],
          .head_bias = t[7]};
}

absl::StatusOr<AdapterTable> AdapterTable::From(const TableMoeShape& shape,
                                                const ParameterSource& source,
                                                const at::Device& device) {
  std::vector<at::Tensor> trunk, up, down;
  AdapterTable adapter;
  for (const SlotSpec& slot : AdapterSlots(shape)) {
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const float> values,
                               source(slot.name));
    const int64_t expected = ElementsOf(slot.shape);
    if (static_cast<int64_t>(values.size()) != expected) {
      return absl::InvalidArgumentError(
          Cat("slot ", slot.name, " has ", values.size(),
              " elements; the base model needs ", expected));
    }
    for (const float value : values) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            Cat("slot ", slot.name, " holds NaN or infinity"));
      }
    }
    at::Tensor tensor = ToTensor(values, slot.shape, device);
    switch (slot.group.kind) {
      case GroupKind::kShared:
        trunk.push_back(std::move(tensor));
        break;
      case GroupKind::kExpert:
        (up.size() == down.size() ? up : down).push_back(std::move(tensor));
        break;
      case GroupKind::kRouter:
        adapter.router = std::move(tensor);
        break;
    }
  }
  for (size_t i = 0; i < 2; ++i) {
    adapter.lora_a[i] = trunk[2 * i];
    adapter.lora_b[i] = trunk[2 * i + 1];
  }
  adapter.up = at::stack(up);
  adapter.down = at::stack(down);
  return adapter;
}

std::vector<at::Tensor> AdapterTable::All() const {
  return {lora_a[0], lora_b[0], lora_a[1], lora_b[1], up, down, router};
}

AdapterTable AdapterTable::FromAll(const std::vector<at::Tensor>& all) {
  return {.lora_a = {all[0], all[2]},
          .lora_b = {all[1], all[3]},
          .up = all[4],
          .down = all[5],
          .router = all[6]};
}

std::vector<NamedTensor> AdapterTable::ToSlots(
    const TableMoeShape& shape) const {
  const at::Tensor trunk[] = {lora_a[0], lora_b[0], lora_a[1], lora_b[1]};
  std::vector<NamedTensor> slots;
  size_t trunk_slot = 0;
  int64_t expert_slot = 0;
  for (SlotSpec& slot : AdapterSlots(shape)) {
    at::Tensor tensor;
    switch (slot.group.kind) {
      case GroupKind::kShared:
        tensor = trunk[trunk_slot++];
        break;
      case GroupKind::kExpert:
        tensor = (expert_slot % 2 == 0 ? up : down).select(0, expert_slot / 2);
        ++expert_slot;
        break;
      case GroupKind::kRouter:
        tensor = router;
        break;
    }
    slots.push_back(
        {std::move(slot.name), std::move(slot.shape), ToVector(tensor)});
  }
  return slots;
}

TableForward Forward(const TableMoeShape& shape, const FrozenTable& frozen,
                     const AdapterTable& adapter, const at::Tensor& features) {
  const double scale = shape.lora_alpha / static_cast<double>(shape.lora_rank);
  at::Tensor h = Scale(frozen, features);
  for (size_t i = 0; i < 2; ++i) {
    const at::Tensor low = at::matmul(h, adapter.lora_a[i].t());
    h = at::gelu(at::addmm(frozen.bias[i], h, frozen.weight[i].t()) +
                 scale * at::matmul(low, adapter.lora_b[i].t()));
  }

  TableForward out;
  const at::Tensor p = at::softmax(at::matmul(h, adapter.router.t()), 1);
  const at::Tensor best = std::get<1>(at::topk(p, shape.top_k, 1));
  out.chosen = at::zeros_like(p).scatter_(1, best, 1.0);
  const at::Tensor kept = p * out.chosen;
  const at::Tensor gates = kept / kept.sum(1, /*keepdim=*/true);

  // Every expert sees every row and a gate of 0 drops what was not chosen: the
  // values and gradients of sparse routing, in two products instead of 2 E
  // small ones.
  const at::Tensor hidden =
      at::gelu(at::matmul(h.unsqueeze(0), adapter.up.transpose(1, 2)));
  const at::Tensor each = at::matmul(hidden, adapter.down.transpose(1, 2));
  h = h + (each * gates.t().unsqueeze(2)).sum(0);
  out.scores = at::addmm(frozen.head_bias, h, frozen.head_weight.t());

  // The value counts choices; the gradient is that of the mean probability.
  const at::Tensor mean_p = p.mean(0);
  const at::Tensor share =
      out.chosen.mean(0) / static_cast<double>(shape.top_k);
  const at::Tensor f = mean_p + (share - mean_p).detach();
  out.balance = (f * static_cast<double>(shape.experts) - 1).square().sum();
  return out;
}

at::Tensor ForwardTrunk(const FrozenTable& frozen, const at::Tensor& features) {
  at::Tensor h = Scale(frozen, features);
  for (size_t i = 0; i < 2; ++i) {
    h = at::gelu(at::addmm(frozen.bias[i], h, frozen.weight[i].t()));
  }
  return at::addmm(frozen.head_bias, h, frozen.head_weight.t());
}

}  // namespace consilium

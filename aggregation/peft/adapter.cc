#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "consilium/aggregation/peft.h"
#include "consilium/aggregation/widen.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::peft {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kFactorA = ".lora_A.weight";
constexpr std::string_view kFactorB = ".lora_B.weight";
constexpr std::string_view kMagnitude = ".lora_magnitude_vector";
constexpr std::string_view kWrapped = ".base_layer";

absl::Status Wrong(const TensorInfo& tensor, std::string_view rule) {
  return absl::InvalidArgumentError(
      Cat("adapter: tensor ", Quoted(tensor.name), " ", rule));
}

std::string ShapeText(const TensorInfo& tensor) {
  std::string text;
  for (const int64_t size : tensor.shape) {
    CatInto(text, text.empty() ? "[" : ", ", size);
  }
  return text.empty() ? "[]" : text + "]";
}

bool EndsWithPart(std::string_view name, std::string_view end) {
  return name == end || (name.size() > end.size() && name.ends_with(end) &&
                         name[name.size() - end.size() - 1] == '.');
}

// "mlp.experts.gate_up_proj" is parameter gate_up_proj of "mlp.experts".
struct Parameter {
  std::string_view module;
  std::string_view name;
};

Parameter Split(std::string_view target) {
  const size_t dot = target.rfind('.');
  if (dot == std::string_view::npos) return {"", target};
  return {target.substr(0, dot), target.substr(dot + 1)};
}

// A module's name without wrappers, and how many there were.
struct Unwrapped {
  std::string_view module;
  size_t wrappers = 0;
};

Unwrapped Unwrap(std::string_view name) {
  Unwrapped out{name, 0};
  while (out.module.ends_with(kWrapped)) {
    out.module.remove_suffix(kWrapped.size());
    ++out.wrappers;
  }
  return out;
}

class Reader {
 public:
  Reader(const Config& config, const SafetensorsHeader& header)
      : config_(config), header_(header) {}

  absl::StatusOr<Adapter> Read() {
    for (const TensorInfo& tensor : header_.tensors) {
      CONSILIUM_RETURN_IF_ERROR(Take(tensor));
    }
    return std::move(out_);
  }

 private:
  absl::Status Take(const TensorInfo& tensor) {
    std::string_view name = tensor.name;
    if (!name.starts_with(kPrefix)) {
      return Wrong(tensor, Cat("does not begin with ", kPrefix));
    }
    name.remove_prefix(kPrefix.size());
    switch (tensor.dtype) {
      case DType::kF64:
      case DType::kF32:
      case DType::kF16:
      case DType::kBF16:
        break;
      default:
        return absl::UnimplementedError(
            Cat("adapter: tensor ", Quoted(tensor.name), " has dtype ",
                DTypeName(tensor.dtype),
                "; adapters of F64, F32, F16 and BF16 are read"));
    }
    if (name.ends_with(kMagnitude)) {
      return absl::UnimplementedError(
          Cat("adapter: tensor ", Quoted(tensor.name),
              " is a magnitude of DoRA, which is not supported"));
    }
    if (name.ends_with(kFactorA)) {
      return TakePair(name.substr(0, name.size() - kFactorA.size()), tensor);
    }
    if (name.ends_with(kFactorB)) {
      const std::string other =
          Cat(tensor.name.substr(0, tensor.name.size() - kFactorB.size()),
              kFactorA);
      if (header_.Find(other) == nullptr) {
        return Wrong(tensor, Cat("has no ", Quoted(other), " beside it"));
      }
      return absl::OkStatus();
    }
    if (name.find(".lora_") != std::string_view::npos) {
      return absl::UnimplementedError(
          Cat("adapter: tensor ", Quoted(tensor.name),
              " is a part of LoRA that is not supported"));
    }
    // "head" saves head.dense.weight, too.
    for (size_t dot = name.rfind('.'); dot != std::string_view::npos;
         dot = dot == 0 ? std::string_view::npos : name.rfind('.', dot - 1)) {
      for (const std::string& saved : config_.modules_to_save) {
        if (EndsWithPart(name.substr(0, dot), saved)) {
          out_.whole.push_back({std::string(name), tensor.name});
          return absl::OkStatus();
        }
      }
    }
    return Wrong(tensor,
                 "is neither a LoRA factor nor of one of modules_to_save");
  }

  absl::Status TakePair(std::string_view name, const TensorInfo& a) {
    const std::string other =
        Cat(a.name.substr(0, a.name.size() - kFactorA.size()), kFactorB);
    const TensorInfo* const b = header_.Find(other);
    if (b == nullptr) {
      return Wrong(a, Cat("has no ", Quoted(other), " beside it"));
    }
    for (const TensorInfo* const tensor : {&a, b}) {
      if (tensor->shape.size() != 2) {
        return Wrong(*tensor, Cat("has shape ", ShapeText(*tensor),
                                  "; a factor is a matrix"));
      }
    }
    if (a.shape[0] != b->shape[1] || a.shape[0] < 1 || a.shape[1] < 1 ||
        b->shape[0] < 1) {
      return Wrong(a, Cat("has shape ", ShapeText(a), " and its B ",
                          ShapeText(*b), "; they share the rank"));
    }
    CONSILIUM_ASSIGN_OR_RETURN(const std::optional<Parameter> fused,
                               FusedParameter(name, a));
    return fused.has_value() ? AddExperts(*fused, name, a, *b)
                             : AddPlain(name, a, *b);
  }

  // Which of a module's adapted parameters this wrapper belongs to.
  absl::StatusOr<std::optional<Parameter>> FusedParameter(
      std::string_view name, const TensorInfo& a) const {
    const Unwrapped unwrapped = Unwrap(name);
    std::vector<Parameter> of_module;
    for (const std::string& target : config_.target_parameters) {
      const Parameter parameter = Split(target);
      if (EndsWithPart(unwrapped.module, parameter.module)) {
        of_module.push_back(parameter);
      }
    }
    if (of_module.empty()) {
      if (unwrapped.wrappers > 0) {
        return Wrong(a,
                     "is wrapped, and target_parameters names no parameter "
                     "of its module");
      }
      return std::optional<Parameter>();
    }
    const bool as_registered =
        of_module.size() == 1 ||
        (of_module.size() == 2 && of_module[0].name == "gate_up_proj" &&
         of_module[1].name == "down_proj");
    if (!as_registered) {
      return absl::UnimplementedError(Cat(
          "adapter: ", Quoted(unwrapped.module, 512), " has ", of_module.size(),
          " adapted parameters; understood are one, or gate_up_proj and "
          "down_proj, in this order in target_parameters"));
    }
    if (unwrapped.wrappers >= of_module.size()) {
      return Wrong(a, Cat("is wrapped ", unwrapped.wrappers,
                          " times; target_parameters names ", of_module.size(),
                          " parameters of its module"));
    }
    return std::optional<Parameter>(
        of_module[of_module.size() - 1 - unwrapped.wrappers]);
  }

  double ScaleOf(std::string_view name, int64_t rank) const {
    double alpha = config_.alpha;
    for (const auto& [end, value] : config_.alpha_pattern) {
      if (EndsWithPart(name, end)) {
        alpha = value;
        break;
      }
    }
    const auto r = static_cast<double>(rank);
    return alpha / (config_.rslora ? std::sqrt(r) : r);
  }

  absl::Status AddPlain(std::string_view name, const TensorInfo& a,
                        const TensorInfo& b) {
    if (a.shape[0] != config_.rank && !config_.rank_pattern) {
      return Wrong(a, Cat("has rank ", a.shape[0], ", r is ", config_.rank,
                          " and there is no rank_pattern"));
    }
    Target target;
    target.name = std::string(name);
    target.shape = {b.shape[0], a.shape[1]};
    target.rank = a.shape[0];
    target.scale = ScaleOf(name, target.rank);
    target.tensor_a = a.name;
    target.tensor_b = b.name;
    return Add(std::move(target), a);
  }

  absl::Status AddExperts(const Parameter& parameter, std::string_view name,
                          const TensorInfo& a, const TensorInfo& b) {
    if (a.shape[0] % config_.rank != 0) {
      return Wrong(a, Cat("has ", a.shape[0], " rows, no multiple of the rank ",
                          config_.rank));
    }
    const std::string_view module = Unwrap(name).module;
    const int64_t experts = a.shape[0] / config_.rank;
    if (experts > kMaxExperts) {
      return absl::ResourceExhaustedError(
          Cat("adapter: tensor ", Quoted(a.name), " has ", experts,
              " experts, the limit is ", kMaxExperts));
    }
    for (int64_t e = 0; e < experts; ++e) {
      Target target;
      // One block is a parameter of two dimensions.
      target.name = experts == 1 ? Cat(module, ".", parameter.name)
                                 : Cat(module, ".", e, ".", parameter.name);
      target.shape = {b.shape[0], a.shape[1]};
      target.rank = config_.rank;
      target.scale = ScaleOf(Cat(module, ".", parameter.name), target.rank);
      target.tensor_a = a.name;
      target.tensor_b = b.name;
      target.expert = e;
      target.experts = experts == 1 ? 0 : experts;
      CONSILIUM_RETURN_IF_ERROR(Add(std::move(target), a));
    }
    return absl::OkStatus();
  }

  absl::Status Add(Target target, const TensorInfo& a) {
    if (out_.targets.size() == kMaxTargets) {
      return absl::ResourceExhaustedError(
          Cat("adapter: more than ", kMaxTargets, " matrices"));
    }
    if (!names_.insert(target.name).second) {
      return Wrong(a, Cat("gives ", Quoted(target.name), " a second time"));
    }
    out_.targets.push_back(std::move(target));
    return absl::OkStatus();
  }

  const Config& config_;
  const SafetensorsHeader& header_;
  Adapter out_;
  std::set<std::string> names_;
};

absl::StatusOr<std::span<const std::byte>> BytesOf(const SafetensorsView& file,
                                                   const std::string& name,
                                                   int64_t rows,
                                                   int64_t columns,
                                                   DType* dtype) {
  const TensorInfo* const info = file.header().Find(name);
  if (info == nullptr || info->shape.size() != 2 || info->shape[0] != rows ||
      info->shape[1] != columns) {
    return absl::InvalidArgumentError(Cat("adapter: tensor ", Quoted(name),
                                          " is not the ", rows, " x ", columns,
                                          " matrix that it was"));
  }
  *dtype = info->dtype;
  return file.Bytes(name);
}

// Elements of B of one expert in the file: index of [row, j].
size_t IndexInB(const Target& target, int64_t row, int64_t j) {
  if (target.experts == 0) return static_cast<size_t>(row * target.rank + j);
  return static_cast<size_t>((row * target.rank + j) * target.experts +
                             target.expert);
}

size_t FirstInA(const Target& target) {
  return static_cast<size_t>(target.expert * target.rank * target.shape.in);
}

int64_t RowsOfA(const Target& target) {
  return target.rank * std::max<int64_t>(target.experts, 1);
}

}  // namespace

absl::StatusOr<Adapter> ReadAdapter(const Config& config,
                                    const SafetensorsHeader& header) {
  return Reader(config, header).Read();
}

absl::StatusOr<lora::Factors> ReadFactors(const SafetensorsView& file,
                                          const Target& target) {
  const int64_t rows = RowsOfA(target);
  DType dtype_a{}, dtype_b{};
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::span<const std::byte> all_a,
      BytesOf(file, target.tensor_a, rows, target.shape.in, &dtype_a));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::span<const std::byte> all_b,
      BytesOf(file, target.tensor_b, target.shape.out, rows, &dtype_b));
  lora::Factors out;
  out.rank = target.rank;
  out.a.resize(static_cast<size_t>(target.rank * target.shape.in));
  const auto width_a = static_cast<size_t>(DTypeBytes(dtype_a));
  CONSILIUM_RETURN_IF_ERROR(WidenToFloat(
      dtype_a,
      all_a.subspan(FirstInA(target) * width_a, out.a.size() * width_a),
      out.a));
  out.b.resize(static_cast<size_t>(target.shape.out * target.rank));
  const auto width_b = static_cast<size_t>(DTypeBytes(dtype_b));
  std::vector<std::byte> of_expert(out.b.size() * width_b);
  size_t at = 0;
  for (int64_t row = 0; row < target.shape.out; ++row) {
    for (int64_t j = 0; j < target.rank; ++j, at += width_b) {
      std::memcpy(of_expert.data() + at,
                  all_b.data() + IndexInB(target, row, j) * width_b, width_b);
    }
  }
  CONSILIUM_RETURN_IF_ERROR(WidenToFloat(dtype_b, of_expert, out.b));
  return out;
}

absl::StatusOr<std::string> WriteAdapter(
    const SafetensorsHeader& header, const Adapter& adapter,
    std::span<const lora::Factors> factors,
    const std::map<std::string, std::vector<float>>& whole) {
  if (factors.size() != adapter.targets.size()) {
    return absl::InvalidArgumentError(Cat("adapter: ", factors.size(),
                                          " pairs of factors for ",
                                          adapter.targets.size(), " matrices"));
  }
  std::vector<TensorSpec> specs;
  std::map<std::string_view, std::vector<float>> values;
  for (const TensorInfo& tensor : header.tensors) {
    specs.push_back({tensor.name, DType::kF32, tensor.shape});
    values[tensor.name].resize(static_cast<size_t>(tensor.elements()));
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    const Target& target = adapter.targets[i];
    const lora::Factors& f = factors[i];
    const auto elements_a = static_cast<size_t>(target.rank * target.shape.in);
    const auto elements_b = static_cast<size_t>(target.shape.out * target.rank);
    const auto a = values.find(target.tensor_a);
    const auto b = values.find(target.tensor_b);
    if (f.rank != target.rank || f.a.size() != elements_a ||
        f.b.size() != elements_b || a == values.end() || b == values.end() ||
        a->second.size() <
            static_cast<size_t>(RowsOfA(target) * target.shape.in) ||
        b->second.size() <
            static_cast<size_t>(RowsOfA(target) * target.shape.out)) {
      return absl::InvalidArgumentError(Cat("adapter: factors of rank ", f.rank,
                                            " for ", Quoted(target.name),
                                            ", whose rank is ", target.rank));
    }
    std::copy(
        f.a.begin(), f.a.end(),
        a->second.begin() + static_cast<std::ptrdiff_t>(FirstInA(target)));
    for (int64_t row = 0; row < target.shape.out; ++row) {
      for (int64_t j = 0; j < target.rank; ++j) {
        b->second[IndexInB(target, row, j)] =
            f.b[static_cast<size_t>(row * target.rank + j)];
      }
    }
  }
  for (const Whole& tensor : adapter.whole) {
    const auto found = whole.find(tensor.name);
    const auto to = values.find(tensor.tensor);
    if (found == whole.end() || to == values.end() ||
        found->second.size() != to->second.size()) {
      return absl::InvalidArgumentError(
          Cat("adapter: no values for ", Quoted(tensor.name)));
    }
    to->second = found->second;
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::string file,
                             BuildSafetensorsHeader(specs, header.metadata, 8));
  for (const TensorInfo& tensor : header.tensors) {
    file.append(AsChars(std::as_bytes(std::span(values[tensor.name]))));
  }
  return file;
}

}  // namespace consilium::peft

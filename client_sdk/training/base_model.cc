#include "client_sdk/training/base_model.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::string_view kFormatKey = "consilium.model";
constexpr std::string_view kFormat = "table-moe/1";
constexpr std::string_view kColumnsKey = "columns";

// Generous for a table, and small enough that no product of three overflows.
constexpr int64_t kMaxSize = int64_t{1} << 16;
constexpr int64_t kMaxElements = int64_t{1} << 28;

struct IntegerField {
  std::string_view name;
  int64_t TableMoeShape::*value;
};
constexpr IntegerField kIntegerFields[] = {
    {"features", &TableMoeShape::features},
    {"classes", &TableMoeShape::classes},
    {"width", &TableMoeShape::width},
    {"lora_rank", &TableMoeShape::lora_rank},
    {"experts", &TableMoeShape::experts},
    {"expert_width", &TableMoeShape::expert_width},
    {"top_k", &TableMoeShape::top_k},
};

absl::Status OutOfRange(std::string_view name, int64_t value,
                        std::string_view range) {
  return absl::InvalidArgumentError(
      Cat("model ", name, " is ", value, "; it must be ", range));
}

template <typename T>
absl::StatusOr<T> ParseNumber(
    const std::map<std::string, std::string>& metadata, std::string_view key) {
  const auto found = metadata.find(std::string(key));
  if (found == metadata.end()) {
    return absl::InvalidArgumentError(Cat("base model: no metadata key ", key));
  }
  const std::string& text = found->second;
  T value{};
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return absl::InvalidArgumentError(
        Cat("base model: ", key, " is ", Quoted(text), ", not a number"));
  }
  return value;
}

// Names that a line of CSV can carry, each once.
absl::Status CheckColumns(std::span<const std::string> columns,
                          const TableMoeShape& shape) {
  if (static_cast<int64_t>(columns.size()) != shape.features) {
    return absl::InvalidArgumentError(Cat("base model: ", columns.size(),
                                          " columns are named, the features "
                                          "are ",
                                          shape.features));
  }
  std::set<std::string_view> seen;
  for (const std::string& name : columns) {
    if (name.empty() || name == "label" || name.front() == ' ' ||
        name.back() == ' ' ||
        name.find_first_of(",\n\r\t") != std::string::npos) {
      return absl::InvalidArgumentError(
          Cat("base model: a column is called ", Quoted(name),
              "; names are not empty, not `label`, have no space around them "
              "and no comma or line end in them"));
    }
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(
          Cat("base model: two columns are called ", Quoted(name)));
    }
  }
  return absl::OkStatus();
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text;
  for (const int64_t size : shape) {
    CatInto(text, text.empty() ? "" : "x", size);
  }
  return text.empty() ? "scalar" : text;
}

}  // namespace

absl::Status CheckShape(const TableMoeShape& shape) {
  for (const IntegerField& field : kIntegerFields) {
    const int64_t value = shape.*field.value;
    if (value < 1 || value > kMaxSize) {
      return OutOfRange(field.name, value, Cat("1 to ", kMaxSize));
    }
  }
  if (shape.classes < 2) return OutOfRange("classes", shape.classes, "above 1");
  if (shape.lora_rank > shape.width) {
    return OutOfRange("lora_rank", shape.lora_rank,
                      Cat("at most width, ", shape.width));
  }
  if (shape.top_k > shape.experts) {
    return OutOfRange("top_k", shape.top_k,
                      Cat("at most experts, ", shape.experts));
  }
  if (!(shape.lora_alpha > 0) || !std::isfinite(shape.lora_alpha)) {
    return absl::InvalidArgumentError(Cat("model lora_alpha is ",
                                          shape.lora_alpha,
                                          "; it must be above 0 and finite"));
  }
  const int64_t experts = 2 * shape.experts * shape.expert_width * shape.width;
  if (experts > kMaxElements) {
    return OutOfRange("experts * expert_width * width * 2", experts,
                      Cat("at most ", kMaxElements));
  }
  return absl::OkStatus();
}

std::vector<SlotSpec> AdapterSlots(const TableMoeShape& shape) {
  std::vector<SlotSpec> slots;
  const auto add = [&slots](std::string name, std::vector<int64_t> sizes,
                            GroupName group) {
    slots.push_back({std::move(name), std::move(sizes), DType::kF32, group});
  };
  const GroupName shared{};
  int64_t inputs = shape.features;
  for (int layer = 0; layer < 2; ++layer) {
    add(Cat("trunk.", layer, ".lora_A.weight"), {shape.lora_rank, inputs},
        shared);
    add(Cat("trunk.", layer, ".lora_B.weight"), {shape.width, shape.lora_rank},
        shared);
    inputs = shape.width;
  }
  for (int64_t i = 0; i < shape.experts; ++i) {
    const GroupName group{.kind = GroupKind::kExpert,
                          .expert = static_cast<uint32_t>(i)};
    add(Cat("experts.", i, ".up.weight"), {shape.expert_width, shape.width},
        group);
    add(Cat("experts.", i, ".down.weight"), {shape.width, shape.expert_width},
        group);
  }
  add("router.weight", {shape.experts, shape.width},
      {.kind = GroupKind::kRouter});
  return slots;
}

std::vector<NamedTensor> FrozenTensors(const TableMoeShape& shape) {
  return {
      {"scaling.mean", {shape.features}, {}},
      {"scaling.inverse_deviation", {shape.features}, {}},
      {"trunk.0.weight", {shape.width, shape.features}, {}},
      {"trunk.0.bias", {shape.width}, {}},
      {"trunk.1.weight", {shape.width, shape.width}, {}},
      {"trunk.1.bias", {shape.width}, {}},
      {"head.weight", {shape.classes, shape.width}, {}},
      {"head.bias", {shape.classes}, {}},
  };
}

int64_t ElementsOf(std::span<const int64_t> shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

absl::StatusOr<std::string> WriteBaseModel(const BaseModel& model) {
  CONSILIUM_RETURN_IF_ERROR(CheckShape(model.shape));
  const std::vector<NamedTensor> expected = FrozenTensors(model.shape);
  if (model.tensors.size() != expected.size()) {
    return absl::InvalidArgumentError(Cat("base model: ", model.tensors.size(),
                                          " tensors; it has ",
                                          expected.size()));
  }
  std::vector<TensorSpec> specs;
  for (size_t i = 0; i < expected.size(); ++i) {
    const NamedTensor& tensor = model.tensors[i];
    if (tensor.name != expected[i].name || tensor.shape != expected[i].shape ||
        static_cast<int64_t>(tensor.values.size()) !=
            ElementsOf(tensor.shape)) {
      return absl::InvalidArgumentError(
          Cat("base model: tensor ", i, " is ", Quoted(tensor.name),
              "; it must be ", expected[i].name, " of shape ",
              ShapeText(expected[i].shape)));
    }
    specs.push_back({tensor.name, DType::kF32, tensor.shape});
  }
  std::map<std::string, std::string> metadata;
  metadata[std::string(kFormatKey)] = std::string(kFormat);
  for (const IntegerField& field : kIntegerFields) {
    metadata[std::string(field.name)] = Cat(model.shape.*field.value);
  }
  metadata["lora_alpha"] = absl::StrFormat("%.17g", model.shape.lora_alpha);
  if (!model.columns.empty()) {
    CONSILIUM_RETURN_IF_ERROR(CheckColumns(model.columns, model.shape));
    metadata[std::string(kColumnsKey)] = absl::StrJoin(model.columns, ",");
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::string file,
                             BuildSafetensorsHeader(specs, metadata));
  for (const NamedTensor& tensor : model.tensors) {
    file.append(AsChars(std::as_bytes(std::span(tensor.values))));
  }
  return file;
}

absl::StatusOr<BaseModel> ParseBaseModel(std::span<const std::byte> file) {
  CONSILIUM_ASSIGN_OR_RETURN(const SafetensorsView view,
                             SafetensorsView::Parse(file));
  const auto& metadata = view.header().metadata;
  const auto format = metadata.find(std::string(kFormatKey));
  if (format == metadata.end() || format->second != kFormat) {
    return absl::InvalidArgumentError(
        Cat("base model: metadata key ", kFormatKey, " is ",
            format == metadata.end() ? "missing" : Quoted(format->second),
            "; it must be ", Quoted(kFormat)));
  }
  BaseModel model;
  for (const IntegerField& field : kIntegerFields) {
    CONSILIUM_ASSIGN_OR_RETURN(model.shape.*field.value,
                               ParseNumber<int64_t>(metadata, field.name));
  }
  CONSILIUM_ASSIGN_OR_RETURN(model.shape.lora_alpha,
                             ParseNumber<double>(metadata, "lora_alpha"));
  CONSILIUM_RETURN_IF_ERROR(CheckShape(model.shape));
  if (const auto columns = metadata.find(std::string(kColumnsKey));
      columns != metadata.end()) {
    model.columns = absl::StrSplit(columns->second, ',');
    CONSILIUM_RETURN_IF_ERROR(CheckColumns(model.columns, model.shape));
  }
  model.tensors = FrozenTensors(model.shape);
  if (view.header().tensors.size() != model.tensors.size()) {
    return absl::InvalidArgumentError(
        Cat("base model: ", view.header().tensors.size(), " tensors; it has ",
            model.tensors.size()));
  }
  for (NamedTensor& tensor : model.tensors) {
    const TensorInfo* info = view.header().Find(tensor.name);
    if (info == nullptr || info->dtype != DType::kF32 ||
        info->shape != tensor.shape) {
      return absl::InvalidArgumentError(
          Cat("base model: ", tensor.name, " is ",
              info == nullptr
                  ? std::string("missing")
                  : Cat(DTypeName(info->dtype), " ", ShapeText(info->shape)),
              "; it must be F32 ", ShapeText(tensor.shape)));
    }
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                               view.Bytes(tensor.name));
    tensor.values.resize(bytes.size() / sizeof(float));
    std::memcpy(tensor.values.data(), bytes.data(), bytes.size());
    for (const float value : tensor.values) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            Cat("base model: ", tensor.name, " holds NaN or infinity"));
      }
    }
  }
  return model;
}

}  // namespace consilium

#include <utility>

#include "consilium/aggregation/peft.h"
#include "consilium/aggregation/widen.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::peft {
namespace {

constexpr std::string_view kConfigFile = "adapter_config.json";
constexpr std::string_view kModelFile = "adapter_model.safetensors";
constexpr std::string_view kSlotA = ".lora_A.weight";
constexpr std::string_view kSlotB = ".lora_B.weight";

}  // namespace

absl::StatusOr<Directory> Directory::Open(const std::string& path) {
  Directory out;
  const std::string config_path = JoinPath(path, kConfigFile);
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string json,
      ReadWholeFile(PosixFileSystem(), config_path, kMaxConfigBytes));
  CONSILIUM_ASSIGN_OR_RETURN(out.config_, ParseConfig(json));
  const std::string model_path = JoinPath(path, kModelFile);
  CONSILIUM_ASSIGN_OR_RETURN(out.mapping_, MappedFile::Open(model_path));
  auto file = SafetensorsView::Parse(out.mapping_.bytes());
  if (!file.ok()) return Annotate(file.status(), model_path);
  out.file_ = *std::move(file);
  auto adapter = ReadAdapter(out.config_, out.file_.header());
  if (!adapter.ok()) return Annotate(adapter.status(), model_path);
  out.adapter_ = *std::move(adapter);
  for (size_t i = 0; i < out.adapter_.targets.size(); ++i) {
    out.by_name_[out.adapter_.targets[i].name] = i;
  }
  return out;
}

absl::StatusOr<Layout> Directory::MakeLayout(const GroupRules& rules) const {
  std::vector<SlotSpec> slots;
  for (const Target& target : adapter_.targets) {
    CONSILIUM_ASSIGN_OR_RETURN(const GroupName group,
                               rules.GroupOf(target.name));
    slots.push_back({Cat(target.name, kSlotA),
                     {target.rank, target.shape.in},
                     DType::kF32,
                     group});
    slots.push_back({Cat(target.name, kSlotB),
                     {target.shape.out, target.rank},
                     DType::kF32,
                     group});
  }
  for (const Whole& tensor : adapter_.whole) {
    CONSILIUM_ASSIGN_OR_RETURN(const GroupName group,
                               rules.GroupOf(tensor.name));
    slots.push_back({tensor.name, file_.header().Find(tensor.tensor)->shape,
                     DType::kF32, group});
  }
  return Layout::Create(std::move(slots));
}

absl::StatusOr<std::vector<float>> Directory::Values(
    std::string_view slot) const {
  for (const bool is_a : {true, false}) {
    const std::string_view end = is_a ? kSlotA : kSlotB;
    if (!slot.ends_with(end)) continue;
    const auto found = by_name_.find(slot.substr(0, slot.size() - end.size()));
    if (found == by_name_.end()) continue;
    CONSILIUM_ASSIGN_OR_RETURN(
        lora::Factors factors,
        ReadFactors(file_, adapter_.targets[found->second]));
    return std::move(is_a ? factors.a : factors.b);
  }
  for (const Whole& tensor : adapter_.whole) {
    if (tensor.name != slot) continue;
    const TensorInfo* const info = file_.header().Find(tensor.tensor);
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                               file_.Bytes(tensor.tensor));
    std::vector<float> out(static_cast<size_t>(info->elements()));
    CONSILIUM_RETURN_IF_ERROR(WidenToFloat(info->dtype, bytes, out));
    return out;
  }
  return absl::NotFoundError(
      Cat("the adapter has nothing for slot ", Quoted(slot, 512)));
}

absl::StatusOr<std::string> Directory::Write(
    const std::function<absl::StatusOr<std::span<const float>>(
        const std::string& slot)>& values) const {
  const auto copy =
      [&](const std::string& slot) -> absl::StatusOr<std::vector<float>> {
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const float> all, values(slot));
    return std::vector<float>(all.begin(), all.end());
  };
  std::vector<lora::Factors> factors;
  for (const Target& target : adapter_.targets) {
    lora::Factors f;
    f.rank = target.rank;
    CONSILIUM_ASSIGN_OR_RETURN(f.a, copy(Cat(target.name, kSlotA)));
    CONSILIUM_ASSIGN_OR_RETURN(f.b, copy(Cat(target.name, kSlotB)));
    factors.push_back(std::move(f));
  }
  std::map<std::string, std::vector<float>> whole;
  for (const Whole& tensor : adapter_.whole) {
    CONSILIUM_ASSIGN_OR_RETURN(whole[tensor.name], copy(tensor.name));
  }
  return WriteAdapter(file_.header(), adapter_, factors, whole);
}

}  // namespace consilium::peft

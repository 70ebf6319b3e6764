#include "consilium/aggregation/layout.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"

namespace consilium {
namespace {

constexpr std::string_view kFirstLine = "consilium-layout 1";

// Decimal without sign or leading zero.
template <typename T>
bool ParseNumber(std::string_view text, T* value) {
  if (text.empty() || (text[0] == '0' && text.size() > 1)) return false;
  if (text[0] < '0' || text[0] > '9') return false;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// Cuts `text` at the first `separator`; false when there is none.
bool CutFront(std::string_view* text, char separator, std::string_view* front) {
  const size_t at = text->find(separator);
  if (at == std::string_view::npos) return false;
  *front = text->substr(0, at);
  text->remove_prefix(at + 1);
  return true;
}

absl::StatusOr<std::vector<int64_t>> ParseShape(std::string_view text) {
  std::vector<int64_t> shape;
  if (text == "-") return shape;
  while (true) {
    std::string_view dim;
    const bool more = CutFront(&text, 'x', &dim);
    if (!more) dim = text;
    int64_t value = 0;
    if (!ParseNumber(dim, &value)) {
      return absl::InvalidArgumentError(
          Cat("dimension ", Quoted(dim), " is no decimal number"));
    }
    shape.push_back(value);
    if (!more) return shape;
  }
}

void AppendShape(const std::vector<int64_t>& shape, std::string* out) {
  if (shape.empty()) out->push_back('-');
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out->push_back('x');
    CatInto(*out, shape[i]);
  }
}

absl::Status CheckName(const SlotSpec& spec, const LayoutLimits& limits) {
  if (spec.name.empty()) {
    return absl::InvalidArgumentError("a slot has an empty name");
  }
  if (std::cmp_greater(spec.name.size(), limits.max_name_bytes)) {
    return absl::ResourceExhaustedError(
        Cat("slot ", Quoted(spec.name), ": a name of ", spec.name.size(),
            " bytes exceeds max_name_bytes ", limits.max_name_bytes));
  }
  if (!IsPlainName(spec.name)) {
    return absl::InvalidArgumentError(
        Cat("slot ", Quoted(spec.name),
            ": a name is UTF-8 without control characters"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> CountElements(const SlotSpec& spec,
                                      const LayoutLimits& limits) {
  if (std::cmp_greater(spec.shape.size(), limits.max_rank)) {
    return absl::ResourceExhaustedError(
        Cat("slot ", Quoted(spec.name), ": ", spec.shape.size(),
            " dimensions exceed max_rank ", limits.max_rank));
  }
  int64_t elements = 1;
  for (const int64_t dim : spec.shape) {
    if (dim < 1) {
      return absl::InvalidArgumentError(
          Cat("slot ", Quoted(spec.name), ": dimension ", dim, " is below 1"));
    }
    if (dim > limits.max_elements_per_slot / elements) {
      return absl::ResourceExhaustedError(
          Cat("slot ", Quoted(spec.name),
              ": its shape exceeds max_elements_per_slot ",
              limits.max_elements_per_slot));
    }
    elements *= dim;
  }
  return elements;
}

}  // namespace

std::string GroupName::ToString() const {
  switch (kind) {
    case GroupKind::kShared:
      return "shared";
    case GroupKind::kExpert:
      return Cat("expert/", layer, "/", expert);
    case GroupKind::kRouter:
      return Cat("router/", layer);
  }
  return "";
}

absl::StatusOr<GroupName> GroupName::Parse(std::string_view text) {
  GroupName name;
  if (text == "shared") return name;
  std::string_view rest = text;
  std::string_view word;
  if (CutFront(&rest, '/', &word)) {
    std::string_view layer;
    if (word == "router" && ParseNumber(rest, &name.layer)) {
      name.kind = GroupKind::kRouter;
      return name;
    }
    if (word == "expert" && CutFront(&rest, '/', &layer) &&
        ParseNumber(layer, &name.layer) && ParseNumber(rest, &name.expert)) {
      name.kind = GroupKind::kExpert;
      return name;
    }
  }
  return absl::InvalidArgumentError(
      Cat("release group ", Quoted(text),
          " is none of shared, expert/<layer>/<id>, router/<layer>"));
}

absl::StatusOr<Layout> Layout::Create(std::vector<SlotSpec> specs,
                                      const LayoutLimits& limits) {
  if (specs.empty()) return absl::InvalidArgumentError("a layout has no slots");
  if (std::cmp_greater(specs.size(), limits.max_slots)) {
    return absl::ResourceExhaustedError(
        Cat("a layout of ", specs.size(),
            " slots exceeds limits.max_layout_slots ", limits.max_slots));
  }
  Layout layout;
  layout.slots_.reserve(specs.size());
  layout.slot_by_name_ = NameIndex(specs.size());
  std::map<GroupName, uint32_t> group_index;
  const auto name_of = [&layout](uint32_t i) -> std::string_view {
    return layout.slots_[i].name;
  };
  for (SlotSpec& spec : specs) {
    CONSILIUM_RETURN_IF_ERROR(CheckName(spec, limits));
    if (spec.dtype != DType::kF32) {
      return absl::UnimplementedError(Cat("slot ", Quoted(spec.name),
                                          ": dtype ", DTypeName(spec.dtype),
                                          "; slots are F32"));
    }
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t elements,
                               CountElements(spec, limits));
    if (elements > limits.max_total_elements - layout.total_elements_) {
      return absl::ResourceExhaustedError(
          Cat("slot ", Quoted(spec.name),
              ": with it the layout exceeds max_total_elements ",
              limits.max_total_elements));
    }
    const auto [group, is_new] = group_index.try_emplace(
        spec.group, static_cast<uint32_t>(layout.groups_.size()));
    if (is_new) {
      layout.groups_.push_back(spec.group);
      layout.group_elements_.push_back(0);
    }
    layout.group_elements_[group->second] += elements;
    const auto index = static_cast<uint32_t>(layout.slots_.size());
    layout.slots_.push_back(TensorSlot{
        .name = std::move(spec.name),
        .shape = std::move(spec.shape),
        .dtype = spec.dtype,
        .group = group->second,
        .first_element = layout.total_elements_,
        .elements = elements,
    });
    if (layout.slot_by_name_.AddOrFind(index, name_of).has_value()) {
      return absl::InvalidArgumentError(
          Cat("slot ", Quoted(layout.slots_.back().name), " appears twice"));
    }
    layout.total_elements_ += elements;
  }
  layout.groups_by_name_.reserve(group_index.size());
  for (const auto& [name, index] : group_index) {
    layout.groups_by_name_.push_back(index);
  }
  return layout;
}

absl::StatusOr<Layout> Layout::Parse(std::string_view text,
                                     const LayoutLimits& limits) {
  if (std::cmp_greater(text.size(), limits.max_text_bytes)) {
    return absl::ResourceExhaustedError(
        Cat("a layout of ", text.size(),
            " bytes exceeds limits.max_layout_bytes ", limits.max_text_bytes));
  }
  std::string_view line;
  if (!CutFront(&text, '\n', &line) || line != kFirstLine) {
    return absl::InvalidArgumentError(
        Cat("layout line 1 is not ", Quoted(kFirstLine)));
  }
  const auto lines = std::count(text.begin(), text.end(), '\n');
  if (std::cmp_greater(lines, limits.max_slots)) {
    return absl::ResourceExhaustedError(
        Cat("a layout of ", lines, " slots exceeds limits.max_layout_slots ",
            limits.max_slots));
  }
  std::vector<SlotSpec> slots;
  slots.reserve(static_cast<size_t>(lines));
  while (!text.empty()) {
    const auto at = [&] { return Cat("layout line ", slots.size() + 2); };
    if (!CutFront(&text, '\n', &line)) {
      return absl::InvalidArgumentError(Cat(at(), " has no line feed"));
    }
    std::string_view group, dtype_name, shape;
    if (!CutFront(&line, ' ', &group) || !CutFront(&line, ' ', &dtype_name) ||
        !CutFront(&line, ' ', &shape)) {
      return absl::InvalidArgumentError(
          Cat(at(), " is not <group> <dtype> <shape> <name>"));
    }
    SlotSpec spec;
    spec.name = std::string(line);
    absl::StatusOr<GroupName> group_name = GroupName::Parse(group);
    if (!group_name.ok()) return Annotate(group_name.status(), at());
    spec.group = *group_name;
    const std::optional<DType> dtype = ParseDType(dtype_name);
    if (!dtype.has_value()) {
      return absl::InvalidArgumentError(
          Cat(at(), ": dtype ", Quoted(dtype_name), " is not known"));
    }
    spec.dtype = *dtype;
    absl::StatusOr<std::vector<int64_t>> dims = ParseShape(shape);
    if (!dims.ok()) return Annotate(dims.status(), at());
    spec.shape = *std::move(dims);
    slots.push_back(std::move(spec));
  }
  return Create(std::move(slots), limits);
}

std::optional<size_t> Layout::FindSlot(std::string_view name) const {
  return slot_by_name_.Find(
      name, [this](uint32_t i) -> std::string_view { return slots_[i].name; });
}

std::optional<uint32_t> Layout::FindGroup(const GroupName& name) const {
  const auto found = std::lower_bound(
      groups_by_name_.begin(), groups_by_name_.end(), name,
      [this](uint32_t g, const GroupName& n) { return groups_[g] < n; });
  if (found == groups_by_name_.end() || groups_[*found] != name) {
    return std::nullopt;
  }
  return *found;
}

size_t Layout::SlotAt(int64_t element) const {
  const auto next = std::upper_bound(
      slots_.begin(), slots_.end(), element,
      [](int64_t e, const TensorSlot& slot) { return e < slot.first_element; });
  return static_cast<size_t>(next - slots_.begin()) - 1;
}

std::string Layout::CanonicalText() const {
  std::string text(kFirstLine);
  text.push_back('\n');
  for (const TensorSlot& slot : slots_) {
    CatInto(text, groups_[slot.group].ToString(), " ", DTypeName(slot.dtype),
            " ");
    AppendShape(slot.shape, &text);
    CatInto(text, " ", slot.name, "\n");
  }
  return text;
}

Sha256Digest Layout::ComputeId(const HasherFactory& sha256) const {
  const std::unique_ptr<Hasher> hasher = sha256();
  hasher->Update(AsBytes(CanonicalText()));
  return hasher->Finish();
}

bool operator==(const Layout& a, const Layout& b) {
  const auto same = [&](const TensorSlot& x, const TensorSlot& y) {
    return x.name == y.name && x.shape == y.shape && x.dtype == y.dtype &&
           a.groups_[x.group] == b.groups_[y.group];
  };
  return std::equal(a.slots_.begin(), a.slots_.end(), b.slots_.begin(),
                    b.slots_.end(), same);
}

}  // namespace consilium

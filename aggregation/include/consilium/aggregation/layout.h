#ifndef CONSILIUM_AGGREGATION_LAYOUT_H_
#define CONSILIUM_AGGREGATION_LAYOUT_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/dtype.h"
#include "consilium/aggregation/name_index.h"
#include "consilium/base/digest.h"

namespace consilium {

// What a release group holds. Its text form is `shared`,
// `expert/<layer>/<id>` or `router/<layer>`, both numbers decimal without
// leading zeros.
enum class GroupKind : uint8_t { kShared = 0, kExpert = 1, kRouter = 2 };

struct GroupName {
  GroupKind kind = GroupKind::kShared;
  uint32_t layer = 0;   // kExpert, kRouter
  uint32_t expert = 0;  // kExpert

  std::string ToString() const;
  // Errors: INVALID_ARGUMENT when `text` is none of the three forms.
  static absl::StatusOr<GroupName> Parse(std::string_view text);
  friend auto operator<=>(const GroupName&, const GroupName&) = default;
};

// What a caller gives for one slot. Shape is row-major; empty means scalar.
struct SlotSpec {
  std::string name;
  std::vector<int64_t> shape = {};
  DType dtype = DType::kF32;
  GroupName group = {};
};

// One slot in its place. `first_element` and `elements` count elements, never
// bytes, over all slots in canonical order.
struct TensorSlot {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  uint32_t group = 0;  // index into Layout::groups()
  int64_t first_element = 0;
  int64_t elements = 0;
};

// In configuration: limits.max_layout_slots, limits.max_layout_bytes.
struct LayoutLimits {
  int64_t max_slots = int64_t{1} << 20;
  int64_t max_text_bytes = int64_t{64} << 20;
  int64_t max_elements_per_slot = int64_t{1} << 33;
  int64_t max_total_elements = int64_t{1} << 40;
  int64_t max_name_bytes = 512;
  int64_t max_rank = 8;
};

// The ordered tensor slots of an adapter; the order is the canonical one of
// wire, spool and versions. Immutable after creation, so safe to share
// between threads. Its identity is the SHA-256 of CanonicalText():
//
//   consilium-layout 1
//   <group> <dtype> <d0>x<d1>... <name>      one line per slot, `-` for scalars
//
// UTF-8, every line ended by LF. Groups are numbered by first appearance.
class Layout {
 public:
  Layout() = default;

  // Errors:
  //   INVALID_ARGUMENT    no slots; a name that is empty, not UTF-8, repeated
  //                       or has control characters; a dimension below 1
  //   RESOURCE_EXHAUSTED  beyond a limit; the message names it
  //   UNIMPLEMENTED       a dtype other than F32
  static absl::StatusOr<Layout> Create(std::vector<SlotSpec> slots,
                                       const LayoutLimits& limits = {});
  // Accepts canonical text only: Parse(t)->CanonicalText() == t. Costs at
  // most a small multiple of the text. Errors: as Create().
  static absl::StatusOr<Layout> Parse(std::string_view text,
                                      const LayoutLimits& limits = {});

  const std::vector<TensorSlot>& slots() const { return slots_; }
  const std::vector<GroupName>& groups() const { return groups_; }
  int64_t total_elements() const { return total_elements_; }
  // Elements of each group, over all its slots.
  const std::vector<int64_t>& group_elements() const { return group_elements_; }

  std::optional<size_t> FindSlot(std::string_view name) const;
  std::optional<uint32_t> FindGroup(const GroupName& name) const;
  // The slot that holds element `element`; needs 0 <= element < total.
  size_t SlotAt(int64_t element) const;

  std::string CanonicalText() const;
  // SHA-256 of CanonicalText(); linear in the text, so callers keep it.
  Sha256Digest ComputeId(const HasherFactory& sha256) const;

  friend bool operator==(const Layout& a, const Layout& b);

 private:
  std::vector<TensorSlot> slots_;
  std::vector<GroupName> groups_;
  std::vector<int64_t> group_elements_;
  std::vector<uint32_t> groups_by_name_;  // indexes, sorted by GroupName
  NameIndex slot_by_name_;
  int64_t total_elements_ = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_LAYOUT_H_

#ifndef CONSILIUM_AGGREGATION_COVERAGE_H_
#define CONSILIUM_AGGREGATION_COVERAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"

namespace consilium {

// Which release groups a contribution holds. A group is covered whole or not
// at all. Bytes: bit g of group g, least significant bit first,
// ceil(groups / 8) bytes, unused bits zero. A value type.
class Coverage {
 public:
  Coverage() = default;
  // Covers nothing.
  explicit Coverage(size_t groups)
      : groups_(groups), bits_((groups + 7) / 8, '\0') {}

  static Coverage All(const Layout& layout);
  // Errors: INVALID_ARGUMENT when `bytes` has not exactly the length that
  // `groups` needs, or an unused bit is set.
  static absl::StatusOr<Coverage> FromBytes(std::string_view bytes,
                                            size_t groups);

  size_t groups() const { return groups_; }
  bool Has(size_t group) const {
    return (static_cast<unsigned char>(bits_[group / 8]) >> (group % 8)) & 1u;
  }
  void Set(size_t group) {
    bits_[group / 8] = static_cast<char>(
        static_cast<unsigned char>(bits_[group / 8]) | (1u << (group % 8)));
  }
  size_t CountCovered() const;
  bool Empty() const { return CountCovered() == 0; }
  const std::string& bytes() const { return bits_; }

  friend bool operator==(const Coverage&, const Coverage&) = default;

 private:
  size_t groups_ = 0;
  std::string bits_;
};

// The covered flat space of a contribution: its covered slots laid end to end
// in canonical order. Frames of a payload index this space. Answers questions
// both ways in a few dozen steps with 16 bytes per 64 slots of memory.
// Refers to the layout, which must outlive it. Immutable, thread-safe.
class CoveredSpace {
 public:
  // Needs coverage.groups() == layout->groups().size().
  CoveredSpace(const Layout* layout, Coverage coverage);

  const Layout& layout() const { return *layout_; }
  const Coverage& coverage() const { return coverage_; }
  bool CoversSlot(size_t slot) const {
    return coverage_.Has(layout_->slots()[slot].group);
  }
  // All covered elements.
  int64_t elements() const { return elements_; }
  // Covered elements in slots before `slot` (0 <= slot <= slots).
  int64_t Before(size_t slot) const;
  // The covered slot that holds covered element `covered`; needs
  // 0 <= covered < elements().
  size_t SlotAt(int64_t covered) const;

 private:
  static constexpr size_t kStride = 64;

  const Layout* layout_;
  Coverage coverage_;
  int64_t elements_ = 0;
  std::vector<int64_t> before_;  // before_[i]: covered elements before slot 64i
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_COVERAGE_H_

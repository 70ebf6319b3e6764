#include "consilium/aggregation/coverage.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

Coverage Coverage::All(const Layout& layout) {
  Coverage all(layout.groups().size());
  for (size_t g = 0; g < all.groups(); ++g) all.Set(g);
  return all;
}

absl::StatusOr<Coverage> Coverage::FromBytes(std::string_view bytes,
                                             size_t groups) {
  const size_t need = (groups + 7) / 8;
  if (bytes.size() != need) {
    return absl::InvalidArgumentError(Cat("coverage bitmap has ", bytes.size(),
                                          " bytes; ", groups, " groups need ",
                                          need));
  }
  Coverage coverage;
  coverage.groups_ = groups;
  coverage.bits_ = std::string(bytes);
  if (groups % 8 != 0) {
    const auto last = static_cast<unsigned char>(bytes.back());
    if ((last >> (groups % 8)) != 0) {
      return absl::InvalidArgumentError(Cat(
          "coverage bitmap sets bits beyond the last of ", groups, " groups"));
    }
  }
  return coverage;
}

size_t Coverage::CountCovered() const {
  size_t count = 0;
  for (const char c : bits_) {
    count += static_cast<size_t>(std::popcount(static_cast<unsigned char>(c)));
  }
  return count;
}

CoveredSpace::CoveredSpace(const Layout* layout, Coverage coverage)
    : layout_(layout), coverage_(std::move(coverage)) {
  CONSILIUM_CHECK(coverage_.groups() == layout->groups().size());
  const size_t slots = layout->slots().size();
  before_.reserve(slots / kStride + 2);
  for (size_t s = 0; s < slots; ++s) {
    if (s % kStride == 0) before_.push_back(elements_);
    if (CoversSlot(s)) elements_ += layout->slots()[s].elements;
  }
  before_.push_back(elements_);
}

int64_t CoveredSpace::Before(size_t slot) const {
  const size_t block = slot / kStride;
  int64_t before = before_[block];
  for (size_t s = block * kStride; s < slot; ++s) {
    if (CoversSlot(s)) before += layout_->slots()[s].elements;
  }
  return before;
}

size_t CoveredSpace::SlotAt(int64_t covered) const {
  const auto next = std::upper_bound(before_.begin(), before_.end(), covered);
  const auto block = static_cast<size_t>(next - before_.begin()) - 1;
  int64_t before = before_[block];
  size_t slot = block * kStride;
  while (true) {
    if (CoversSlot(slot)) {
      before += layout_->slots()[slot].elements;
      if (covered < before) return slot;
    }
    ++slot;
  }
}

}  // namespace consilium

#ifndef CONSILIUM_AGGREGATION_NAME_INDEX_H_
#define CONSILIUM_AGGREGATION_NAME_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/hash/hash.h"
#include "consilium/base/strings.h"

namespace consilium {

// Finds the index of a name in somebody else's list: an open-addressing table
// of 8 to 16 bytes per name that owns no text, so that the list and this copy
// and move as plain values. Hashing is seeded per process: names chosen by a
// peer cannot be made to collide on purpose.
//
// `name_of(i)` gives the text of item i, for items added before.
class NameIndex {
 public:
  // Makes room for `items` in all.
  explicit NameIndex(size_t items = 0) {
    size_t size = 16;
    while (size < 2 * items) size *= 2;
    table_.assign(items == 0 ? 0 : size, kFree);
  }

  // Adds item `index`, or returns the earlier item of that name and adds
  // nothing. At most as many items as the constructor was told.
  template <typename NameOf>
  std::optional<uint32_t> AddOrFind(uint32_t index, const NameOf& name_of) {
    const std::string_view name = name_of(index);
    size_t at = Home(name);
    for (; table_[at] != kFree; at = (at + 1) & (table_.size() - 1)) {
      if (name_of(table_[at]) == name) return table_[at];
    }
    table_[at] = index;
    return std::nullopt;
  }

  template <typename NameOf>
  std::optional<uint32_t> Find(std::string_view name,
                               const NameOf& name_of) const {
    if (table_.empty()) return std::nullopt;
    for (size_t at = Home(name); table_[at] != kFree;
         at = (at + 1) & (table_.size() - 1)) {
      if (name_of(table_[at]) == name) return table_[at];
    }
    return std::nullopt;
  }

 private:
  static constexpr uint32_t kFree = std::numeric_limits<uint32_t>::max();

  size_t Home(std::string_view name) const {
    return absl::Hash<absl::string_view>{}(AbslView(name)) &
           (table_.size() - 1);
  }

  std::vector<uint32_t> table_;  // power of two, at most half full
};

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_NAME_INDEX_H_

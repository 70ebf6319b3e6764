#include "consilium/aggregation/delta.h"

#include <optional>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

// Which slots are named.
absl::StatusOr<std::vector<bool>> NamedSlots(
    const Layout& layout, std::span<const std::string_view> names) {
  std::vector<bool> named(layout.slots().size());
  for (const std::string_view name : names) {
    const std::optional<size_t> slot = layout.FindSlot(name);
    if (!slot.has_value()) {
      return absl::NotFoundError(
          Cat("tensor ", Quoted(name, 512), " is no slot of the layout"));
    }
    if (named[*slot]) {
      return absl::AlreadyExistsError(
          Cat("tensor ", Quoted(name, 512), " is given twice"));
    }
    named[*slot] = true;
  }
  return named;
}

}  // namespace

absl::StatusOr<Coverage> CoverageFromNames(
    const Layout& layout, std::span<const std::string_view> names) {
  if (names.empty()) {
    return absl::InvalidArgumentError("a delta holds no tensors");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<bool> named,
                             NamedSlots(layout, names));
  Coverage coverage(layout.groups().size());
  for (size_t s = 0; s < named.size(); ++s) {
    if (named[s]) coverage.Set(layout.slots()[s].group);
  }
  for (size_t s = 0; s < named.size(); ++s) {
    const TensorSlot& slot = layout.slots()[s];
    if (named[s] || !coverage.Has(slot.group)) continue;
    return absl::InvalidArgumentError(Cat(
        "release group ", layout.groups()[slot.group].ToString(),
        " lacks tensor ", Quoted(slot.name, 512), ": a group is given whole"));
  }
  return coverage;
}

}  // namespace consilium

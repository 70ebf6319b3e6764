#ifndef CONSILIUM_AGGREGATION_DELTA_H_
#define CONSILIUM_AGGREGATION_DELTA_H_

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/layout.h"

namespace consilium {

// The groups whose slots a site hands in under `names` (in any order).
//
// Errors:
//   NOT_FOUND         a name that is no slot of the layout
//   ALREADY_EXISTS    a name given twice
//   INVALID_ARGUMENT  no names; a group of which only some slots are given
//                     (the message names the group and a missing slot)
absl::StatusOr<Coverage> CoverageFromNames(
    const Layout& layout, std::span<const std::string_view> names);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_DELTA_H_

// Words for people about members of a round. Internal to coordinator/round.

#ifndef CONSILIUM_COORDINATOR_ROUND_ROUND_TEXT_H_
#define CONSILIUM_COORDINATOR_ROUND_ROUND_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/base/utf8.h"
#include "coordinator/round/round_types.h"

namespace consilium {

// "not heard from", "training 40 %", "upload interrupted at 12 %", "declined
// (no data)".
std::string DescribeMember(const RoundMember& member);

// "a", "a and b", "a, b and 7 more"; at most `shown` items by name.
std::string JoinSome(const std::vector<std::string>& items, size_t shown = 10);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_ROUND_TEXT_H_

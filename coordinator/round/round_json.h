// RoundConfig and RoundState as JSON. A configuration is stored with each round
// as it ran; a state is a lossless snapshot: parsing what was written gives an
// equal value. Durations are written as strings ("1h30m", "250ms", "inf") and
// read also as numbers of seconds; times are integer microseconds since 1970
// UTC.

#ifndef CONSILIUM_COORDINATOR_ROUND_ROUND_JSON_H_
#define CONSILIUM_COORDINATOR_ROUND_ROUND_JSON_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "coordinator/round/round_types.h"

namespace consilium {

std::string RoundConfigToJson(const RoundConfig& config);

// Keys that are absent keep their default. The result is valid by
// ValidateRoundConfig().
// Errors: INVALID_ARGUMENT  not JSON, unknown key, wrong type, out of range;
//                           names the key
absl::StatusOr<RoundConfig> RoundConfigFromJson(std::string_view json);

std::string RoundStateToJson(const RoundState& state);

// Every key must be there. Errors: as above.
absl::StatusOr<RoundState> RoundStateFromJson(std::string_view json);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_ROUND_JSON_H_

// The outcomes of a request that the protocol expects and that are not errors
// of the call: late, quarantined, no space. Values as in common.proto.

#ifndef CONSILIUM_COORDINATOR_ENGINE_REFUSAL_H_
#define CONSILIUM_COORDINATOR_ENGINE_REFUSAL_H_

#include <string>

#include "absl/time/time.h"

namespace consilium {

enum class RefusalCode {
  kLate = 1,
  kRoundNotOpen = 2,
  kNotInCohort = 3,
  kWrongBase = 4,
  kWrongLayout = 5,
  kTooLarge = 6,
  kNoSpace = 7,
  kQuarantined = 8,
  kSuperseded = 9,
  kBadManifest = 10,
  kSuspended = 11,
  kDigestMismatch = 12,
  kBusy = 13,
  kUnsealed = 14,
  kAuthentication = 15,
  kTooMany = 16,
};

struct Refused {
  RefusalCode code = RefusalCode::kRoundNotOpen;
  std::string message;  // for a person: what, value, limit, fix
  absl::Duration retry_after = absl::ZeroDuration();  // zero: do not repeat
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_REFUSAL_H_

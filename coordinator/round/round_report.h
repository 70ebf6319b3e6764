// Why a round waits, for people and for machines. Pure.

#ifndef CONSILIUM_COORDINATOR_ROUND_ROUND_REPORT_H_
#define CONSILIUM_COORDINATOR_ROUND_ROUND_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/round/round_types.h"

namespace consilium {

// What the round waits for from one institution.
struct MemberWait {
  std::string institution;
  MemberState state = MemberState::kInvited;
  std::string doing;  // "training 40 %", "upload interrupted at 12 %"
};

enum class WaitReason {
  kNothing,        // final
  kStart,          // planned: for its schedule or an operator
  kContributions,  // open or collecting
  kGrace,          // past the deadline, for uploads already begun
  kFold,           // the fold is running
  kFoldRetry,      // the fold failed and begins again
  kEvaluations,
};

struct WaitReport {
  WaitReason reason = WaitReason::kNothing;
  RoundCounts counts;
  // Contributions, or reports while evaluating, and how many are required.
  int64_t have = 0;
  int64_t quorum = 0;
  std::vector<MemberWait> waiting_for;
  // When the wait ends at the latest.
  std::optional<absl::Time> until;
  // All of it in one line, such as "waiting for bank-b: training 40 %; quorum 2
  // of 3 reached, closes at the latest in 3m20s".
  std::string sentence;
};

WaitReport WhyWaiting(const RoundState& state, absl::Time now);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_ROUND_REPORT_H_

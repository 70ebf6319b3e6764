// Values of the round machine: what a round is configured with and what is
// known about it. Plain data without invariants of their own; PlanRound() and
// Apply() in round_machine.h are the only makers of consistent states.
//
// Times are wall-clock, counts are institutions or examples as named, versions
// are numbers of the version table. Nothing here reads a clock or does I/O.

#ifndef CONSILIUM_COORDINATOR_ROUND_ROUND_TYPES_H_
#define CONSILIUM_COORDINATOR_ROUND_ROUND_TYPES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium {

// planned -> open -> collecting -> aggregating -> evaluating -> promoted |
// rejected; failed and cancelled are reachable from every phase before them.
// open: announced, no upload has begun. collecting: an upload has begun.
enum class RoundPhase {
  kPlanned,
  kOpen,
  kCollecting,
  kAggregating,
  kEvaluating,
  kPromoted,
  kRejected,
  kFailed,
  kCancelled,
};

// invited: has not been heard of. training: has reported progress. uploading:
// has begun an upload that is neither committed nor given up, connected or not.
// failed: its training or its contribution failed, quarantine included.
// missing: the round closed before it committed. removed: suspended or revoked.
enum class MemberState {
  kInvited,
  kTraining,
  kUploading,
  kCommitted,
  kDeclined,
  kFailed,
  kMissing,
  kRemoved,
};

// Where a member stands in the evaluation of the candidate. none: not asked.
enum class EvaluationState { kNone, kAsked, kReported, kDeclined };

enum class Promotion { kAfterEvaluation, kImmediate };

// What to do with a version that was promoted before its evaluation and then
// turned out worse than its base.
enum class OnRegression { kAlert, kRollBack };

// What a candidate becomes when its evaluation misses the evaluation quorum.
enum class WithoutQuorum { kReject, kPromote };

// Lower-case names as stored in the history ("planned", "invited", ...).
std::string_view RoundPhaseName(RoundPhase phase);
std::string_view MemberStateName(MemberState state);
std::string_view EvaluationStateName(EvaluationState state);
std::string_view PromotionName(Promotion promotion);
std::string_view OnRegressionName(OnRegression action);
std::string_view WithoutQuorumName(WithoutQuorum action);

// Errors: INVALID_ARGUMENT naming the value and the legal ones.
absl::StatusOr<RoundPhase> ParseRoundPhase(std::string_view name);
absl::StatusOr<MemberState> ParseMemberState(std::string_view name);
absl::StatusOr<EvaluationState> ParseEvaluationState(std::string_view name);
absl::StatusOr<Promotion> ParsePromotion(std::string_view name);
absl::StatusOr<OnRegression> ParseOnRegression(std::string_view name);
absl::StatusOr<WithoutQuorum> ParseWithoutQuorum(std::string_view name);

// promoted, rejected, failed or cancelled.
bool IsTerminal(RoundPhase phase);

// The candidate is refused when the example-weighted mean of `metric` over the
// institutions that know both values is worse than the base's by more than
// `tolerance` (absolute, in the metric's own unit). Empty metric: no rule.
struct EvaluationRule {
  std::string metric;
  bool higher_is_better = false;
  double tolerance = 0.0;

  bool operator==(const EvaluationRule&) const = default;
};

struct EvaluationConfig {
  bool enabled = true;
  int64_t quorum = 1;  // reports
  absl::Duration deadline = absl::Minutes(10);
  WithoutQuorum without_quorum = WithoutQuorum::kReject;
  OnRegression on_regression = OnRegression::kRollBack;
  EvaluationRule rule;

  bool operator==(const EvaluationConfig&) const = default;
};

struct RoundConfig {
  // Contributions without which the round fails.
  int64_t quorum = 2;
  // Contributions at which it closes without waiting for the others.
  // 0: everybody in the cohort.
  int64_t target = 0;
  // Institutions invited beyond `target`, so that a few may drop out.
  // Ignored when target is 0: everybody active is invited.
  int64_t over_selection = 0;
  // From opening until uploads must have begun.
  absl::Duration deadline = absl::Hours(1);
  // After the deadline, for uploads already begun; see round_machine.h.
  absl::Duration grace = absl::Minutes(2);
  // Once the quorum is there, how long to wait for the rest at most.
  // Infinite: until the deadline.
  absl::Duration wait_after_quorum = absl::InfiniteDuration();
  // Examples below which a contribution is refused.
  int64_t minimum_examples = 1;
  // Contributors below which a release group is held.
  int64_t minimum_group_contributors = 1;
  // W_max: the weight, in examples, that counts as full; larger is refused.
  double maximum_weight = 1e7;
  // L2 norm of a whole update above which it is quarantined. 0: no limit.
  double maximum_norm = 0.0;
  // One fold may take this long; then it counts as failed for good. So long
  // after the round closed, a full disk does too.
  absl::Duration fold_timeout = absl::Hours(6);
  // Folds begun before a retryable failure (other than a full disk) becomes
  // final, and the pause before the second one; it doubles each time.
  int64_t fold_attempts = 3;
  absl::Duration fold_retry_delay = absl::Seconds(10);
  Promotion promotion = Promotion::kAfterEvaluation;
  EvaluationConfig evaluation;

  bool operator==(const RoundConfig&) const = default;
};

// What no configuration may exceed.
struct RoundLimits {
  int64_t max_members = 4096;  // contributions that one fold takes
  int64_t max_examples = int64_t{1} << 40;
  absl::Duration max_wait = absl::Hours(24 * 366);
};

// Errors: INVALID_ARGUMENT naming the field, its value and its limits.
absl::Status ValidateRoundConfig(const RoundConfig& config);

// 1 to 128 printable ASCII characters without spaces, else INVALID_ARGUMENT.
absl::Status ValidateMetricName(std::string_view name);

struct RoundMember {
  std::string institution;
  MemberState state = MemberState::kInvited;
  std::string reason;  // why declined, failed, missing or removed
  // Of training or of the upload, 0..1; unknown where empty.
  std::optional<double> progress;
  std::string progress_text;
  absl::Time updated_at = absl::UnixEpoch();

  bool interrupted = false;  // uploading, but its stream is gone
  bool quarantined = false;  // its contribution is, before or after the fold
  bool suspended = false;    // may finish its upload, is not asked to evaluate
  int64_t examples = 0;      // of the committed contribution, else 0

  EvaluationState evaluation = EvaluationState::kNone;
  std::string evaluation_reason;    // why declined
  int64_t evaluation_examples = 0;  // validation examples behind `metrics`
  std::map<std::string, double> metrics;       // of the candidate
  std::map<std::string, double> base_metrics;  // of the base, where known

  bool operator==(const RoundMember&) const = default;
};

// How the fold weighs this round's contributions; fixed when it begins, so that
// a later policy changes neither an open round nor a replay.
struct RoundWeighting {
  bool router_by_examples = false;  // false: router groups stay frozen
  double maximum_tokens = 1e9;      // of one contribution for an expert

  bool operator==(const RoundWeighting&) const = default;
};

struct RoundState {
  int64_t id = 0;
  int64_t attempt = 1;
  RoundPhase phase = RoundPhase::kPlanned;
  std::string reason;  // why rejected, failed or cancelled
  int64_t base_version = 0;
  RoundConfig config;
  RoundWeighting weighting;
  // Of its uploads. Chosen when it is planned and announced, so it stays
  // whatever is configured later; the default is that of all earlier rounds.
  int64_t elements_per_frame = 258048;
  // Told with every task; fixed when the round begins, so that all of its
  // members train alike.
  std::map<std::string, std::string> training;
  std::vector<RoundMember> members;  // sorted by institution, no duplicates

  absl::Time planned_at = absl::UnixEpoch();
  std::optional<absl::Time> opened_at;
  std::optional<absl::Time> deadline;   // uploads must begin before
  std::optional<absl::Time> quorum_at;  // the quorum has held since
  std::optional<absl::Time> closed_at;  // to contributions
  std::optional<absl::Time> evaluation_deadline;
  std::optional<absl::Time> finished_at;
  bool extended = false;  // by an operator: wait_after_quorum is off

  // Folds begun so far; names the running one, so that the result of an
  // earlier one can be told apart.
  int64_t fold_run = 0;
  int64_t fold_failures = 0;
  std::optional<absl::Time> fold_until;     // of the running fold
  std::optional<absl::Time> fold_retry_at;  // none running, begin one then

  std::optional<int64_t> candidate;
  std::vector<std::string> held_groups;
  // The candidate is already promoted while its evaluation is under way.
  bool promoted_early = false;

  // The latest time seen; see "Time" in round_machine.h.
  absl::Time clock = absl::UnixEpoch();

  bool operator==(const RoundState&) const = default;
};

// cohort == invited + training + uploading + committed + declined + failed +
//           missing + removed
struct RoundCounts {
  int64_t cohort = 0;
  int64_t invited = 0;
  int64_t training = 0;
  int64_t uploading = 0;
  int64_t committed = 0;
  int64_t declined = 0;
  int64_t failed = 0;
  int64_t missing = 0;
  int64_t removed = 0;
};
RoundCounts CountMembers(const RoundState& state);

// The member of that name, or null.
const RoundMember* FindMember(const RoundState& state,
                              std::string_view institution);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_ROUND_TYPES_H_

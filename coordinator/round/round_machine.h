// The round machine: (state, event, now) -> new state + effects. Pure: no
// clock, no I/O, no randomness, no globals; safe from any thread.
//
// The caller stores the new state, in one transaction with the effects that
// change the store (QuarantineContribution, Promote, Reject, RollBack, Abandon,
// TaintVersion), and carries out the others after it, in their order.
// A crash in between loses only those; Restarted asks for them again.
//
// Rules of closing (phases open and collecting):
//   - The window is half open: [opened, deadline). An upload that began inside
//     it may still commit until deadline + grace.
//   - `target` contributions: closes at once.
//   - Everybody resolved: closes with the quorum, fails without.
//   - The quorum out of reach, counting all who may still commit: fails at
//     once, naming who is missing and why.
//   - Deadline: with the quorum and no upload under way it closes; with one
//     under way it waits for that, for at most the grace; without the quorum it
//     waits, for at most the grace, if the uploads under way can still make it.
//   - wait_after_quorum: brings the deadline forward to quorum_at + that, until
//     an operator extends the round.
// One institution's failure never fails a round that still has its quorum.
//
// Time: every event first lets what is due at `now` happen, as Tick does. A
// `now` earlier than the latest one seen by up to kClockTolerance (threads that
// overtake each other) counts as the latest one; one earlier than that is a
// clock set back: all pending times move back by the same amount, so that the
// waits left keep their length. Times in states are whole microseconds, as the
// store keeps them.
//
// Event x phase. ok: handled. late: Answer::kLate, nothing counts. same:
// Answer::kUnchanged. F: FAILED_PRECONDITION that names phase and event.
//
//                           planned open coll. aggr.  eval.  final
//   Start                   ok      F    F     F      F      F
//   ProgressReported        F       ok   ok    late   ok     late
//   UploadBegan             F       ok   ok    late   late   late
//   UploadLost              F       same ok    same   same   same
//   ContributionCommitted   F       F    ok    late   late   late
//   ContributionQuarantined F       F    ok    ok(1)  ok(2)  ok(3)
//   ContributionReleased    F       F    ok    F      F      F
//   Declined                F       ok   ok    late   late   late
//   MemberRemoved           ok      ok   ok    ok(1)  ok     same
//   MemberRestored          ok      ok   ok    ok(6)  ok(6)  same
//   Tick                    same    ok   ok    ok     ok     same
//   Extend                  F       ok   ok    F      ok(4)  F
//   CloseNow                F       ok   ok    F      ok(4)  F
//   Cancel                  ok      ok   ok    ok     ok(5)  F
//   FoldFinished            F       F    F     ok     same   same
//   FoldFailed              F       F    F     ok     same   same
//   PublishFailed           F       F    F     ok     same   same
//   EvaluationReported      F       F    F     F      ok     late
//   EvaluationDeclined      F       F    F     F      ok     late
//   BaseAbandoned           ok      ok   ok    ok     ok     same
//   Restarted               same    ok   ok    ok     ok     same
//
//   (1) the fold begins again without it, or the round fails for want of its
//       quorum. (2) a candidate is rejected, a version promoted early is
//       tainted. (3) the version, where there is one, is tainted; the phase
//       stays. (4) acts on the evaluation. (5) F once promoted early. (6) what
//       it missed stays missed.
//   An event named `same` for a member means that repeating it is harmless.
//
// Errors of Apply():
//   FAILED_PRECONDITION  event not legal in this phase or member state
//   NOT_FOUND            the institution is not in the cohort
//   INVALID_ARGUMENT     a value of the event is out of range; names it
// On an error the state is what it was before.

#ifndef CONSILIUM_COORDINATOR_ROUND_ROUND_MACHINE_H_
#define CONSILIUM_COORDINATOR_ROUND_ROUND_MACHINE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/round/round_types.h"

namespace consilium {

inline constexpr absl::Duration kClockTolerance = absl::Seconds(5);
// Reasons and progress texts come from peers: longer ones are cut here, and
// control characters become spaces.
inline constexpr size_t kMaxReasonBytes = 512;

// --- Events ----------------------------------------------------------------

struct Start {};
// Not "Progress": that is the meter of consilium/base/progress.h.
struct ProgressReported {
  std::string institution;
  std::optional<double> fraction;  // 0..1
  std::string text;
};
// Also for a resumed upload.
struct UploadBegan {
  std::string institution;
};
struct UploadLost {
  std::string institution;
  std::string reason;
};
struct ContributionCommitted {
  std::string institution;
  int64_t examples = 0;
};
struct ContributionQuarantined {
  std::string institution;
  std::string reason;
};
struct ContributionReleased {
  std::string institution;
};
struct Declined {
  std::string institution;
  std::string reason;
};
// suspended: no new work, but an upload under way and a contribution committed
// still count, and what it gave up or failed at stays so. revoked: its
// contribution is quarantined, for good, and its streams are cut.
enum class Removal { kSuspended, kRevoked };
struct MemberRemoved {
  std::string institution;
  Removal removal = Removal::kSuspended;
  std::string reason;
};
// The suspension is over. While the window is open it is invited again, if it
// had not begun an upload nor given up.
struct MemberRestored {
  std::string institution;
};
struct Tick {};
struct Extend {
  absl::Time deadline;  // must lie after now
};
struct CloseNow {};
struct Cancel {
  std::string reason;
};
// The fold of BeginFold::run is done and its version is durable.
struct FoldFinished {
  int64_t run = 0;
  int64_t candidate = 0;  // version number
  int64_t groups = 0;     // release groups of the layout
  std::vector<std::string> held_groups;
};
// no_space: of the disk. Somebody can make room, so it is retried for
// fold_timeout from the round's close, whatever fold_attempts says.
struct FoldFailed {
  int64_t run = 0;
  std::string reason;
  bool retryable = false;
  bool no_space = false;
};
// The fold was right but its version could not be written: always worth
// another try.
struct PublishFailed {
  int64_t run = 0;
  std::string reason;
  bool no_space = false;
};
struct EvaluationReported {
  std::string institution;
  int64_t examples = 0;                        // > 0
  std::map<std::string, double> metrics;       // of the candidate; finite
  std::map<std::string, double> base_metrics;  // same data, base version
};
struct EvaluationDeclined {
  std::string institution;
  std::string reason;
};
// `version` is no longer in the line of the version served; rounds built on it
// are pointless.
struct BaseAbandoned {
  int64_t version = 0;
  std::string reason;
};
// The coordinator came up again with this state. Repeats the effects that may
// have been lost. Less than `grace` left to the window or to the evaluation is
// topped up to `grace`, so that nobody loses finished work to our downtime.
struct Restarted {};

using RoundEvent =
    std::variant<Start, ProgressReported, UploadBegan, UploadLost,
                 ContributionCommitted, ContributionQuarantined,
                 ContributionReleased, Declined, MemberRemoved, MemberRestored,
                 Tick, Extend, CloseNow, Cancel, FoldFinished, FoldFailed,
                 PublishFailed, EvaluationReported, EvaluationDeclined,
                 BaseAbandoned, Restarted>;
std::string_view RoundEventName(const RoundEvent& event);  // "UploadBegan"

// --- Effects ---------------------------------------------------------------

// Send Tick at this time; replaces the wake asked for earlier. Always later
// than `now`. A transition with none leaves the earlier wake in force.
struct ScheduleWake {
  absl::Time at;
};
// Refuse further chunks of these uploads and end their streams.
struct CancelUploads {
  std::vector<std::string> institutions;
  std::string reason;
};
// The round lost its right to use this contribution (revocation).
struct QuarantineContribution {
  std::string institution;
  std::string reason;
};
// Fold these contributions in this order (ascending by institution name).
struct BeginFold {
  int64_t run = 0;
  std::vector<std::string> institutions;
};
struct AbortFold {
  int64_t run = 0;
};
struct Promote {
  int64_t candidate = 0;
};
struct Reject {
  int64_t candidate = 0;
  std::string reason;
};
// Only after an early promotion.
struct RollBack {
  int64_t candidate = 0;
  std::string reason;
};
// The round is cancelled; its candidate, where there is one, is refused.
struct Abandon {
  std::string reason;
  std::optional<int64_t> candidate;
};
// A contribution behind this version was quarantined after the fact.
struct TaintVersion {
  int64_t version = 0;
  std::string institution;
  std::string reason;
};
// For the operator: log, event, metric.
struct Alert {
  std::string reason;
};

using RoundEffect =
    std::variant<ScheduleWake, CancelUploads, QuarantineContribution, BeginFold,
                 AbortFold, Promote, Reject, RollBack, Abandon, TaintVersion,
                 Alert>;
std::string_view RoundEffectName(const RoundEffect& effect);

// --- Transitions -----------------------------------------------------------

// What to tell the sender of the event.
enum class Answer {
  kAccepted,
  kUnchanged,  // already so, or of no consequence any more
  kLate,       // the round no longer takes this; stop working for it
  kRefused,    // this institution or this contribution is out of this round
};
std::string_view AnswerName(Answer answer);

struct Transition {
  RoundState state;
  std::vector<RoundEffect> effects;
  Answer answer = Answer::kAccepted;
  std::string text;  // why, for kLate and kRefused
};

struct RoundPlan {
  int64_t id = 0;       // > 0
  int64_t attempt = 1;  // > 0
  int64_t base_version = 0;
  RoundConfig config;
  RoundWeighting weighting = {};
  int64_t elements_per_frame = 258048;
  std::map<std::string, std::string> training = {};
  std::vector<std::string> members;  // institutions
};

// Errors: INVALID_ARGUMENT  configuration or ids out of range, member twice
//         FAILED_PRECONDITION  fewer members than the quorum
absl::StatusOr<RoundState> PlanRound(RoundPlan plan, absl::Time now);

absl::StatusOr<Transition> Apply(const RoundState& state,
                                 const RoundEvent& event, absl::Time now);

// Whether the next round may open: this one is final, or its version was
// promoted early and only its evaluation is left.
bool AllowsNextRound(const RoundState& state);

// Whether an upload by a member could begin now; what admission asks first.
bool TakesUploads(const RoundState& state, absl::Time now);

// Until when the round waits, as Extend reckons it: for uploads to begin, or
// for evaluations. Nothing in the other phases.
std::optional<absl::Time> WaitsUntil(const RoundState& state);

// When something falls due without any further event; nothing for final and
// planned rounds.
std::optional<absl::Time> NextWake(const RoundState& state);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ROUND_ROUND_MACHINE_H_

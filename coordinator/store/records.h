#ifndef CONSILIUM_COORDINATOR_STORE_RECORDS_H_
#define CONSILIUM_COORDINATOR_STORE_RECORDS_H_

// Rows of the history database as plain values.
//
// One struct per table; the columns are in FORMAT.md section 6. Times are
// stored as microseconds since the Unix epoch, so sub-microsecond parts of an
// absl::Time are lost. An empty string stands for NULL where a field says so.
// States that belong to the round machine (rounds, members, schedules) are
// kept as the words it prints; the schema refuses any other word.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"

namespace consilium {

enum class InstitutionState { kInvited, kActive, kSuspended, kRevoked };
enum class VersionState { kCandidate, kPromoted, kRejected, kRolledBack };
enum class RoundKeyState { kNone, kLive, kDestroyed };
enum class ContributionState {
  kUploading,    // spool is being written
  kCommitted,    // all chunks durable, receipt stored
  kFolded,       // part of a version of its round
  kQuarantined,  // kept out, by a check or by an operator
  kSuperseded,   // another manifest took its place before commit
  kExpired,      // its round ended (or was restored) before it counted
};
enum class MetricPhase { kTrain, kEvaluate, kAggregate };

// The words of the database: "invited", "rolled_back", ...
std::string_view ToString(InstitutionState state);
std::string_view ToString(VersionState state);
std::string_view ToString(RoundKeyState state);
std::string_view ToString(ContributionState state);
std::string_view ToString(MetricPhase phase);

// Errors: INVALID_ARGUMENT naming the word and the words known.
absl::StatusOr<InstitutionState> ParseInstitutionState(std::string_view word);
absl::StatusOr<VersionState> ParseVersionState(std::string_view word);
absl::StatusOr<RoundKeyState> ParseRoundKeyState(std::string_view word);
absl::StatusOr<ContributionState> ParseContributionState(std::string_view word);
absl::StatusOr<MetricPhase> ParseMetricPhase(std::string_view word);

// The one row that says whose history this is.
struct FederationRow {
  std::string name;
  Sha256Digest layout_digest;
  int64_t layout_bytes = 0;  // of the layout's blob; 0: no layout yet
  std::string policy_json = "{}";
  std::optional<int64_t> current_version;  // promoted and served
  absl::Time created_at;
  bool paused = false;  // no new rounds are opened

  friend bool operator==(const FederationRow&, const FederationRow&) = default;
};

struct InstitutionRow {
  int64_t id = 0;    // given by InsertInstitution
  std::string name;  // unique; a fold's order is by name
  InstitutionState state = InstitutionState::kInvited;
  std::string label_json = "{}";
  absl::Time created_at;
  absl::Time updated_at;
  std::optional<absl::Time> last_seen_at;
  std::string role = "institution";  // or "operator" or "auditor"

  friend bool operator==(const InstitutionRow&,
                         const InstitutionRow&) = default;
};

struct CertificateRow {
  std::string serial;  // hexadecimal, lower case
  std::string subject_uri;
  std::optional<int64_t> institution_id;  // of any role; none: only a name
  std::string role;
  std::string fingerprint;  // SHA-256 of the DER form, hexadecimal
  absl::Time not_before;
  absl::Time not_after;
  absl::Time issued_at;
  std::optional<absl::Time> revoked_at;
  std::string reason;  // empty: NULL

  friend bool operator==(const CertificateRow&,
                         const CertificateRow&) = default;
};

// An enrolment token; the token itself is never stored, only its hash.
struct TokenRow {
  std::string token_hash;  // hexadecimal SHA-256
  int64_t institution_id = 0;
  std::string role;
  absl::Time expires_at;
  std::optional<absl::Time> used_at;
  absl::Time created_at;
  std::string created_by;
  // Of the key that used it (CertificateRequestKey, hexadecimal), and what was
  // issued for it; empty before.
  std::string key_hash;
  std::string chain_pem;

  friend bool operator==(const TokenRow&, const TokenRow&) = default;
};

// An immutable set of parameters, named by the digest of its blob.
struct VersionRow {
  int64_t number = 0;  // 0 is the version that `init` imports
  Sha256Digest digest;
  int64_t blob_bytes = 0;
  std::optional<int64_t> parent;
  std::optional<int64_t> round;  // none for an imported version
  std::optional<int64_t> attempt;
  VersionState state = VersionState::kCandidate;
  bool tainted = false;  // depends on a contribution quarantined later
  std::string reason;    // empty: NULL
  std::string signature;
  absl::Time created_at;
  std::optional<absl::Time> promoted_at;
  std::optional<absl::Time> pruned_at;  // blob deleted by retention
  std::string report_json;  // what the fold did with each group; empty: NULL

  friend bool operator==(const VersionRow&, const VersionRow&) = default;
};

struct RoundRow {
  int64_t id = 0;       // given by InsertRound when 0
  int64_t attempt = 1;  // counts from 1
  std::string state;    // the machine's word: planned, open, collecting, ...
  std::string reason;   // empty: NULL
  int64_t base_version = 0;
  std::optional<int64_t> candidate_version;
  std::string config_json = "{}";  // as run
  std::string state_json;          // the machine's snapshot; empty: NULL
  absl::Time planned_at;
  std::optional<absl::Time> opened_at;
  std::optional<absl::Time> deadline;
  std::optional<absl::Time> closed_at;
  std::optional<absl::Time> eval_deadline;
  std::optional<absl::Time> finished_at;  // set exactly in terminal states
  std::string round_public_key;           // raw bytes; empty: NULL
  RoundKeyState round_key_state = RoundKeyState::kNone;
  std::string trigger;  // manual, schedule, replay, ...

  friend bool operator==(const RoundRow&, const RoundRow&) = default;
};

struct RoundEventRow {
  int64_t id = 0;  // given by AppendRoundEvent; increases
  int64_t round = 0;
  int64_t attempt = 0;
  absl::Time at;
  std::string kind;
  std::string institution;  // name; empty: NULL
  std::string detail;

  friend bool operator==(const RoundEventRow&, const RoundEventRow&) = default;
};

struct CohortMemberRow {
  int64_t round = 0;
  int64_t attempt = 0;
  int64_t institution_id = 0;
  std::string state;   // invited, training, uploading, committed, ...
  std::string reason;  // empty: NULL
  std::optional<double> progress;  // 0..1
  std::string progress_text;       // empty: NULL
  absl::Time updated_at;

  friend bool operator==(const CohortMemberRow&,
                         const CohortMemberRow&) = default;
};

struct ContributionRow {
  std::string id;  // upload id, lower-case hexadecimal
  int64_t round = 0;
  int64_t attempt = 0;
  int64_t institution_id = 0;
  ContributionState state = ContributionState::kUploading;
  std::string reason;           // empty: NULL
  std::string manifest;         // canonical bytes
  Sha256Digest payload_digest;  // of the encoded payload before sealing
  int64_t payload_bytes = 0;    // encoded payload before sealing
  std::string spool_path;  // relative to the data directory; empty once deleted
  std::string wrapped_key;  // empty when not sealed
  bool sealed = true;
  std::optional<int64_t> examples;
  std::optional<double> norm;
  std::string stats_json;  // empty: NULL
  std::string receipt;     // signed receipt; empty until committed
  absl::Time begun_at;
  std::optional<absl::Time> committed_at;

  friend bool operator==(const ContributionRow&,
                         const ContributionRow&) = default;
};

struct MetricRow {
  int64_t id = 0;  // given by InsertMetric
  int64_t round = 0;
  int64_t attempt = 0;
  std::optional<int64_t> version;
  std::optional<int64_t> institution_id;  // none: computed by the coordinator
  MetricPhase phase = MetricPhase::kTrain;
  std::string name;
  double value = 0;  // NaN is refused: SQLite has none
  int64_t examples = 0;
  absl::Time at;

  friend bool operator==(const MetricRow&, const MetricRow&) = default;
};

// Mean over institutions, weighted by examples.
struct WeightedMetric {
  std::string name;
  double mean = 0;
  int64_t examples = 0;      // sum of the weights
  int64_t institutions = 0;  // how many reported it

  friend bool operator==(const WeightedMetric&,
                         const WeightedMetric&) = default;
};

struct ScheduleRow {
  std::string kind = "manual";  // manual, every, cron, continuous
  std::string expression;
  std::string time_zone = "UTC";
  bool paused = false;
  std::optional<absl::Time> next_at;
  absl::Time updated_at;

  friend bool operator==(const ScheduleRow&, const ScheduleRow&) = default;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_RECORDS_H_

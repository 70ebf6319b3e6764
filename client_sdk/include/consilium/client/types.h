#ifndef CONSILIUM_CLIENT_TYPES_H_
#define CONSILIUM_CLIENT_TYPES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"

// The SDK has its own namespace, since a process may hold an institution and a
// coordinator at once (tests, benchmarks) and both speak of receipts and tasks.
namespace consilium::client {

namespace internal {
struct SignedTerms;  // client_sdk/session/terms.h
}  // namespace internal

// An immutable set of adapter parameters. `digest` is the SHA-256 of its
// safetensors file of `bytes` bytes. Number 0: as imported.
struct Version {
  uint64_t number = 0;
  Sha256Digest digest;
  uint64_t bytes = 0;
  friend bool operator==(const Version&, const Version&) = default;
};

// ---------------------------------------------------------------------------
// Work

// Train on local data from `base` and submit the delta before `deadline`.
// Every value but `parameters` and `progress_period` was signed by the
// coordinator and checked against the key pinned at enrolment.
struct TrainTask {
  std::string federation;
  uint64_t round = 0;
  uint32_t attempt = 0;
  Version base;
  Sha256Digest layout_digest;
  absl::Time deadline = absl::InfiniteFuture();
  uint64_t min_examples = 0;
  double weight_max = 0;  // above it an update is quarantined
  double max_norm = 0;    // L2 of the delta; 0: no limit
  uint64_t max_update_bytes = 0;
  bool sealed = true;  // false: the federation's policy is `sealing = "off"`

  // Training settings of the federation, such as "epochs" or "learning_rate".
  std::map<std::string, std::string> parameters;
  // How often the coordinator would like to hear ReportProgress().
  absl::Duration progress_period = absl::Seconds(5);

  // What was signed, as Submit() needs it. Not for callers.
  std::shared_ptr<const internal::SignedTerms> terms;
};

// Measure `candidate` on local validation data before `deadline`.
struct EvaluateTask {
  uint64_t round = 0;
  uint32_t attempt = 0;
  Version candidate;
  absl::Time deadline = absl::InfiniteFuture();
};

// Nothing to do, and why.
struct Idle {
  std::string reason;  // for a person
  std::optional<absl::Time> next_round_at;
  std::optional<Version> current;  // the promoted version
};

using Work = std::variant<TrainTask, EvaluateTask, Idle>;

// ---------------------------------------------------------------------------
// Updates. A delta is trained value minus base value, element by element. A
// release group ("shared", "expert/<layer>/<id>", "router/<layer>") is handed
// in whole or not at all; an expert that saw no data is best left out.

// What travels sealed with the parameters, and decides their weight.
struct LocalReport {
  uint64_t examples = 0;
  // Tokens (or rows) routed to an expert group, by group name. A group without
  // an entry weighs by `examples`.
  std::map<std::string, uint64_t> group_tokens;
  // Finite values; names [a-z0-9_./-]+.
  std::map<std::string, double> metrics;
};

// Row-major elements of one tensor of the layout. Does not own them.
struct NamedTensor {
  std::string name;
  std::span<const float> delta;
};

// A delta that lies in memory. Tensors in any order.
struct Update {
  std::vector<NamedTensor> tensors;
  LocalReport report;
};

// A delta that is made while it is encoded, for adapters too large to hold
// twice.
struct UpdateSource {
  // Names of the tensors handed in, in any order; empty: all of the layout.
  std::vector<std::string> tensors;
  // Writes elements [first, first + out.size()) of one tensor's delta to `out`.
  // Called on the thread of Submit(), once for each element, tensors in layout
  // order and ranges ascending; `out` holds at most 258,048 elements. An error
  // ends Submit() with that error and nothing is sent.
  std::function<absl::Status(std::string_view tensor, int64_t first,
                             std::span<float> out)>
      fill;
  LocalReport report;
};

// ---------------------------------------------------------------------------
// Outcomes

// The coordinator has the contribution, durably. Its Ed25519 signature was
// checked. It is kept under <state_dir>/receipts to prove what was handed in
// (`consilium-client receipts` shows and checks them).
struct Receipt {
  std::string federation;
  uint64_t round = 0;
  uint32_t attempt = 0;
  std::string institution;
  std::string upload_id;  // hexadecimal
  Sha256Digest payload_digest;
  uint64_t payload_bytes = 0;
  absl::Time committed_at;
  std::string signature;  // hexadecimal
};

// Values as in proto/consilium/v1/common.proto.
enum class RefusalCode {
  kUnspecified = 0,
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

// "LATE", "ROUND_NOT_OPEN", ...; "UNKNOWN" for a code of a newer coordinator.
std::string_view RefusalCodeName(RefusalCode code);

// The coordinator did not take it, and repeating the request will not help.
struct Refused {
  RefusalCode code = RefusalCode::kUnspecified;
  std::string message;  // for a person
  // The coordinator's hint; zero: never. Codes that pass by themselves (BUSY,
  // NO_SPACE) are retried inside the call, so this is zero in most answers.
  absl::Duration retry_after = absl::ZeroDuration();
};

using SubmitOutcome = std::variant<Receipt, Refused>;

// What became of an upload that an earlier process left in the outbox.
struct ResumedUpload {
  struct Discarded {
    std::string reason;  // for a person: damaged, or of somebody else
  };
  uint64_t round = 0;
  uint32_t attempt = 0;
  uint64_t base_version = 0;  // 0 too where nothing readable was left
  // A status, never OK: it could not be sent and stays in the outbox, for the
  // next call.
  std::variant<Receipt, Refused, Discarded, absl::Status> outcome;
};

// ---------------------------------------------------------------------------
// Progress

struct TransferProgress {
  enum class Phase { kEncode, kUpload, kDownload };
  Phase phase = Phase::kUpload;
  uint64_t done_bytes = 0;  // kUpload: durable at the coordinator
  uint64_t total_bytes = 0;
};

// Called on the thread of the call that it was given to, at most about ten
// times a second and once at the end. Must not call the Client.
using ProgressCallback = std::function<void(const TransferProgress&)>;

struct SubmitOptions {
  ProgressCallback progress;
};

// Something worth a line in a log: a lost connection, a resumed upload.
struct Event {
  enum class Severity { kInfo, kWarning };
  Severity severity = Severity::kInfo;
  std::string text;
  uint64_t round = 0;  // 0: none in particular
};

// What the coordinator said in its last greeting.
struct SessionInfo {
  std::string federation;
  std::string institution;
  uint32_t protocol = 0;
  Sha256Digest layout_digest;
  uint64_t max_update_bytes = 0;
  absl::Time certificate_not_after;
  absl::Time renew_after;  // call Renew() from then on
  std::vector<std::string> features;
};

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_TYPES_H_

#include "coordinator/app/config_table.h"

#include <limits>
#include <utility>

#include "coordinator/app/config_value.h"

namespace consilium {
namespace {

using config_internal::EmitBytes;
using config_internal::EmitDuration;
using config_internal::EmitNumber;
using config_internal::EmitText;
using config_internal::MakeKey;
using config_internal::ReadAddress;
using config_internal::ReadBool;
using config_internal::ReadBytes;
using config_internal::ReadCount;
using config_internal::ReadDuration;
using config_internal::ReadMetricName;
using config_internal::ReadName;
using config_internal::ReadNumber;
using config_internal::ReadPath;
using config_internal::ReadText;
using config_internal::WrongType;

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;
constexpr int64_t kGiB = 1024 * kMiB;
constexpr int64_t kTiB = 1024 * kGiB;
constexpr int64_t kMaxBytes = 1024 * kTiB;
constexpr absl::Duration kZero = absl::ZeroDuration();
constexpr absl::Duration kSecond = absl::Seconds(1);
constexpr absl::Duration kDay = absl::Hours(24);
const absl::Duration kYear = RoundLimits().max_wait;
const absl::Duration kForever = absl::InfiniteDuration();

// The field of a configuration, const or not.
#define AT(field) \
  [](auto& c) -> auto& { return c.field; }

template <typename At>
ConfigKey Count(const char* section, const char* name, At at, int64_t low,
                int64_t high, const char* comment) {
  return MakeKey(
      section, name, comment, at,
      [=](const ConfigValue& v) { return ReadCount(v, low, high); },
      [](int64_t v) { return std::to_string(v); });
}
template <typename At>
ConfigKey Bytes(const char* section, const char* name, At at, int64_t low,
                int64_t high, const char* comment) {
  return MakeKey(
      section, name, comment, at,
      [=](const ConfigValue& v) { return ReadBytes(v, low, high); }, EmitBytes);
}
template <typename At>
ConfigKey Span(const char* section, const char* name, At at, absl::Duration low,
               absl::Duration high, const char* comment) {
  return MakeKey(
      section, name, comment, at,
      [=](const ConfigValue& v) { return ReadDuration(v, low, high); },
      EmitDuration);
}
template <typename At>
ConfigKey Number(const char* section, const char* name, At at, double low,
                 double high, const char* comment) {
  return MakeKey(
      section, name, comment, at,
      [=](const ConfigValue& v) { return ReadNumber(v, low, high); },
      EmitNumber);
}
template <typename At>
ConfigKey Bool(const char* section, const char* name, At at,
               const char* comment) {
  return MakeKey(section, name, comment, at, ReadBool,
                 [](bool v) { return std::string(v ? "true" : "false"); });
}
template <typename At, typename Read>
ConfigKey Text(const char* section, const char* name, At at, Read read,
               const char* comment) {
  return MakeKey(section, name, comment, at, read, EmitText);
}
template <typename At>
ConfigKey Path(const char* section, const char* name, At at,
               const char* comment) {
  return Text(section, name, at, ReadPath, comment);
}
template <typename At>
ConfigKey Address(const char* section, const char* name, At at,
                  bool may_be_empty, const char* comment) {
  return Text(
      section, name, at,
      [=](const ConfigValue& v) { return ReadAddress(v, may_be_empty); },
      comment);
}
// One of several words.
template <typename At, typename Enum>
ConfigKey Choice(const char* section, const char* name, At at,
                 absl::StatusOr<Enum> (*parse)(std::string_view),
                 std::string_view (*word)(Enum), const char* comment) {
  return MakeKey(
      section, name, comment, at,
      [=](const ConfigValue& v) -> absl::StatusOr<Enum> {
        const auto* text = std::get_if<std::string>(&v);
        if (text == nullptr) return WrongType(v, "text in quotes");
        return parse(*text);
      },
      [=](Enum v) { return EmitText(word(v)); });
}

std::string_view OnOffName(bool on) { return on ? "on" : "off"; }
absl::StatusOr<bool> ParseOnOff(std::string_view word) {
  if (word == "on") return true;
  if (word == "off") return false;
  return WrongType(ConfigValue(std::string(word)), "\"on\" or \"off\"");
}

using Keys = std::vector<ConfigKey>;

void AddPlaces(Keys& k) {
  k.push_back(Text(
      "federation", "name", AT(federation.name), ReadName,
      "Name of the federation; part of every identity in its certificates."));

  const char* s = "listen";
  k.push_back(
      Address(s, "address", AT(listen.address), false,
              "Where institutions and operators connect, with mutual TLS."));
  k.push_back(Address(
      s, "enrollment_address", AT(listen.enrollment_address), true,
      "Where a new institution enrols; only the server shows a certificate. "
      "Empty: closed, for the time when nobody is to enrol."));
  k.push_back(
      Address(s, "metrics_address", AT(listen.metrics_address), true,
              "Plain HTTP for /metrics, /healthz and /readyz. It is not "
              "authenticated: keep it on a private address. Empty: off."));
  k.push_back(Address(
      s, "advertised_address", AT(listen.advertised_address), true,
      "The address institutions are told at enrolment, where it differs from "
      "the one above (name translation, load balancer). Invitations name its "
      "host, too."));

  s = "tls";
  k.push_back(
      Path(s, "server_certificate", AT(tls.server_certificate),
           "Server certificate with its chain. Relative paths count from the "
           "folder of this file."));
  k.push_back(
      Path(s, "server_key", AT(tls.server_key), "Its private key, mode 0600."));
  k.push_back(Path(s, "root_ca", AT(tls.root_ca),
                   "Root of trust for clients and server."));
  k.push_back(Path(s, "issuing_ca", AT(tls.issuing_ca),
                   "Certificate that signs institutions and operators."));
  k.push_back(Path(s, "issuing_key", AT(tls.issuing_key),
                   "Its private key, mode 0600."));
  k.push_back(Path(
      s, "signing_key", AT(tls.signing_key),
      "Ed25519 key that signs round keys, receipts and versions, mode 0600."));
  k.push_back(
      Span(s, "reload_interval", AT(tls.reload_interval), kZero, kDay,
           "How often the certificate files are looked at for changes. 0: only "
           "upon SIGHUP."));

  s = "storage";
  k.push_back(Path(s, "data_dir", AT(storage.data_dir),
                   "Database, versions and spool."));
  k.push_back(Path(
      s, "storage_key", AT(storage.storage_key),
      "Key that wraps the rounds' private keys, mode 0600. Keep it outside "
      "data_dir and outside its backups."));
  k.push_back(Bytes(s, "max_update_bytes", AT(storage.max_update_bytes), kKiB,
                    kMaxBytes, "Largest update an institution may upload."));
  k.push_back(Bytes(
      s, "max_spool_bytes", AT(storage.max_spool_bytes), 0, kMaxBytes,
      "All uploads on disk together, reservations included. 0: as much as "
      "the disk has."));
  k.push_back(Bytes(s, "min_free_bytes", AT(storage.min_free_bytes), 0,
                    kMaxBytes,
                    "Space on the disk that admission leaves alone."));
  k.push_back(Span(
      s, "spool_retention", AT(storage.spool_retention), kZero, kYear,
      "How long uploads and round keys are kept after their round has ended. "
      "Until then it can be replayed; then the key is destroyed."));
  k.push_back(Count(s, "version_retention", AT(storage.version_retention), 1,
                    1'000'000, "Newest versions whose parameters are kept."));
  k.push_back(Span(s, "retention_interval", AT(storage.retention_interval),
                   kSecond, kDay,
                   "How often the two rules above are applied."));
  k.push_back(Bytes(
      s, "spare_bytes", AT(storage.spare_bytes), 0, kMaxBytes,
      "Sealed uploads and versions past their retention are kept up to this "
      "much, to be overwritten by the next ones: faster than new files. 0: "
      "they are deleted at once."));
  k.push_back(Count(s, "reader_connections", AT(storage.reader_connections), 1,
                    64,
                    "Database connections for reading, beside one for each "
                    "of limits.max_admin_jobs."));
}

void AddRounds(Keys& k) {
  const RoundLimits limits;
  const char* s = "rounds";
  k.push_back(Count(s, "quorum", AT(rounds.quorum), 1, limits.max_members,
                    "Contributions without which a round fails."));
  k.push_back(Count(
      s, "target", AT(rounds.target), 0, limits.max_members,
      "Contributions at which a round closes without waiting for the rest. "
      "0: everybody invited."));
  k.push_back(Count(
      s, "over_selection", AT(rounds.over_selection), 0, limits.max_members,
      "Institutions invited beyond the target. Without a target all active "
      "ones are invited."));
  k.push_back(
      Span(s, "deadline", AT(rounds.deadline), kSecond, kYear,
           "From the opening of a round until uploads must have begun."));
  k.push_back(Span(
      s, "grace", AT(rounds.grace), kZero, kYear,
      "After the deadline, for uploads that have begun; also what is left at "
      "least after a restart of the coordinator."));
  k.push_back(Span(
      s, "wait_after_quorum", AT(rounds.wait_after_quorum), kZero, kForever,
      "Once the quorum is there, how long to wait for the rest at most."));
  k.push_back(Count(s, "minimum_examples", AT(rounds.minimum_examples), 1,
                    limits.max_examples,
                    "A contribution with fewer examples is refused."));
  k.push_back(
      Count(s, "minimum_group_contributors",
            AT(rounds.minimum_group_contributors), 1, limits.max_members,
            "A release group with fewer contributors keeps its value."));
  k.push_back(Number(s, "maximum_weight", AT(rounds.maximum_weight), 1.0,
                     static_cast<double>(limits.max_examples),
                     "Most examples that one contribution may claim (W_max)."));
  k.push_back(
      Number(s, "maximum_norm", AT(rounds.maximum_norm), 0.0, 1e30,
             "L2 norm above which an update is quarantined. 0: no limit."));
  k.push_back(Span(s, "fold_timeout", AT(rounds.fold_timeout), kSecond, kYear,
                   "A fold that takes longer fails the round, and so does "
                   "a disk that stays full so long once the round closed."));
  k.push_back(Count(s, "fold_attempts", AT(rounds.fold_attempts), 1, 100,
                    "How often a fold is tried that fails for a passing reason "
                    "other than a full disk."));
  k.push_back(Span(s, "fold_retry_delay", AT(rounds.fold_retry_delay),
                   absl::Milliseconds(1), absl::Hours(1),
                   "Pause before the second try; it doubles each time."));
  k.push_back(Choice(
      s, "promotion", AT(rounds.promotion), ParsePromotion, PromotionName,
      "\"after_evaluation\": a version is served once it has passed. "
      "\"immediate\": at once, while its evaluation overlaps the next round."));
  k.push_back(Span(
      s, "failure_pause", AT(failure_pause), kZero, kDay,
      "After a failed round, before a continuous schedule begins the next."));

  s = "rounds.evaluation";
  k.push_back(Bool(
      s, "enabled", AT(rounds.evaluation.enabled),
      "Institutions evaluate each candidate on their own validation data."));
  k.push_back(Count(s, "quorum", AT(rounds.evaluation.quorum), 1,
                    limits.max_members,
                    "Reports without which there is no verdict."));
  k.push_back(Span(s, "deadline", AT(rounds.evaluation.deadline), kSecond,
                   kYear, "How long to wait for reports."));
  k.push_back(Choice(
      s, "without_quorum", AT(rounds.evaluation.without_quorum),
      ParseWithoutQuorum, WithoutQuorumName,
      "What becomes of a candidate without enough reports: \"reject\" or "
      "\"promote\"."));
  k.push_back(
      Choice(s, "on_regression", AT(rounds.evaluation.on_regression),
             ParseOnRegression, OnRegressionName,
             "What to do when a version promoted at once turns out worse: "
             "\"roll_back\" or \"alert\"."));

  s = "rounds.evaluation.rule";
  k.push_back(Text(
      s, "metric", AT(rounds.evaluation.rule.metric), ReadMetricName,
      "Metric whose mean decides, such as \"loss\". Empty: every candidate "
      "passes."));
  k.push_back(Bool(s, "higher_is_better",
                   AT(rounds.evaluation.rule.higher_is_better),
                   "True for an accuracy, false for a loss."));
  k.push_back(Number(s, "tolerance", AT(rounds.evaluation.rule.tolerance), 0.0,
                     1e30, "How much worse than its base a candidate may be."));
}

void AddLimits(Keys& k) {
  const char* s = "limits";
  k.push_back(Count(s, "max_waiting_calls", AT(limits.max_waiting_calls), 1,
                    1'000'000,
                    "Institutions that wait for work at once; further ones ask "
                    "again later."));
  k.push_back(Count(s, "max_streams_per_institution",
                    AT(limits.max_streams_per_institution), 1, 1000,
                    "Uploads and downloads that one institution may have under "
                    "way, and long polls."));
  k.push_back(Count(s, "max_streams_per_connection",
                    AT(limits.max_streams_per_connection), 4, 1000,
                    "Calls that one connection may have under way; further "
                    "ones wait on the caller's side."));
  k.push_back(Count(s, "max_calls_per_institution",
                    AT(limits.max_calls_per_institution), 4, 1000,
                    "Short calls of one institution at once; further ones are "
                    "refused."));
  k.push_back(Count(
      s, "max_uploads", AT(limits.max_uploads), 1, 1'000'000,
      "Uploads in progress at once; further ones are told to come back."));
  k.push_back(Count(
      s, "max_resumes", AT(limits.max_resumes), 1, 256,
      "Interrupted uploads that are read from the disk again at once, by the "
      "ingest threads; further ones wait for their turn."));
  k.push_back(Count(
      s, "max_superseded_uploads", AT(limits.max_superseded_uploads), 1,
      1'000'000,
      "Uploads that one institution may replace by another one in a round."));
  k.push_back(Bytes(
      s, "stream_lookahead_bytes", AT(limits.stream_lookahead_bytes),
      int64_t{64} << 10, kGiB,
      "Taken in for each connection before it is asked for. More helps a fast "
      "line with a long round trip, and is memory for every upload."));
  k.push_back(Bytes(
      s, "upload_window_bytes", AT(limits.upload_window_bytes), kMiB, kGiB,
      "Bytes of one upload that an institution may have under way without an "
      "acknowledgement, as it is told when it begins."));
  k.push_back(Bytes(
      s, "frame_memory", AT(limits.frame_memory), 64 * kKiB, kGiB,
      "For one frame of each institution of a round together, so that a large "
      "cohort needs no more memory than a small one. Uploads come in the "
      "largest frames with which they fit, of 1008, 504, 252, 126 or 63 KiB; "
      "small frames cost a little speed. A round keeps the frames that it was "
      "planned with."));
  k.push_back(Bytes(
      s, "max_metadata_bytes", AT(limits.max_metadata_bytes), kKiB, 1'032'224,
      "Token counts and metrics of one contribution; they fit one chunk."));
  k.push_back(Count(s, "max_metrics", AT(limits.max_metrics), 0, 100'000,
                    "Metrics of one contribution."));
  k.push_back(Count(
      s, "max_tokens", AT(limits.max_tokens), 1, int64_t{1} << 50,
      "Most routed tokens that one contribution may claim for an expert."));
  k.push_back(Count(s, "max_layout_slots", AT(limits.max_layout_slots), 1,
                    int64_t{1} << 24, "Tensors of an adapter."));
  k.push_back(Bytes(s, "max_layout_bytes", AT(limits.max_layout_bytes), kKiB,
                    kGiB, "Text of a layout."));
  k.push_back(Bytes(s, "max_control_bytes", AT(limits.max_control_bytes),
                    64 * kKiB, 64 * kMiB,
                    "A request of an institution that is not part of a "
                    "transfer."));
  k.push_back(Count(
      s, "max_admin_jobs", AT(limits.max_admin_jobs), 1, 64,
      "Long operations of operators at once (round replay, version import and "
      "diff, contribution verify, db check and backup, audit verify); a "
      "further one is refused until one has ended. Less than "
      "workers.admin_threads."));
  k.push_back(Count(
      s, "enrollments_per_minute", AT(limits.enrollments_per_minute), 0,
      1'000'000,
      "Attempts to enrol, of all callers: anybody may reach that listener. 0: "
      "no limit."));
  k.push_back(
      Count(s, "enrollments_per_minute_and_address",
            AT(limits.enrollments_per_minute_and_address), 0, 1'000'000,
            "The same from one address (of IPv6, from one /64). 0: no limit."));
  k.push_back(
      Count(s, "renewals_per_hour", AT(limits.renewals_per_hour), 0, 1'000'000,
            "Certificates that one institution may renew. 0: no limit."));
  k.push_back(
      Span(s, "long_poll_timeout", AT(limits.long_poll_timeout), kSecond,
           absl::Minutes(10),
           "An institution that waits for work is answered after this at the "
           "latest, and asks again."));
  k.push_back(Count(
      s, "max_enrollment_connections", AT(limits.max_enrollment_connections), 1,
      10'000,
      "Connections to the listener for enrolment; further ones wait. With the "
      "three keys below it bounds what strangers can make the coordinator "
      "hold."));
  k.push_back(Count(s, "max_enrollment_connections_per_address",
                    AT(limits.max_enrollment_connections_per_address), 1,
                    10'000,
                    "The same from one address (of IPv6, from one /64); "
                    "further ones are closed."));
  k.push_back(Bytes(
      s, "max_enrollment_bytes", AT(limits.max_enrollment_bytes), 8 * kKiB,
      kMiB,
      "Most that one connection may send there, TLS included; an enrolment "
      "takes about 3 KiB."));
  k.push_back(Span(s, "enrollment_timeout", AT(limits.enrollment_timeout),
                   kSecond, absl::Hours(1),
                   "A connection there is closed after this."));
  k.push_back(Count(
      s, "max_metrics_connections", AT(limits.max_metrics_connections), 1,
      10'000,
      "Connections to the listener for metrics, which answers everybody; one "
      "more ends the one that has been open for the longest."));
  k.push_back(Bytes(s, "max_metrics_request_bytes",
                    AT(limits.max_metrics_request_bytes), kKiB, kMiB,
                    "A request there, with its headers."));
  k.push_back(Span(s, "metrics_timeout", AT(limits.metrics_timeout), kSecond,
                   absl::Hours(1), "A connection there is closed after this."));
  k.push_back(
      Span(s, "handshake_timeout", AT(limits.handshake_timeout), kSecond,
           absl::Minutes(10),
           "A connection of which the TLS handshake takes longer is closed."));
  k.push_back(Span(
      s, "upload_idle_timeout", AT(limits.upload_idle_timeout), kSecond, kDay,
      "An upload stream without a chunk (of at most 1 MiB) for this long is "
      "closed, and so is a download of which nothing is read; both can be "
      "resumed."));
  k.push_back(Span(
      s, "upload_slot_timeout", AT(limits.upload_slot_timeout), kSecond, kDay,
      "An upload without a stream for this long gives its place among "
      "max_uploads and its reserved disk space back. What has been received "
      "stays, and the upload can be resumed."));
  k.push_back(Span(s, "progress_period", AT(limits.progress_period),
                   absl::Milliseconds(100), absl::Hours(1),
                   "How often institutions report their progress."));
  k.push_back(Span(
      s, "connected_for", AT(limits.connected_for), kSecond, kDay,
      "An institution counts as connected for this long after its last call."));
}

void AddServices(Keys& k) {
  const char* s = "readiness";
  k.push_back(Span(s, "check_interval", AT(readiness.check_interval),
                   absl::Milliseconds(100), absl::Hours(1),
                   "How often /readyz looks at the disk at most."));
  k.push_back(Span(s, "engine_late_after", AT(readiness.engine_late_after),
                   kSecond, absl::Hours(1),
                   "When the engine counts as stuck."));
  k.push_back(Span(s, "write_late_after", AT(readiness.write_late_after),
                   kSecond, absl::Minutes(10),
                   "When the history counts as stuck."));

  s = "keepalive";
  k.push_back(
      Span(s, "ping_interval", AT(keepalive.ping_interval), kSecond, kDay,
           "Quiet time after which a connection is pinged, so that no NAT "
           "forgets it."));
  k.push_back(Span(s, "ping_timeout", AT(keepalive.ping_timeout), kSecond, kDay,
                   "A ping not answered for this long ends the connection."));
  k.push_back(Span(s, "minimum_client_interval",
                   AT(keepalive.minimum_client_interval), kZero, kDay,
                   "Clients that ping more often are disconnected."));

  k.push_back(Choice(
      "sealing", "mode", AT(sealing), ParseOnOff, OnOffName,
      "\"on\": chunks are encrypted to the round's key on top of TLS, so that "
      "the disk sees ciphertext only. \"off\": the spool holds plain "
      "updates."));

  s = "workers";
  k.push_back(Count(s, "fold_threads", AT(workers.fold_threads), 1, 256,
                    "Threads of a fold. The result does not depend on it."));
  k.push_back(Count(s, "ingest_threads", AT(workers.ingest_threads), 1, 256,
                    "Threads that check and store chunks."));
  k.push_back(Count(s, "sync_threads", AT(workers.sync_threads), 1, 64,
                    "Threads that make uploads durable."));
  k.push_back(Count(s, "admin_threads", AT(workers.admin_threads), 2, 256,
                    "Threads that serve operators and auditors. Institutions "
                    "have their own."));

  s = "log";
  k.push_back(Choice(s, "level", AT(log.level), ParseLogLevel, LogLevelName,
                     "\"debug\", \"info\", \"warn\" or \"error\"."));
  k.push_back(Choice(s, "format", AT(log.format), ParseLogFormat, LogFormatName,
                     "\"text\" or \"json\" (one object per line)."));
  k.push_back(
      Text(s, "file", AT(log.file), ReadText,
           "File to append to; SIGHUP opens it anew. Empty: standard error."));

  s = "certificates";
  k.push_back(Span(s, "institution_lifetime",
                   AT(certificates.institution_lifetime), absl::Hours(1),
                   10 * kYear, "Validity of an institution's certificate."));
  k.push_back(Span(s, "operator_lifetime", AT(certificates.operator_lifetime),
                   absl::Hours(1), 10 * kYear,
                   "Validity of an operator's or auditor's certificate."));
  k.push_back(Span(s, "server_lifetime", AT(certificates.server_lifetime),
                   absl::Hours(1), 10 * kYear,
                   "Validity of the server certificate."));
  k.push_back(Span(s, "renew_before", AT(certificates.renew_before), kZero,
                   10 * kYear, "Renewal is due this long before the end."));

  k.push_back(Span("enrollment", "token_lifetime",
                   AT(enrollment.token_lifetime), absl::Minutes(1), kYear,
                   "How long an enrolment token can be used, once."));
}

#undef AT

}  // namespace

const std::vector<ConfigSection>& ConfigSections() {
  static const auto* const sections = new std::vector<ConfigSection>{
      {"federation", ""},
      {"listen", "Addresses, as host:port."},
      {"tls", "Keys and certificates of this coordinator."},
      {"storage", "Disk: places, limits, retention."},
      {"rounds",
       "Rounds, where the federation's policy (`consilium federation set`) "
       "says nothing else."},
      {"rounds.evaluation", ""},
      {"rounds.evaluation.rule", ""},
      {"limits",
       "What a peer may ask for. Each is answered with an error that "
       "names it."},
      {"readiness", "What /readyz looks at."},
      {"keepalive", ""},
      {"sealing", ""},
      {"workers", ""},
      {"log", ""},
      {"certificates", ""},
      {"enrollment", ""},
  };
  return *sections;
}

const std::vector<ConfigKey>& ConfigKeys() {
  static const auto* const keys = [] {
    auto* all = new Keys();
    AddPlaces(*all);
    AddRounds(*all);
    AddLimits(*all);
    AddServices(*all);
    return all;
  }();
  return *keys;
}

std::vector<std::string*> ConfigPaths(CoordinatorConfig& c) {
  return {&c.tls.server_certificate, &c.tls.server_key,      &c.tls.root_ca,
          &c.tls.issuing_ca,         &c.tls.issuing_key,     &c.tls.signing_key,
          &c.storage.data_dir,       &c.storage.storage_key, &c.log.file};
}

}  // namespace consilium

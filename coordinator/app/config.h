// The configuration of a coordinator: every limit, timeout and path of the
// system, parsed once from TOML into one validated value. Nothing below reads
// flags or the environment.
//
// One table (config_table.cc) holds each key's name, meaning, range and place
// in these structs; parsing, defaults and the text of a new file come from it.

#ifndef CONSILIUM_COORDINATOR_APP_CONFIG_H_
#define CONSILIUM_COORDINATOR_APP_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/app/logging.h"
#include "coordinator/round/round_types.h"

namespace consilium {

// Addresses are "host:port" or "[v6]:port". Paths that are not absolute count
// from the folder of the configuration file (ResolvePaths).
struct CoordinatorConfig {
  struct Federation {
    std::string name = "federation";
    bool operator==(const Federation&) const = default;
  } federation;

  struct Listen {
    std::string address = "0.0.0.0:8443";
    std::string enrollment_address = "0.0.0.0:8444";
    std::string metrics_address = "127.0.0.1:9464";  // empty: off
    std::string advertised_address;                  // empty: `address`
    bool operator==(const Listen&) const = default;
  } listen;

  struct Tls {
    std::string server_certificate = "identity/server.pem";
    std::string server_key = "identity/server.key";
    std::string root_ca = "identity/root-ca.pem";
    std::string issuing_ca = "identity/issuing-ca.pem";
    std::string issuing_key = "identity/issuing-ca.key";
    std::string signing_key = "identity/signing.key";
    absl::Duration reload_interval = absl::Minutes(1);  // 0: SIGHUP only
    bool operator==(const Tls&) const = default;
  } tls;

  struct Storage {
    std::string data_dir = "data";
    std::string storage_key = "secrets/storage.key";
    int64_t max_update_bytes = int64_t{4} << 30;
    int64_t max_spool_bytes = 0;  // 0: the disk's space
    int64_t min_free_bytes = int64_t{1} << 30;
    absl::Duration spool_retention = absl::Hours(24 * 7);
    int64_t version_retention = 20;  // versions
    absl::Duration retention_interval = absl::Hours(1);
    int64_t spare_bytes = int64_t{4} << 30;
    int64_t reader_connections = 4;
    bool operator==(const Storage&) const = default;
  } storage;

  // Where the federation's policy says nothing.
  RoundConfig rounds;
  // After a failed round, before a continuous schedule begins the next.
  absl::Duration failure_pause = absl::Seconds(30);

  struct Limits {
    int64_t max_waiting_calls = 4096;
    int64_t max_streams_per_institution = 4;
    int64_t max_streams_per_connection = 32;
    int64_t max_calls_per_institution = 16;
    int64_t max_uploads = 256;
    int64_t max_resumes = 2;
    int64_t max_superseded_uploads = 16;
    int64_t upload_window_bytes = int64_t{8} << 20;
    int64_t frame_memory = int64_t{2} << 20;
    int64_t stream_lookahead_bytes = int64_t{512} << 10;
    int64_t max_metadata_bytes = 1'032'224;
    int64_t max_metrics = 1024;
    int64_t max_tokens = 1'000'000'000;
    int64_t max_layout_slots = int64_t{1} << 20;
    int64_t max_layout_bytes = int64_t{64} << 20;
    int64_t max_control_bytes = int64_t{256} << 10;
    int64_t max_admin_jobs = 2;
    int64_t enrollments_per_minute = 600;
    int64_t enrollments_per_minute_and_address = 30;
    int64_t max_enrollment_connections = 16;
    int64_t max_enrollment_connections_per_address = 8;
    int64_t max_enrollment_bytes = int64_t{16} << 10;
    absl::Duration enrollment_timeout = absl::Seconds(20);
    int64_t max_metrics_connections = 32;
    int64_t max_metrics_request_bytes = int64_t{8} << 10;
    absl::Duration metrics_timeout = absl::Seconds(10);
    absl::Duration handshake_timeout = absl::Seconds(20);
    int64_t renewals_per_hour = 6;  // of one institution
    absl::Duration long_poll_timeout = absl::Seconds(25);
    absl::Duration upload_idle_timeout = absl::Minutes(2);
    absl::Duration upload_slot_timeout = absl::Minutes(10);
    absl::Duration progress_period = absl::Seconds(2);
    absl::Duration connected_for = absl::Minutes(1);
    bool operator==(const Limits&) const = default;
  } limits;

  struct ReadinessLimits {
    absl::Duration check_interval = absl::Seconds(5);
    absl::Duration engine_late_after = absl::Seconds(30);
    absl::Duration write_late_after = absl::Seconds(5);
    bool operator==(const ReadinessLimits&) const = default;
  } readiness;

  struct Keepalive {
    absl::Duration ping_interval = absl::Seconds(30);
    absl::Duration ping_timeout = absl::Seconds(20);
    absl::Duration minimum_client_interval = absl::Seconds(10);
    bool operator==(const Keepalive&) const = default;
  } keepalive;

  bool sealing = true;  // [sealing] mode = "on" | "off"

  struct Workers {
    int64_t fold_threads = 2;
    int64_t ingest_threads = 2;
    int64_t sync_threads = 2;
    int64_t admin_threads = 4;
    bool operator==(const Workers&) const = default;
  } workers;

  LogOptions log;

  struct Certificates {
    absl::Duration institution_lifetime = absl::Hours(24 * 90);
    absl::Duration operator_lifetime = absl::Hours(24 * 365);
    absl::Duration server_lifetime = absl::Hours(24 * 365);
    absl::Duration renew_before = absl::Hours(24 * 30);
    bool operator==(const Certificates&) const = default;
  } certificates;

  struct Enrollment {
    absl::Duration token_lifetime = absl::Hours(72);
    bool operator==(const Enrollment&) const = default;
  } enrollment;

  bool operator==(const CoordinatorConfig&) const = default;
};

// The value of a TOML text; keys that are absent keep their default.
// Errors: INVALID_ARGUMENT  every mistake of the text (up to ten), one per
//                           line, each with its line number, key and value: not
//                           TOML, unknown key (with the nearest known one),
//                           wrong type, out of range, keys that contradict each
//                           other
absl::StatusOr<CoordinatorConfig> ParseConfig(std::string_view toml);

// Reads `path`, parses it and resolves its paths.
// Errors: as ParseConfig, with the path; NOT_FOUND; RESOURCE_EXHAUSTED above
//         1 MiB.
absl::StatusOr<CoordinatorConfig> LoadConfig(const std::string& path);

// Keys that contradict each other; ParseConfig() has done this.
// Errors: INVALID_ARGUMENT, naming the keys.
absl::Status ValidateConfig(const CoordinatorConfig& config);

// The text of a configuration file: every key with its meaning. A key whose
// value is the default is commented out, so that later defaults apply.
// ParseConfig(DefaultConfigText(c)) equals c for every valid c.
std::string DefaultConfigText(const CoordinatorConfig& config = {});

// Dotted names of the keys whose values differ, in the order of the file.
std::vector<std::string> ChangedKeys(const CoordinatorConfig& a,
                                     const CoordinatorConfig& b);
// A reload takes it, without a restart.
bool IsLiveKey(std::string_view name);

// Makes relative paths count from `dir`; empty ones stay empty.
void ResolvePaths(const std::string& dir, CoordinatorConfig& config);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_CONFIG_H_

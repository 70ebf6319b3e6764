#include "coordinator/metrics/prometheus_metrics.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "consilium/base/mutex.h"
#include "coordinator/metrics/process_stats.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace consilium {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using prometheus::Registry;

constexpr size_t kPhases = static_cast<size_t>(RoundPhase::kCancelled) + 1;
constexpr size_t kMemberStates = static_cast<size_t>(MemberState::kRemoved) + 1;

// Up to a long poll for calls, up to hours for folds and rounds.
const Histogram::BucketBoundaries kCallBuckets = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};
const Histogram::BucketBoundaries kSyncBuckets = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
const Histogram::BucketBoundaries kWorkBuckets = {
    0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600};

Family<Gauge>& Gauges(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Counter>& Counters(Registry& registry, const char* name,
                          const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
Family<Histogram>& Histograms(Registry& registry, const char* name,
                              const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

std::string Text(std::string_view view) { return std::string(view); }

double Unix(absl::Time time) {
  return static_cast<double>(absl::ToUnixSeconds(time));
}

// Counters refuse to go back; a negative size is a bug of the caller.
void Add(Counter& counter, int64_t amount) {
  counter.Increment(static_cast<double>(std::max<int64_t>(amount, 0)));
}

double Seconds(absl::Duration took) {
  return std::max(0.0, absl::ToDoubleSeconds(took));
}

}  // namespace

struct PrometheusMetrics::Impl {
  Registry registry;

  Gauge& round =
      Gauges(registry, "consilium_round", "Number of the newest round.")
          .Add({});
  Family<Gauge>& phase =
      Gauges(registry, "consilium_round_phase",
             "1 for the phase that the newest round is in, else 0.");
  std::array<Gauge*, kPhases> phases{};
  Family<Gauge>& member = Gauges(
      registry, "consilium_round_members",
      "Institutions of the newest round by state; they add up to its cohort.");
  std::array<Gauge*, kMemberStates> members{};
  Family<Gauge>& contribution =
      Gauges(registry, "consilium_contributions",
             "Contributions to the newest round by state.");
  Family<Counter>& refused =
      Counters(registry, "consilium_enrollment_connections_refused_total",
               "Connections to the enrolment port that a limit closed.");
  Family<Counter>& finished = Counters(
      registry, "consilium_rounds_finished_total", "Rounds by how they ended.");
  std::array<Counter*, kPhases> finishes{};
  Histogram& round_seconds =
      Histograms(registry, "consilium_round_seconds",
                 "From the opening of a round to its end.")
          .Add({}, kWorkBuckets);

  Histogram& fold_seconds =
      Histograms(registry, "consilium_fold_seconds", "Time of a fold.")
          .Add({}, kWorkBuckets);
  Counter& fold_bytes = Counters(registry, "consilium_fold_bytes_total",
                                 "Parameters read by folds, decoded.")
                            .Add({});
  Gauge& held_groups = Gauges(registry, "consilium_held_groups",
                              "Release groups held by the newest fold.")
                           .Add({});
  Histogram& publish_seconds =
      Histograms(registry, "consilium_publish_seconds",
                 "Digest, write and sync of a version.")
          .Add({}, kWorkBuckets);
  Counter& publish_bytes = Counters(registry, "consilium_publish_bytes_total",
                                    "Bytes of versions published.")
                               .Add({});
  Counter& quarantined =
      Counters(registry, "consilium_contributions_quarantined_total",
               "Contributions put into quarantine.")
          .Add({});

  Family<Counter>& traffic =
      Counters(registry, "consilium_payload_bytes_total",
               "Payload over the wire; in: uploads, out: downloads.");
  Counter& bytes_in = traffic.Add({{"direction", "in"}});
  Counter& bytes_out = traffic.Add({{"direction", "out"}});
  Gauge& spool_bytes = Gauges(registry, "consilium_spool_bytes",
                              "Spool on disk, reservations included.")
                           .Add({});
  Histogram& sync_seconds = Histograms(registry, "consilium_spool_sync_seconds",
                                       "Time of one sync of the spool.")
                                .Add({}, kSyncBuckets);
  Counter& synced_bytes =
      Counters(registry, "consilium_spool_synced_bytes_total",
               "Upload bytes made durable.")
          .Add({});

  Gauge& connected = Gauges(registry, "consilium_institutions_connected",
                            "Institutions connected now.")
                         .Add({});
  Gauge& uploads =
      Gauges(registry, "consilium_uploads_in_progress",
             "Uploads begun and not over, with a stream or between two.")
          .Add({});
  Family<Histogram>& rpc = Histograms(
      registry, "consilium_rpc_seconds",
      "Time of a call by method and status; long polls wait on purpose.");
  Family<Gauge>& expiry =
      Gauges(registry, "consilium_certificate_expiry_timestamp_seconds",
             "When a certificate ends, Unix time.");
  Counter& alerts = Counters(registry, "consilium_alerts_total",
                             "Events that an operator should look at.")
                        .Add({});

  Gauge& resident =
      Gauges(registry, "process_resident_memory_bytes", "Resident memory now.")
          .Add({});
  Gauge& peak = Gauges(registry, "process_resident_memory_peak_bytes",
                       "Resident memory at its highest.")
                    .Add({});
  Gauge& threads = Gauges(registry, "process_threads", "Threads.").Add({});
  Gauge& cpu = Gauges(registry, "process_cpu_seconds_used",
                      "User and system time so far.")
                   .Add({});

  // Looking a metric up by its labels hashes them all; calls are many.
  Mutex mutex;
  std::map<std::pair<std::string, std::string>, Histogram*, std::less<>> calls
      ABSL_GUARDED_BY(mutex);
  std::map<std::pair<CertificateKind, std::string>, Gauge*, std::less<>>
      expiries ABSL_GUARDED_BY(mutex);
  std::map<std::string, Gauge*> contributions ABSL_GUARDED_BY(mutex);

  Impl(std::string_view federation, std::string_view version,
       absl::Time started_at) {
    for (size_t i = 0; i < kPhases; ++i) {
      const auto p = static_cast<RoundPhase>(i);
      phases[i] = &phase.Add({{"phase", Text(RoundPhaseName(p))}});
      if (IsTerminal(p)) {
        finishes[i] = &finished.Add({{"phase", Text(RoundPhaseName(p))}});
      }
    }
    for (size_t i = 0; i < kMemberStates; ++i) {
      members[i] = &member.Add(
          {{"state", Text(MemberStateName(static_cast<MemberState>(i)))}});
    }
    Gauges(registry, "consilium_build_info", "Always 1.")
        .Add({{"federation", Text(federation)}, {"version", Text(version)}})
        .Set(1);
    Gauges(registry, "process_start_time_seconds", "Unix time.")
        .Add({})
        .Set(Unix(started_at));
  }

  Histogram& Call(std::string_view method, std::string_view code) {
    const std::pair<std::string, std::string> key(method, code);
    MutexLock lock(&mutex);
    Histogram*& found = calls[key];
    if (found == nullptr) {
      found =
          &rpc.Add({{"code", key.second}, {"method", key.first}}, kCallBuckets);
    }
    return *found;
  }
};

PrometheusMetrics::PrometheusMetrics(std::string_view federation,
                                     std::string_view version,
                                     absl::Time started_at)
    : impl_(std::make_unique<Impl>(federation, version, started_at)) {}

PrometheusMetrics::~PrometheusMetrics() = default;

std::string PrometheusMetrics::Render() {
  const ProcessStats stats = ReadProcessStats();
  impl_->resident.Set(static_cast<double>(stats.resident_bytes));
  impl_->peak.Set(static_cast<double>(stats.peak_resident_bytes));
  impl_->threads.Set(static_cast<double>(stats.threads));
  impl_->cpu.Set(absl::ToDoubleSeconds(stats.cpu));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

void PrometheusMetrics::OnRound(int64_t round, RoundPhase phase,
                                const RoundCounts& n) {
  impl_->round.Set(static_cast<double>(round));
  for (size_t i = 0; i < kPhases; ++i) {
    impl_->phases[i]->Set(i == static_cast<size_t>(phase) ? 1 : 0);
  }
  const std::array<int64_t, kMemberStates> counts = {
      n.invited,  n.training, n.uploading, n.committed,
      n.declined, n.failed,   n.missing,   n.removed};
  for (size_t i = 0; i < kMemberStates; ++i) {
    impl_->members[i]->Set(static_cast<double>(counts[i]));
  }
}

void PrometheusMetrics::OnRoundFinished(RoundPhase phase, absl::Duration took) {
  Counter* const counter = impl_->finishes[static_cast<size_t>(phase)];
  if (counter != nullptr) counter->Increment();
  impl_->round_seconds.Observe(Seconds(took));
}

void PrometheusMetrics::OnFold(absl::Duration took, int64_t bytes_read,
                               int64_t held_groups) {
  impl_->fold_seconds.Observe(Seconds(took));
  Add(impl_->fold_bytes, bytes_read);
  impl_->held_groups.Set(static_cast<double>(held_groups));
}

void PrometheusMetrics::OnPublish(absl::Duration took, int64_t bytes) {
  impl_->publish_seconds.Observe(Seconds(took));
  Add(impl_->publish_bytes, bytes);
}

void PrometheusMetrics::OnQuarantine() { impl_->quarantined.Increment(); }

void PrometheusMetrics::OnTraffic(TrafficKind kind, int64_t bytes) {
  Add(kind == TrafficKind::kUpload ? impl_->bytes_in : impl_->bytes_out, bytes);
}

void PrometheusMetrics::OnSpoolBytes(int64_t bytes) {
  impl_->spool_bytes.Set(static_cast<double>(bytes));
}

void PrometheusMetrics::OnSpoolSync(absl::Duration took, int64_t bytes) {
  impl_->sync_seconds.Observe(Seconds(took));
  Add(impl_->synced_bytes, bytes);
}

void PrometheusMetrics::OnConnectedInstitutions(int64_t count) {
  impl_->connected.Set(static_cast<double>(count));
}

void PrometheusMetrics::OnUploadsInProgress(int64_t count) {
  impl_->uploads.Set(static_cast<double>(count));
}

void PrometheusMetrics::OnRpc(std::string_view method, std::string_view code,
                              absl::Duration took) {
  impl_->Call(method, code).Observe(Seconds(took));
}

void PrometheusMetrics::SetContributions(
    const std::map<std::string, int64_t>& by_state) {
  MutexLock lock(&impl_->mutex);
  for (const auto& [state, gauge] : impl_->contributions) gauge->Set(0);
  for (const auto& [state, count] : by_state) {
    Gauge*& gauge = impl_->contributions[state];
    if (gauge == nullptr) gauge = &impl_->contribution.Add({{"state", state}});
    gauge->Set(static_cast<double>(count));
  }
}

void PrometheusMetrics::SetRefusedConnections(
    const std::map<std::string, int64_t>& by_reason) {
  MutexLock lock(&impl_->mutex);
  for (const auto& [reason, count] : by_reason) {
    // The same labels give the same counter.
    Counter& counter = impl_->refused.Add({{"reason", reason}});
    Add(counter, count - static_cast<int64_t>(counter.Value()));
  }
}

void PrometheusMetrics::OnCertificateExpiry(CertificateKind kind,
                                            std::string_view subject,
                                            absl::Time not_after) {
  const std::pair key(kind, Text(subject));
  MutexLock lock(&impl_->mutex);
  const auto it = impl_->expiries.find(key);
  if (not_after == absl::InfinitePast()) {
    if (it == impl_->expiries.end()) return;
    impl_->expiry.Remove(it->second);
    impl_->expiries.erase(it);
    return;
  }
  Gauge* gauge =
      it != impl_->expiries.end()
          ? it->second
          : &impl_->expiry.Add(
                {{"kind", kind == CertificateKind::kOwn ? "own" : "member"},
                 {"subject", key.second}});
  impl_->expiries[key] = gauge;
  gauge->Set(Unix(not_after));
}

void PrometheusMetrics::OnAlert() { impl_->alerts.Increment(); }

}  // namespace consilium

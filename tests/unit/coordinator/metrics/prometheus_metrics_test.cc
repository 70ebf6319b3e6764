#include "coordinator/metrics/prometheus_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kOwn = CertificateKind::kOwn;
constexpr auto kMember = CertificateKind::kMember;

class PrometheusMetricsTest : public ::testing::Test {
 protected:
  bool Has(const std::string& line) {
    return ("\n" + metrics_.Render()).find("\n" + line + "\n") !=
           std::string::npos;
  }
  PrometheusMetrics metrics_{"cards", "0.1.0", absl::FromUnixSeconds(1000)};
};

TEST_F(PrometheusMetricsTest, TheNewestRoundShowsItsPhaseAndItsMembers) {
  RoundCounts counts;
  counts.cohort = 4;
  counts.training = 1;
  counts.committed = 2;
  counts.failed = 1;
  metrics_.OnRound(12, RoundPhase::kCollecting, counts);
  EXPECT_TRUE(Has("consilium_round 12"));
  EXPECT_TRUE(Has("consilium_round_phase{phase=\"collecting\"} 1"));
  EXPECT_TRUE(Has("consilium_round_phase{phase=\"open\"} 0"));
  EXPECT_TRUE(Has("consilium_round_members{state=\"committed\"} 2"));
  EXPECT_TRUE(Has("consilium_round_members{state=\"failed\"} 1"));
  EXPECT_TRUE(Has("consilium_round_members{state=\"invited\"} 0"));
  metrics_.OnRound(12, RoundPhase::kAggregating, counts);
  EXPECT_TRUE(Has("consilium_round_phase{phase=\"collecting\"} 0"));
  EXPECT_TRUE(Has("consilium_round_phase{phase=\"aggregating\"} 1"));
}

TEST_F(PrometheusMetricsTest, RoundsAreCountedByTheirEnd) {
  metrics_.OnRoundFinished(RoundPhase::kPromoted, absl::Seconds(3));
  metrics_.OnRoundFinished(RoundPhase::kPromoted, absl::Seconds(30));
  metrics_.OnRoundFinished(RoundPhase::kFailed, absl::Minutes(10));
  EXPECT_TRUE(Has("consilium_rounds_finished_total{phase=\"promoted\"} 2"));
  EXPECT_TRUE(Has("consilium_rounds_finished_total{phase=\"failed\"} 1"));
  EXPECT_TRUE(Has("consilium_rounds_finished_total{phase=\"rejected\"} 0"));
  EXPECT_TRUE(Has("consilium_round_seconds_count 3"));
  EXPECT_TRUE(Has("consilium_round_seconds_bucket{le=\"5\"} 1"));
}

TEST_F(PrometheusMetricsTest, WorkAndBytesAddUp) {
  metrics_.OnFold(absl::Milliseconds(20), 1000, 3);
  metrics_.OnFold(absl::Milliseconds(20), 500, 1);
  metrics_.OnPublish(absl::Milliseconds(70), 4096);
  metrics_.OnTraffic(TrafficKind::kUpload, 100);
  metrics_.OnTraffic(TrafficKind::kUpload, 50);
  metrics_.OnTraffic(TrafficKind::kDownload, 7);
  metrics_.OnSpoolBytes(12345);
  metrics_.OnSpoolSync(absl::Milliseconds(2), 150);
  metrics_.OnQuarantine();
  metrics_.OnAlert();
  metrics_.OnConnectedInstitutions(3);
  metrics_.OnUploadsInProgress(2);
  EXPECT_TRUE(Has("consilium_fold_seconds_count 2"));
  EXPECT_TRUE(Has("consilium_fold_bytes_total 1500"));
  EXPECT_TRUE(Has("consilium_held_groups 1"));
  EXPECT_TRUE(Has("consilium_publish_bytes_total 4096"));
  EXPECT_TRUE(Has("consilium_payload_bytes_total{direction=\"in\"} 150"));
  EXPECT_TRUE(Has("consilium_payload_bytes_total{direction=\"out\"} 7"));
  EXPECT_TRUE(Has("consilium_spool_bytes 12345"));
  EXPECT_TRUE(Has("consilium_spool_synced_bytes_total 150"));
  EXPECT_TRUE(Has("consilium_contributions_quarantined_total 1"));
  EXPECT_TRUE(Has("consilium_alerts_total 1"));
  EXPECT_TRUE(Has("consilium_institutions_connected 3"));
  EXPECT_TRUE(Has("consilium_uploads_in_progress 2"));
}

TEST_F(PrometheusMetricsTest, CallsAreTimedByMethodAndStatus) {
  metrics_.OnRpc("BeginUpload", "OK", absl::Milliseconds(3));
  metrics_.OnRpc("BeginUpload", "OK", absl::Milliseconds(700));
  metrics_.OnRpc("BeginUpload", "NOT_FOUND", -absl::Seconds(1));
  EXPECT_TRUE(
      Has("consilium_rpc_seconds_count{code=\"OK\",method=\"BeginUpload\"} 2"));
  EXPECT_TRUE(
      Has("consilium_rpc_seconds_bucket{code=\"OK\","
          "method=\"BeginUpload\",le=\"0.5\"} 1"));
  EXPECT_TRUE(
      Has("consilium_rpc_seconds_sum{code=\"NOT_FOUND\","
          "method=\"BeginUpload\"} 0"));
}

TEST_F(PrometheusMetricsTest, CertificatesComeAndGo) {
  metrics_.OnCertificateExpiry(kMember, "bank-a", absl::FromUnixSeconds(2000));
  metrics_.OnCertificateExpiry(kMember, "bank-a", absl::FromUnixSeconds(3000));
  EXPECT_TRUE(
      Has("consilium_certificate_expiry_timestamp_seconds{"
          "kind=\"member\",subject=\"bank-a\"} 3000"));
  metrics_.OnCertificateExpiry(kMember, "bank-a", absl::InfinitePast());
  metrics_.OnCertificateExpiry(kMember, "bank-b", absl::InfinitePast());
  EXPECT_THAT(metrics_.Render(), Not(HasSubstr("subject=")));
}

// Anybody may be called so.
TEST_F(PrometheusMetricsTest, AMemberNamedServerIsNotTheServer) {
  metrics_.OnCertificateExpiry(kOwn, "server", absl::FromUnixSeconds(5000));
  metrics_.OnCertificateExpiry(kMember, "server", absl::FromUnixSeconds(2000));
  const std::string name = "consilium_certificate_expiry_timestamp_seconds";
  const std::string own = name + "{kind=\"own\",subject=\"server\"} 5000";
  EXPECT_TRUE(Has(own));
  EXPECT_TRUE(Has(name + "{kind=\"member\",subject=\"server\"} 2000"));
  metrics_.OnCertificateExpiry(kMember, "server", absl::InfinitePast());
  EXPECT_TRUE(Has(own));
  EXPECT_THAT(metrics_.Render(), Not(HasSubstr("kind=\"member\"")));
}

TEST_F(PrometheusMetricsTest, ContributionsAreShownByState) {
  metrics_.SetContributions({{"committed", 2}, {"uploading", 1}});
  EXPECT_TRUE(Has("consilium_contributions{state=\"committed\"} 2"));
  EXPECT_TRUE(Has("consilium_contributions{state=\"uploading\"} 1"));
  metrics_.SetContributions({{"folded", 3}});
  EXPECT_TRUE(Has("consilium_contributions{state=\"committed\"} 0"));
  EXPECT_TRUE(Has("consilium_contributions{state=\"folded\"} 3"));
}

TEST_F(PrometheusMetricsTest, RefusedConnectionsOnlyGrow) {
  const std::string name = "consilium_enrollment_connections_refused_total";
  metrics_.SetRefusedConnections({{"too_old", 3}});
  EXPECT_TRUE(Has(name + "{reason=\"too_old\"} 3"));
  metrics_.SetRefusedConnections({{"too_old", 5}});
  metrics_.SetRefusedConnections({{"too_old", 4}});
  EXPECT_TRUE(Has(name + "{reason=\"too_old\"} 5"));
}

TEST_F(PrometheusMetricsTest, TheProcessIsDescribed) {
  EXPECT_TRUE(
      Has("consilium_build_info{federation=\"cards\",version=\"0.1.0\"} 1"));
  EXPECT_TRUE(Has("process_start_time_seconds 1000"));
  EXPECT_FALSE(Has("process_resident_memory_bytes 0"));
  EXPECT_FALSE(Has("process_resident_memory_peak_bytes 0"));
}

TEST_F(PrometheusMetricsTest, TheReadmeListsEveryMetric) {
  metrics_.OnRpc("A", "OK", absl::ZeroDuration());
  metrics_.OnCertificateExpiry(kMember, "bank-a", absl::UnixEpoch());
  metrics_.SetContributions({{"folded", 1}});
  metrics_.SetRefusedConnections({{"too_old", 1}});
  std::ifstream file(CONSILIUM_METRICS_README);
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  std::istringstream text(metrics_.Render());
  int count = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.rfind("# TYPE ", 0) != 0) continue;
    const std::string name = line.substr(7, line.find(' ', 7) - 7);
    EXPECT_THAT(readme, HasSubstr("| `" + name + "` |"));
    ++count;
  }
  size_t rows = 0;
  for (size_t at = 0; (at = readme.find("\n| `", at)) != std::string::npos;
       ++at) {
    ++rows;
  }
  EXPECT_EQ(rows, count) << "a metric that is no more";
}

TEST_F(PrometheusMetricsTest, ThreadsMayReportAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        metrics_.OnTraffic(TrafficKind::kUpload, 2);
        metrics_.OnRpc(t % 2 == 0 ? "A" : "B", "OK", absl::Milliseconds(i));
        if (i % 100 == 0) metrics_.Render();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(Has("consilium_payload_bytes_total{direction=\"in\"} 4000"));
  EXPECT_TRUE(
      Has("consilium_rpc_seconds_count{code=\"OK\",method=\"A\"} 1000"));
}

}  // namespace
}  // namespace consilium

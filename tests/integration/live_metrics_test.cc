// What /metrics, /healthz and /readyz say while a round runs.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <sstream>
#include <string>

#include "consilium/base/strings.h"
#include "tests/integration/raw_client.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The whole answer, or "" when nobody listens.
std::string Get(int port, const std::string& path) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request =
      Cat("GET ", path, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::string answer;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 &&
      ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(n));
    }
  }
  ::close(fd);
  return answer;
}

// The value of one line, by its name and labels; NaN when there is none.
double Value(TestFederation& federation, const std::string& name) {
  std::istringstream lines(Get(federation.server().metrics_port(), "/metrics"));
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.rfind(' ');
    if (space == name.size() && line.compare(0, space, name) == 0) {
      return std::stod(line.substr(space + 1));
    }
  }
  return std::nan("");
}

double Phase(TestFederation& federation, const std::string& phase) {
  return Value(federation, Cat("consilium_round_phase{phase=\"", phase, "\"}"));
}
double Members(TestFederation& federation, const std::string& state) {
  return Value(federation,
               Cat("consilium_round_members{state=\"", state, "\"}"));
}
double Contributions(TestFederation& federation, const std::string& state) {
  return Value(federation,
               Cat("consilium_contributions{state=\"", state, "\"}"));
}
double Expiry(TestFederation& federation, const std::string& subject,
              const std::string& kind = "own") {
  return Value(federation,
               Cat("consilium_certificate_expiry_timestamp_seconds{kind=\"",
                   kind, "\",subject=\"", subject, "\"}"));
}

// From BeginUpload on, not only while chunks flow.
TEST(LiveMetricsTest, AnUploadCountsWithoutAStreamToo) {
  TimedFederation f({}, {"bank-a"});
  const uint64_t id = f->StartRound({{"quorum", "1"}});
  RawClient client(*f, "bank-a");
  const RawUpload upload = client.Make(client.Task(), {"bank-a", 1, 10});
  EXPECT_EQ(Value(*f, "consilium_uploads_in_progress"), 0);
  client.ExpectBegins(upload);
  EXPECT_EQ(Value(*f, "consilium_uploads_in_progress"), 1);
  client.SendAll(upload);
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_EQ(Value(*f, "consilium_uploads_in_progress"), 0);
}

TEST(LiveMetricsTest, TheyFollowARound) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  EXPECT_EQ(Value(*f, "consilium_round"), 0);
  const uint64_t id = f->StartRound();
  EXPECT_EQ(Value(*f, "consilium_round"), 1);
  EXPECT_EQ(Phase(*f, "open"), 1);
  EXPECT_EQ(Members(*f, "invited"), 2);
  Contribute(f["bank-a"], 1);
  HeldSubmit held(f["bank-b"], WaitForTask(f["bank-b"]), 3, 100);
  EXPECT_EQ(Phase(*f, "collecting"), 1);
  EXPECT_EQ(Phase(*f, "open"), 0);
  EXPECT_EQ(Members(*f, "committed"), 1);
  EXPECT_EQ(Members(*f, "uploading"), 1);
  EXPECT_EQ(Contributions(*f, "committed"), 1);
  EXPECT_EQ(Contributions(*f, "uploading"), 1);
  EXPECT_EQ(Value(*f, "consilium_uploads_in_progress"), 1);
  const double sent =
      Value(*f, "consilium_payload_bytes_total{direction=\"in\"}");
  EXPECT_GE(sent, 2 * 4.0 * static_cast<double>(f->layout().total_elements()));
  f.Advance(absl::Seconds(5));  // gauges
  EXPECT_GE(Value(*f, "consilium_spool_bytes"), sent);
  EXPECT_EQ(Value(*f, "consilium_institutions_connected"), 2);
  ExpectReceipt(held.Finish());
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_EQ(Phase(*f, "promoted"), 1);
  EXPECT_EQ(Contributions(*f, "folded"), 2);
  EXPECT_EQ(Contributions(*f, "uploading"), 0);
  EXPECT_EQ(Value(*f,
                  "consilium_enrollment_connections_refused_total{reason="
                  "\"too_many\"}"),
            0);
  EXPECT_EQ(Value(*f, "consilium_uploads_in_progress"), 0);
  EXPECT_EQ(Value(*f, "consilium_rounds_finished_total{phase=\"promoted\"}"),
            1);
  EXPECT_EQ(Value(*f, "consilium_fold_seconds_count"), 1);
  EXPECT_EQ(Value(*f, "consilium_fold_bytes_total"),
            2 * 4.0 * static_cast<double>(f->layout().total_elements()));
  EXPECT_EQ(Value(*f, "consilium_held_groups"), 0);
  EXPECT_EQ(Value(*f,
                  "consilium_rpc_seconds_count{code=\"OK\",method="
                  "\"CommitUpload\"}"),
            2);
  EXPECT_GT(Value(*f, "process_resident_memory_bytes"), 1e6);
  const double out =
      Value(*f, "consilium_payload_bytes_total{direction=\"out\"}");
  f->CurrentParameters(f["bank-a"]);
  EXPECT_GE(Value(*f, "consilium_payload_bytes_total{direction=\"out\"}"),
            out + 4.0 * static_cast<double>(f->layout().total_elements()));
}

TEST(LiveMetricsTest, TheyKnowWhatWasBeforeARestart) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  f->StartRound();
  const double until = Expiry(*f, "bank-a", "member");
  EXPECT_NEAR(until,
              static_cast<double>(absl::ToUnixSeconds(
                  f["bank-a"].info().certificate_not_after)),
              1);
  f->Restart();
  EXPECT_EQ(Value(*f, "consilium_round"), 1);
  EXPECT_EQ(Phase(*f, "open"), 1);
  EXPECT_EQ(Expiry(*f, "bank-a", "member"), until);
  EXPECT_GT(Expiry(*f, "server"), until);
  EXPECT_GT(Expiry(*f, "issuing-ca"), Expiry(*f, "server"));
  f.Advance(absl::Seconds(7));
  ASSERT_OK(f["bank-a"].Renew());
  EXPECT_NEAR(Expiry(*f, "bank-a", "member"), until + 7, 2);
  ASSERT_OK(f->SetState("bank-a", v1::SetInstitutionStateRequest::REVOKE, ""));
  EXPECT_TRUE(std::isnan(Expiry(*f, "bank-a", "member")));
}

// While a version is judged, the round that trains on it is the newest.
TEST(LiveMetricsTest, TheNewestRoundIsShown) {
  TimedFederation f({{"promotion", "immediate"},
                     {"evaluation.enabled", "true"},
                     {"evaluation.quorum", "2"}},
                    {"bank-a", "bank-b"});
  const uint64_t judged = f->StartRound();
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 1);
  ASSERT_EQ(f->WaitForPhase(judged, "evaluating").phase(), "evaluating");
  f->StartRound();
  Evaluate(f["bank-a"], 1, {{"loss", 1}});
  EXPECT_EQ(Value(*f, "consilium_round"), 2);
  EXPECT_EQ(Phase(*f, "open"), 1);
  EXPECT_EQ(Phase(*f, "evaluating"), 0);
}

TEST(LiveMetricsTest, HealthAndReadiness) {
  TestFederation federation;
  const int port = federation.server().metrics_port();
  EXPECT_THAT(Get(port, "/healthz"), HasSubstr(" 200 "));
  EXPECT_THAT(Get(port, "/readyz"), HasSubstr(" 200 "));
  EXPECT_THAT(Get(port, "/metrics"),
              HasSubstr("consilium_build_info{federation=\"cards\""));
  federation.Stop();
  EXPECT_EQ(Get(port, "/readyz"), "");
  federation.StartAgain();
  EXPECT_THAT(Get(port, "/readyz"), HasSubstr(" 200 "));
}

TEST(LiveMetricsTest, CertificatesThatEndAreToldInTime) {
  TimedFederation f({}, {});
  const int port = f->server().metrics_port();
  EXPECT_THAT(Get(port, "/readyz"), Not(HasSubstr("warning: ")));
  f.Advance(absl::Hours(24 * 340));
  EXPECT_THAT(Get(port, "/readyz"),
              AllOf(HasSubstr(" 200 "),
                    HasSubstr("warning: the server certificate ends "),
                    HasSubstr("consilium cert renew --server")));
  f.Advance(absl::Hours(24 * 30));
  EXPECT_THAT(
      Get(port, "/readyz"),
      AllOf(HasSubstr(" 503 "), HasSubstr("the server certificate ended"),
            HasSubstr("--offline DIR cert renew --server")));
  for (const char* subject : {"server", "issuing-ca", "root-ca"}) {
    EXPECT_THAT(
        Get(port, "/metrics"),
        HasSubstr(Cat("consilium_certificate_expiry_timestamp_seconds{kind="
                      "\"own\",subject=\"",
                      subject, "\"}")));
  }
}

}  // namespace
}  // namespace consilium

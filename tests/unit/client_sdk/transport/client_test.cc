// Client over real gRPC and mutual TLS.

#include "consilium/client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "consilium/base/bytes.h"
#include "consilium/secure/sha256.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client_sdk/transport/grpc_coordinator.h"
#include "tests/unit/secure/net_support.h"

namespace consilium::client::internal {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

UpdateSource Constant(float value) {
  UpdateSource source;
  source.report.examples = 100;
  source.fill = [value](std::string_view, int64_t, std::span<float> out) {
    std::fill(out.begin(), out.end(), value);
    return absl::OkStatus();
  };
  return source;
}

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    coordinator_.WriteIdentity(directory_.path(),
                               coordinator_.pki.Peer("bank-a"));
    options_ = coordinator_.Options(directory_.path());
    options_.observer = [this](const Event& event) {
      if (event.severity == Event::Severity::kWarning) ++warnings_;
    };
  }

  absl::StatusOr<TrainTask> Task(Client& client) {
    CONSILIUM_ASSIGN_OR_RETURN(Work work,
                               client.WaitForWork(absl::Seconds(10)));
    if (auto* task = std::get_if<TrainTask>(&work)) return *std::move(task);
    return absl::FailedPreconditionError("no task to train");
  }

  GrpcCoordinator coordinator_;
  TempDir directory_;
  ClientOptions options_;
  std::atomic<int> warnings_{0};
};

TEST_F(ClientTest, TakesPartInARound) {
  coordinator_.far.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  EXPECT_EQ(client->info().institution, "bank-a");
  EXPECT_EQ(client->layout()->slots().size(), 4u);
  ASSERT_OK_AND_ASSIGN(const TrainTask task, Task(*client));
  EXPECT_EQ(task.parameters.at("epochs"), "2");
  ASSERT_OK_AND_ASSIGN(const SubmitOutcome outcome,
                       client->Submit(task, Constant(0.5f)));
  const std::string payload = coordinator_.far.CommittedPayload(1);
  EXPECT_EQ(std::get<Receipt>(outcome).payload_digest, Sha256(payload));
  ASSERT_OK_AND_ASSIGN(const bool go_on,
                       client->ReportProgress(task, 0.5, "halfway"));
  EXPECT_FALSE(go_on);
  EXPECT_OK(client->Decline(task, "enough"));
  EXPECT_EQ(warnings_, 1);  // the round goes on without it
}

TEST_F(ClientTest, EvaluatesACandidate) {
  const Version candidate =
      PublishVersion(coordinator_.far, directory_ / "scratch", 2, 0.25f);
  EvaluateOffer offer;
  offer.task.round = 1;
  offer.task.attempt = 1;
  offer.task.candidate = candidate;
  offer.signature = coordinator_.far.Sign(
      {.federation = "cards",
       .version = {candidate.number, candidate.digest, candidate.bytes},
       .layout_digest = coordinator_.far.layout_digest()});
  coordinator_.far.OfferEvaluation(offer);
  coordinator_.far.cuts() = {5'000, 1'000'000};

  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  ASSERT_OK_AND_ASSIGN(Work work, client->WaitForWork(absl::Seconds(10)));
  const auto& task = std::get<EvaluateTask>(work);
  EXPECT_EQ(task.candidate, candidate);
  ASSERT_OK_AND_ASSIGN(const Parameters parameters,
                       client->OpenVersion(task.candidate));
  ASSERT_OK_AND_ASSIGN(const auto head, parameters.Tensor("head"));
  EXPECT_THAT(head, SizeIs(15));
  EXPECT_EQ(head[7], 0.25f);
  EXPECT_THAT(parameters.Shape("head"),
              IsOkAndHolds(std::vector<int64_t>{3, 5}));
  EXPECT_THAT(parameters.Names(), SizeIs(4));
  ASSERT_OK_AND_ASSIGN(const auto refused,
                       client->ReportEvaluation(task, 30, {{"accuracy", 0.9}}));
  EXPECT_FALSE(refused.has_value());
}

// The server is torn down in the middle of an upload and comes back on the
// same port.
TEST_F(ClientTest, SurvivesARestartInTheMiddleOfAnUpload) {
  coordinator_.far.set_ack_every(1);
  coordinator_.far.set_window(1);  // chunk by chunk, so that there is a middle
  coordinator_.far.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  ASSERT_OK_AND_ASSIGN(const TrainTask task, Task(*client));
  SubmitOptions submit;
  bool restarted = false;
  submit.progress = [&](const TransferProgress& progress) {
    if (progress.phase != TransferProgress::Phase::kUpload || restarted ||
        progress.done_bytes == 0 ||
        progress.done_bytes == progress.total_bytes) {
      return;
    }
    restarted = true;
    coordinator_.Stop();
    coordinator_.Start();
  };
  ASSERT_OK(client->Submit(task, Constant(0.5f), submit));
  EXPECT_TRUE(restarted);
  EXPECT_GT(warnings_, 0);
  EXPECT_EQ(coordinator_.far.commits(1), 1);
  EXPECT_EQ(coordinator_.far.uploads_seen(), 1u);
  EXPECT_FALSE(coordinator_.far.NonceReused());
}

TEST_F(ClientTest, EveryFaultOnTheWireIsRetried) {
  for (int k = 1; k <= 9; ++k) {
    for (const Fault fault :
         {Fault::kRequestLost, Fault::kReplyLost, Fault::kRestart}) {
      const auto round =
          static_cast<uint64_t>(10 * k) + static_cast<uint64_t>(fault);
      coordinator_.far.OpenRound(round);
      ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
      ASSERT_OK_AND_ASSIGN(const TrainTask task, Task(*client));
      coordinator_.far.FailAt(k, fault);
      ASSERT_OK(client->Submit(task, Constant(0.5f)));
      EXPECT_EQ(coordinator_.far.commits(round), 1);
      EXPECT_FALSE(coordinator_.far.NonceReused());
    }
  }
}

TEST_F(ClientTest, RenewsItsCertificate) {
  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  const std::string pem_path = directory_ / "client.pem";
  const std::string before =
      Must(ReadWholeFile(PosixFileSystem(), pem_path, 1 << 20));
  ASSERT_OK(client->Renew());
  EXPECT_NE(Must(ReadWholeFile(PosixFileSystem(), pem_path, 1 << 20)), before);
  EXPECT_FALSE(PosixFileSystem()->Exists(directory_ / "client.key.next"));
  EXPECT_FALSE(PosixFileSystem()->Exists(directory_ / "client.pem.next"));
  ASSERT_OK(client->WaitForWork(absl::ZeroDuration()));
  client.reset();
  ASSERT_OK(Client::Connect(options_));
}

TEST_F(ClientTest, GoesThroughAConnectProxy) {
  ConnectProxy proxy(static_cast<uint16_t>(coordinator_.port()));
  options_.coordinator = "coordinator.example:7443";
  options_.proxy = proxy.address("user:secret").Url();
  coordinator_.far.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  ASSERT_OK_AND_ASSIGN(const TrainTask task, Task(*client));
  ASSERT_OK(client->Submit(task, Constant(0.5f)));
  ASSERT_FALSE(proxy.heads().empty());
  EXPECT_THAT(proxy.heads()[0], HasSubstr("CONNECT coordinator.example:7443"));
}

TEST_F(ClientTest, ADifferentCoordinatorIsAnErrorThatIsNotRetried) {
  const GrpcCoordinator other;  // same names, another root CA
  options_.coordinator = other.address();
  EXPECT_THAT(
      Client::Connect(options_),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("root-ca.pem")));
  options_.coordinator = coordinator_.address();
  options_.server_name = "another.example";
  EXPECT_THAT(Client::Connect(options_),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(ClientTest, ConnectSaysWhatIsWrong) {
  options_.retry.give_up_after = absl::Milliseconds(30);
  ClientOptions options = options_;
  options.coordinator = Cat("localhost:", ClosedPort());
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("retry.give_up_after")));
  options = options_;
  options.coordinator = "localhost";
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options = options_;
  options.identity_dir = directory_ / "nowhere";
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("enroll")));
  options = options_;
  options.retry.multiplier = 0.5;
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("retry.multiplier")));

  ASSERT_OK_AND_ASSIGN(auto first, Client::Connect(options_));
  EXPECT_THAT(Client::Connect(options_),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ClientTest, AnExpiredCertificateIsSaidAtOnce) {
  coordinator_.WriteIdentity(
      directory_.path(),
      coordinator_.pki.Peer(coordinator_.pki.Name("bank-a"), absl::Hours(1),
                            coordinator_.pki.now - absl::Hours(5)));
  EXPECT_THAT(
      Client::Connect(options_),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("expired")));
}

TEST_F(ClientTest, CancellingEndsALongPoll) {
  ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options_));
  CancelSource cancel;
  std::thread canceller([&] { cancel.Cancel("enough"); });
  EXPECT_THAT(client->WaitForWork(absl::Hours(1), cancel.token()),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("enough")));
  canceller.join();
}

}  // namespace
}  // namespace consilium::client::internal

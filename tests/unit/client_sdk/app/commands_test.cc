// The subcommands against a coordinator on loopback.

#include "client_sdk/app/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client_sdk/session/identity.h"
#include "consilium/base/bytes.h"
#include "consilium/client/client.h"
#include "consilium/secure/key_file.h"
#include "consilium/secure/token.h"
#include "nlohmann/json.hpp"
#include "tests/support/status_matchers.h"
#include "tests/unit/client_sdk/transport/grpc_coordinator.h"

namespace consilium::client::internal {
namespace {

using ::testing::HasSubstr;

class CommandsTest : public ::testing::Test {
 protected:
  CommandsTest() {
    coordinator_.WriteIdentity(directory_.path(),
                               coordinator_.pki.Peer("bank-a"));
    config_.client = coordinator_.Options(directory_.path());
  }

  GrpcCoordinator coordinator_;
  TempDir directory_;
  ClientConfig config_;
  std::ostringstream out_;
};

TEST_F(CommandsTest, StatusShowsIdentityConnectionAndOutbox) {
  // An upload that never got through waits in the outbox.
  coordinator_.far.OpenRound(4);
  {
    ClientOptions options = config_.client;
    options.retry.give_up_after = absl::Nanoseconds(1);
    ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(options));
    ASSERT_OK_AND_ASSIGN(Work work, client->WaitForWork(absl::Seconds(10)));
    coordinator_.far.SetUnreachable(true);
    UpdateSource source;
    source.report.examples = 10;
    source.fill = [](std::string_view, int64_t, std::span<float> out) {
      std::fill(out.begin(), out.end(), 1.0f);
      return absl::OkStatus();
    };
    EXPECT_FALSE(client->Submit(std::get<TrainTask>(work), source).ok());
    coordinator_.far.SetUnreachable(false);

    // Beside a client that holds the lock.
    ASSERT_OK(StatusCommand(config_, /*json=*/false, out_, {}));
  }
  EXPECT_THAT(out_.str(), HasSubstr("consilium://cards/institution/bank-a"));
  EXPECT_THAT(out_.str(), HasSubstr(", connected"));
  EXPECT_THAT(out_.str(), HasSubstr("round 4, 4.2 MiB waiting"));

  out_.str("");
  ASSERT_OK(StatusCommand(config_, /*json=*/true, out_, {}));
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["institution"], "bank-a");
  EXPECT_EQ(json["connected"], true);
  EXPECT_EQ(json["outbox"][0]["round"], 4);
}

TEST_F(CommandsTest, StatusOfASilentCoordinatorStillShowsTheRest) {
  coordinator_.Stop();
  EXPECT_THAT(StatusCommand(config_, /*json=*/true, out_, {}),
              StatusIs(absl::StatusCode::kUnavailable));
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["connected"], false);
  EXPECT_EQ(json["institution"], "bank-a");
}

TEST_F(CommandsTest, ReceiptsAreShownAndChecked) {
  ASSERT_OK(ReceiptsCommand(config_, /*json=*/false, out_));
  EXPECT_THAT(out_.str(), HasSubstr("no receipts in "));
  coordinator_.far.OpenRound(4);
  {
    ASSERT_OK_AND_ASSIGN(auto client, Client::Connect(config_.client));
    ASSERT_OK_AND_ASSIGN(Work work, client->WaitForWork(absl::Seconds(10)));
    UpdateSource source;
    source.report.examples = 10;
    source.fill = [](std::string_view, int64_t, std::span<float> out) {
      std::fill(out.begin(), out.end(), 1.0f);
      return absl::OkStatus();
    };
    ASSERT_OK(client->Submit(std::get<TrainTask>(work), source).status());
  }
  coordinator_.Stop();  // nothing of this needs it
  out_.str("");
  ASSERT_OK(ReceiptsCommand(config_, /*json=*/false, out_));
  EXPECT_THAT(out_.str(), HasSubstr("round 4, "));
  EXPECT_THAT(out_.str(), HasSubstr("SHA-256 "));
  out_.str("");
  ASSERT_OK(ReceiptsCommand(config_, /*json=*/true, out_));
  const auto json = nlohmann::json::parse(out_.str());
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["round"], 4);
  EXPECT_EQ(json[0]["institution"], "bank-a");
  EXPECT_EQ(json[0]["valid"], true);

  // One that somebody has improved upon.
  const std::string path = json[0]["file"];
  ASSERT_OK_AND_ASSIGN(std::string text,
                       ReadWholeFile(PosixFileSystem(), path, 1 << 20));
  text.replace(text.find("round = 4"), 9, "round = 5");
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), path, AsBytes(text)));
  out_.str("");
  EXPECT_THAT(ReceiptsCommand(config_, /*json=*/false, out_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("1 of 1")));
  EXPECT_THAT(out_.str(), HasSubstr("NOT VALID: " + path));
}

// Killed after the first of the two renames of a renewal.
TEST_F(CommandsTest, StatusFinishesARenewalThatWasCutShort) {
  FileSystem* const fs = PosixFileSystem();
  const TlsIdentity next = coordinator_.pki.Peer("bank-a");
  const IdentityPaths paths(directory_.path());
  ASSERT_OK(WriteKeyFile(fs, paths.tls.key, next.key_pem));
  ASSERT_OK(WriteFileAtomic(fs, paths.next_chain, AsBytes(next.chain_pem)));
  ASSERT_OK(StatusCommand(config_, /*json=*/true, out_, {}));
  EXPECT_EQ(nlohmann::json::parse(out_.str())["certificate_serial"],
            next.leaf.serial);
}

TEST_F(CommandsTest, RenewReplacesTheCertificate) {
  ASSERT_OK_AND_ASSIGN(
      const InstitutionIdentity before,
      LoadIdentity(PosixFileSystem(), directory_.path(), SystemClock()->Now()));
  ASSERT_OK(RenewCommand(config_, /*json=*/false, out_, {}));
  EXPECT_THAT(out_.str(), HasSubstr("valid until"));
  ASSERT_OK_AND_ASSIGN(
      const InstitutionIdentity after,
      LoadIdentity(PosixFileSystem(), directory_.path(), SystemClock()->Now()));
  EXPECT_NE(before.leaf.serial, after.leaf.serial);
}

TEST(EnrollCommandTest, PrintsWhatToDoNext) {
  GrpcCoordinator coordinator(/*enrolment=*/true);
  TempDir directory;
  coordinator.service.token =
      EnrollmentToken::Generate(*SystemRandom())
          .ToText()
          .Text(SecretAccess("a test hands its token over"));
  EnrollOptions options;
  options.coordinator = coordinator.address();
  options.token = coordinator.service.token;
  options.ca_fingerprint =
      Must(CertificateFingerprint(coordinator.pki.ca.root_pem())).Hex();
  options.directory = directory / "id";
  options.proxy = "none";
  std::ostringstream out;
  ASSERT_OK(EnrollCommand(options, /*json=*/false, out, {}));
  EXPECT_THAT(out.str(), HasSubstr("consilium-client run --config"));

  options.directory = directory / "id2";
  out.str("");
  ASSERT_OK(EnrollCommand(options, /*json=*/true, out, {}));
  EXPECT_EQ(nlohmann::json::parse(out.str())["institution"], "bank-a");
  ASSERT_OK(
      LoadConfig(PosixFileSystem(), directory / "id2/consilium-client.toml"));
}

}  // namespace
}  // namespace consilium::client::internal

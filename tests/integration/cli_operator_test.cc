// Operators and auditors: invited, enrolled, listed, revoked by the command,
// and what a revocation does to their calls under way.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "coordinator/cli/exit_codes.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/operator_cli.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class CliOperatorTest : public testing::Test {
 protected:
  // Invites by the command, enrols by the SDK; the command's configuration.
  std::string Join(const std::string& name, const std::string& role) {
    const json invitation = cli_.Document<v1::InviteInstitutionResponse>(
        {"operator", "invite", name, "--role", role});
    client::EnrollOptions options;
    options.coordinator = federation_.enrollment_address();
    options.token = invitation["token"];
    options.ca_fingerprint = invitation["ca_fingerprint"];
    options.directory = JoinPath(federation_.dir(), name);
    options.proxy = "none";
    const auto enrolled = client::Enroll(options);
    EXPECT_OK(enrolled.status());
    if (!enrolled.ok()) return "";
    EXPECT_EQ(enrolled->uri, Cat("consilium://cards/", role, "/", name));
    // What enrolment left is what the command needs, but for the test's port.
    EXPECT_EQ(cli_.RunAs(enrolled->config_path,
                         {"status", "--coordinator", federation_.address()}),
              0)
        << cli_.err();
    return cli_.ConfigFor(options.directory);
  }
  json Operators() {
    json by_name;
    const json listed =
        cli_.Document<v1::ListOperatorsResponse>({"operator", "list"});
    for (const json& item : listed["operators"]) by_name[item["name"]] = item;
    return by_name;
  }
  std::string NewestAudit() {
    const json tail =
        cli_.Document<v1::TailAuditResponse>({"audit", "tail", "--limit", "1"});
    const json& e = tail["entries"][0];
    return Cat(
        e["actor"].get<std::string>(), " ", e["action"].get<std::string>(), " ",
        e["object"].get<std::string>(), " ", e["detail"].get<std::string>());
  }

  TestFederation federation_;
  OperatorCli cli_{federation_};
};

TEST_F(CliOperatorTest, OperatorsComeAndGo) {
  const std::string eve = Join("eve", "operator");
  EXPECT_THAT(NewestAudit(),
              HasSubstr("coordinator operator.enrol eve certificate "));
  json all = Operators();
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(all["admin"]["role"], "operator");
  EXPECT_EQ(all["eve"]["role"], "operator");
  EXPECT_EQ(all["eve"]["state"], "active");
  EXPECT_TRUE(all["eve"]["last_seen_at"].is_string());
  EXPECT_EQ(all["eve"]["certificates"].size(), 1u);
  EXPECT_EQ(cli_.RunAs(eve, {"federation", "set", "quorum=1"}), 0);
  EXPECT_THAT(cli_.Table({"operator", "list"}),
              AllOf(HasSubstr("eve"), HasSubstr("LAST SEEN")));

  // First what would happen.
  EXPECT_EQ(cli_.Run({"operator", "revoke", "eve"}), 0);
  EXPECT_EQ(Operators()["eve"]["state"], "active");
  EXPECT_EQ(
      cli_.Run({"operator", "revoke", "eve", "--reason", "left", "--yes"}), 0);
  EXPECT_THAT(NewestAudit(),
              HasSubstr("/operator/admin operator.revoke eve left"));
  EXPECT_EQ(Operators()["eve"]["state"], "revoked");
  EXPECT_EQ(cli_.RunAs(eve, {"status"}), kExitConnection.code);
  EXPECT_THAT(cli_.err(), HasSubstr("revoked"));
  federation_.Restart();
  EXPECT_EQ(cli_.RunAs(eve, {"status"}), kExitConnection.code);
  EXPECT_EQ(cli_.Run({"operator", "invite", "eve"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("eve was revoked, which is final"));
  ExpectStoreIsWhole(federation_);
}

TEST_F(CliOperatorTest, TheFirstOperatorToo) {
  const std::string eve = Join("eve", "operator");
  EXPECT_EQ(cli_.RunAs(eve, {"operator", "revoke", "admin", "--yes"}), 0)
      << cli_.err();
  EXPECT_EQ(cli_.Run({"status"}), kExitConnection.code);
}

TEST_F(CliOperatorTest, TheLastOperatorStays) {
  const std::vector<std::string> revoke = {"operator", "revoke", "admin",
                                           "--yes"};
  // Neither an auditor nor one who has not enrolled could take over.
  Join("watcher", "auditor");
  EXPECT_EQ(cli_.Run({"operator", "invite", "eve"}), 0) << cli_.err();
  EXPECT_EQ(Operators()["eve"]["state"], "invited");
  EXPECT_EQ(cli_.Run(revoke), 1);
  EXPECT_THAT(cli_.err(), AllOf(HasSubstr("admin is the last operator"),
                                HasSubstr("consilium operator invite")));
  EXPECT_EQ(cli_.Run({"operator", "revoke", "eve", "--yes"}), 0);
  Join("mallory", "operator");
  EXPECT_EQ(cli_.Run({"operator", "revoke", "mallory", "--yes"}), 0);
  EXPECT_EQ(cli_.Run(revoke), 1);
  EXPECT_EQ(Operators()["admin"]["state"], "active");
}

TEST_F(CliOperatorTest, AnAuditorOnlyReads) {
  const std::string watcher = Join("watcher", "auditor");
  EXPECT_EQ(Operators()["watcher"]["role"], "auditor");
  EXPECT_EQ(cli_.RunAs(watcher, {"operator", "list"}), 0) << cli_.err();
  EXPECT_EQ(cli_.RunAs(watcher, {"operator", "revoke", "watcher", "--yes"}),
            kExitConnection.code);
  EXPECT_THAT(cli_.err(), HasSubstr("needs the role operator"));
  EXPECT_EQ(cli_.Run({"operator", "revoke", "watcher", "--yes"}), 0);
  EXPECT_EQ(cli_.RunAs(watcher, {"operator", "list"}), kExitConnection.code);
}

TEST_F(CliOperatorTest, OperatorsAndInstitutionsAreNotMixedUp) {
  federation_.Enroll("bank-a");
  Join("eve", "operator");
  EXPECT_EQ(cli_.Run({"operator", "revoke", "bank-a", "--yes"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("no operator or auditor \"bank-a\""));
  EXPECT_EQ(cli_.Run({"operator", "invite", "bank-a"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("bank-a has enrolled as institution"));
  EXPECT_EQ(cli_.Run({"institution", "invite", "eve"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("eve has enrolled as operator"));
  EXPECT_EQ(cli_.Run({"institution", "revoke", "eve", "--yes"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("consilium operator revoke"));
  EXPECT_EQ(cli_.Run({"institution", "show", "eve"}), 1);
  const json institutions =
      cli_.Document<v1::ListInstitutionsResponse>({"institution", "list"});
  EXPECT_EQ(institutions["institutions"].size(), 1u);
  EXPECT_EQ(cli_.Document<v1::StatusInfo>({"status"})["institutions_active"],
            1);
  // Nor are they asked to train.
  EXPECT_EQ(cli_.Run({"round", "plan", "--json", "--set", "quorum=1"}), 0)
      << cli_.err();
  EXPECT_EQ(cli_.Json()["cohort"], json({"bank-a"}));
  EXPECT_EQ(cli_.Json()["left_out"], json::array());
}

TEST_F(CliOperatorTest, AWatchEndsWithItsCertificate) {
  const auto stub = v1::AdminService::NewStub(
      federation_.ChannelWith(federation_.EnrollStaff("watcher", "auditor")));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::minutes(1));
  const auto watch = stub->WatchRound(&context, {});
  v1::RoundInfo info;
  ASSERT_TRUE(watch->Read(&info));
  ASSERT_OK(federation_.RevokeOperator("watcher", "left"));
  while (watch->Read(&info)) {
  }
  EXPECT_THAT(FromGrpc(watch->Finish()),
              StatusIs(StatusCode::kUnauthenticated, HasSubstr("revoked")));
}

// Tells when the coordinator has begun to write an import.
class TempFileSystem final : public ForwardingFileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    if (path.find("/tmp/") != std::string::npos && options.write) {
      MutexLock lock(&mu_);
      ++opened_;
      changed_.SignalAll();
    }
    return ForwardingFileSystem::Open(path, options);
  }
  int opened() {
    MutexLock lock(&mu_);
    return opened_;
  }
  void WaitForMoreThan(int count) {
    MutexLock lock(&mu_);
    while (opened_ <= count) changed_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  int opened_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST(OperatorImportTest, AnImportEndsWithItsCertificate) {
  TempFileSystem fs;
  TestFederation::Options options;
  options.coordinator_fs = &fs;
  TestFederation federation(options);
  const auto stub = v1::AdminService::NewStub(
      federation.ChannelWith(federation.EnrollStaff("eve", "operator")));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::minutes(1));
  v1::VersionInfo response;
  const auto import = stub->ImportVersion(&context, &response);
  v1::ImportVersionChunk chunk;
  chunk.set_layout_text(federation.layout().CanonicalText());
  chunk.set_sha256(std::string(32, 'x'));
  chunk.set_total_bytes(1000);
  chunk.set_data(std::string(100, 'x'));
  const int before = fs.opened();
  ASSERT_TRUE(import->Write(chunk));
  fs.WaitForMoreThan(before);
  ASSERT_OK(federation.RevokeOperator("eve", "left"));
  chunk.Clear();
  chunk.set_data(std::string(900, 'x'));
  import->Write(chunk);
  import->WritesDone();
  EXPECT_THAT(FromGrpc(import->Finish()),
              StatusIs(StatusCode::kUnauthenticated, HasSubstr("revoked")));
  ExpectStoreIsWhole(federation);
}

}  // namespace
}  // namespace consilium

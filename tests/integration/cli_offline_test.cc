// --offline on the store of a coordinator that has run rounds: the same
// documents as while it ran, and never beside it.

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class CliOfflineTest : public ::testing::Test {
 protected:
  CliOfflineTest() : f_({}, {"bank-a", "bank-b"}), cli_(*f_) {
    const uint64_t id = f_->StartRound();
    Contribute(f_["bank-a"], 1, 100);
    Contribute(f_["bank-b"], 3, 100);
    EXPECT_EQ(f_->WaitForEnd(id).phase(), "promoted");
    f_->StartRound();
    Contribute(f_["bank-a"], 1, 100);
    contribution_ = cli_.Document<v1::ListContributionsResponse>(
        {"contribution", "list", "--round", "1"})["contributions"][0]["id"];
  }

  TimedFederation f_;
  OperatorCli cli_;
  std::string contribution_;
};

TEST_F(CliOfflineTest, NeverBesideARunningCoordinator) {
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{
           {"status"}, {"round", "list"}, {"db", "check"}}) {
    EXPECT_EQ(cli_.RunOffline(verb), 1);
    EXPECT_THAT(cli_.err(), HasSubstr("asked without --offline"));
  }
  EXPECT_EQ(cli_.RunOffline({"db", "restore", "/nowhere", "--force"}), 1);
}

TEST_F(CliOfflineTest, TheSameDocumentsAsWhileItRan) {
  // Without what only a running coordinator knows.
  const auto strip = [](json document) {
    for (const char* key :
         {"connected", "last_seen_at", "waiting_for", "software"}) {
      if (document.contains(key)) document.erase(key);
    }
    for (const char* list :
         {"institutions", "operators", "members", "rounds"}) {
      if (!document.contains(list)) continue;
      for (json& item : document[list]) {
        item.erase("connected");
        item.erase("last_seen_at");
        item.erase("software");
      }
    }
    return document;
  };
  struct Verb {
    std::vector<std::string> args;
    const google::protobuf::Descriptor* type;
  };
  const std::vector<Verb> verbs = {
      {{"federation", "show"}, v1::FederationInfo::descriptor()},
      {{"institution", "list"}, v1::ListInstitutionsResponse::descriptor()},
      {{"institution", "show", "bank-a"}, v1::InstitutionInfo::descriptor()},
      {{"operator", "list"}, v1::ListOperatorsResponse::descriptor()},
      {{"round", "list"}, v1::ListRoundsResponse::descriptor()},
      {{"round", "show", "1", "--events"}, v1::RoundInfo::descriptor()},
      {{"round", "show", "2"}, v1::RoundInfo::descriptor()},
      {{"contribution", "list", "--round", "1"},
       v1::ListContributionsResponse::descriptor()},
      {{"contribution", "show", contribution_},
       v1::ContributionInfo::descriptor()},
      {{"version", "list"}, v1::ListVersionsResponse::descriptor()},
      {{"version", "show", "1"}, v1::VersionInfo::descriptor()},
      {{"version", "diff", "0", "1"}, v1::DiffVersionsResponse::descriptor()},
      {{"schedule", "show"}, v1::ScheduleInfo::descriptor()},
      {{"audit", "tail"}, v1::TailAuditResponse::descriptor()},
  };
  std::vector<json> live;
  for (const Verb& verb : verbs) {
    std::vector<std::string> args = verb.args;
    args.push_back("--json");
    ASSERT_EQ(cli_.Run(args), 0) << cli_.err();
    live.push_back(strip(cli_.Json()));
  }
  f_->Stop();
  for (size_t i = 0; i < verbs.size(); ++i) {
    ASSERT_EQ(cli_.RunOffline(verbs[i].args), 0) << cli_.err();
    EXPECT_NE(cli_.out(), "");
    std::vector<std::string> args = verbs[i].args;
    args.push_back("--json");
    ASSERT_EQ(cli_.RunOffline(args), 0) << cli_.err();
    ExpectFields(cli_.Json(), verbs[i].type);
    EXPECT_EQ(strip(cli_.Json()), live[i]) << verbs[i].args.front();
  }
  cli_.OfflineDocument<v1::StatusInfo>({"status"});
  cli_.OfflineDocument<v1::ListCertificatesResponse>({"cert", "status"});
  cli_.OfflineDocument<v1::CheckDatabaseResponse>({"db", "check", "--deep"});
  cli_.OfflineDocument<v1::VerifyAuditResponse>({"audit", "verify"});
}

TEST_F(CliOfflineTest, WhenAnInstitutionWasLastSeen) {
  const auto seen = [](const json& list) {
    return list["institutions"][0]["last_seen_at"];
  };
  const std::vector<std::string> verb = {"institution", "list"};
  const json live = seen(cli_.Document<v1::ListInstitutionsResponse>(verb));
  ASSERT_TRUE(live.is_string());
  f_->Stop();
  EXPECT_EQ(seen(cli_.OfflineDocument<v1::ListInstitutionsResponse>(verb)),
            live);
  const json shown = cli_.OfflineDocument<v1::InstitutionInfo>(
      {"institution", "show", "bank-a"});
  EXPECT_EQ(shown["last_seen_at"], live);
}

TEST_F(CliOfflineTest, WhatChangesIsRefused) {
  f_->Stop();
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{
           {"round", "start"},
           {"round", "cancel", "2", "--yes"},
           {"round", "replay", "1"},
           {"federation", "set", "quorum=1"},
           {"institution", "invite", "bank-c"},
           {"contribution", "quarantine", contribution_, "--yes"},
           {"version", "rollback", "0", "--yes"},
           {"schedule", "pause"}}) {
    EXPECT_EQ(cli_.RunOffline(verb), 1) << verb[0] << " " << verb[1];
    EXPECT_THAT(cli_.err(), HasSubstr("needs a running coordinator"))
        << verb[0] << " " << verb[1];
  }
}

TEST_F(CliOfflineTest, ExportBackupAndRestore) {
  const std::string live = JoinPath(f_->dir(), "live.safetensors");
  const std::string offline = JoinPath(f_->dir(), "offline.safetensors");
  ASSERT_EQ(cli_.Run({"version", "export", "1", "--output", live}), 0);
  const client::TrainTask trained = WaitForTask(f_["bank-b"]);
  f_->Stop();
  ASSERT_EQ(cli_.RunOffline({"version", "export", "1", "--output", offline}), 0)
      << cli_.err();
  const auto first = ReadWholeFile(f_->fs(), live, 1 << 26);
  const auto second = ReadWholeFile(f_->fs(), offline, 1 << 26);
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_TRUE(*first == *second);

  const std::string backup = JoinPath(f_->dir(), "backup");
  const json made = cli_.OfflineDocument<v1::BackupDatabaseResponse>(
      {"db", "backup", backup});
  EXPECT_EQ(made["directory"], backup);
  EXPECT_EQ(cli_.RunOffline({"db", "restore", backup}), 1);  // data is there
  ASSERT_EQ(cli_.RunOffline({"db", "restore", backup, "--force", "--json"}), 0)
      << cli_.err();
  EXPECT_EQ(cli_.Json()["rounds_cancelled"], 1);  // round 2 was open
  EXPECT_EQ(cli_.Json()["contributions_expired"], 1);
  ASSERT_EQ(cli_.RunOffline({"db", "check", "--deep"}), 0) << cli_.out();
  // It serves again, and goes on with new rounds.
  f_->StartAgain();
  EXPECT_EQ(RoundOf(*f_, 2).phase(), "cancelled");
  // Who trained for it hears why.
  EXPECT_THAT(ExpectRefusal(SubmitConstant(f_["bank-b"], trained, 1, 100),
                            client::RefusalCode::kLate),
              HasSubstr("restored from a backup of "));
  EXPECT_EQ(f_->engine().current_version()->number, 1);
  const uint64_t id = f_->StartRound();
  EXPECT_EQ(id, 3u);
  Contribute(f_["bank-a"], 1);
  Contribute(f_["bank-b"], 1);
  EXPECT_EQ(f_->WaitForEnd(id).phase(), "promoted");
}

TEST_F(CliOfflineTest, InitMakesAStoreThatItCanRead) {
  const std::string dir = JoinPath(f_->dir(), "other");
  OperatorCli cli(*f_);
  ASSERT_EQ(cli.Run({"init", dir, "--name", "other", "--host", "localhost",
                     "--json"}),
            0)
      << cli.err();
  const json made = cli.Json();
  for (const char* key :
       {"federation", "directory", "config", "operator_config", "offline_key",
        "ca_fingerprint", "sealing"}) {
    EXPECT_TRUE(made.contains(key)) << key;
  }
  EXPECT_EQ(cli.Run({"--offline", dir, "federation", "show"}), 0) << cli.err();
  EXPECT_THAT(cli.out(), HasSubstr("other"));
  EXPECT_EQ(cli.Run({"--offline", dir, "version", "list"}), 0);
}

}  // namespace
}  // namespace consilium

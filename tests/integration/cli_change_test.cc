// Every verb that changes something, on a coordinator that runs: what it does,
// what it says before, and what the audit log keeps of it.

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CliChangeTest : public ::testing::Test {
 protected:
  CliChangeTest() : f_({}, {"bank-a", "bank-b"}), cli_(*f_) {}

  void RunRound() {
    const uint64_t id = f_->StartRound();
    Contribute(f_["bank-a"], 1);
    Contribute(f_["bank-b"], 3);
    ASSERT_EQ(f_->WaitForEnd(id).phase(), "promoted");
  }
  // The newest entry of the audit log.
  void ExpectAudit(const std::string& action, const std::string& object,
                   const std::string& detail) {
    const json tail =
        cli_.Document<v1::TailAuditResponse>({"audit", "tail", "--limit", "1"});
    ASSERT_EQ(tail["entries"].size(), 1u);
    const json& entry = tail["entries"][0];
    EXPECT_EQ(entry["action"], action);
    EXPECT_EQ(entry["object"], object);
    EXPECT_THAT(entry["detail"].get<std::string>(), HasSubstr(detail));
    EXPECT_EQ(entry["actor"], "consilium://cards/operator/admin");
  }
  // Without --yes nothing changes, and it says so in both forms.
  void ExpectDryRun(std::vector<std::string> args) {
    const json before =
        cli_.Document<v1::TailAuditResponse>({"audit", "tail", "--limit", "1"});
    EXPECT_THAT(cli_.Table(args), HasSubstr("Nothing was changed"));
    args.push_back("--json");
    EXPECT_EQ(cli_.Run(args), 0);
    EXPECT_EQ(cli_.Json()["dry_run"], true);
    EXPECT_FALSE(cli_.Json()["would"].empty());
    EXPECT_EQ(
        cli_.Document<v1::TailAuditResponse>({"audit", "tail", "--limit", "1"}),
        before);
  }

  TimedFederation f_;
  OperatorCli cli_;
};

TEST_F(CliChangeTest, FederationSet) {
  EXPECT_THAT(cli_.Table({"federation", "set", "quorum=1", "deadline=15m",
                          "training.epochs=3", "--reason", "two suffice"}),
              AllOf(HasSubstr("quorum = 1"), HasSubstr("training.epochs = 3")));
  ExpectAudit("federation.set", "cards", "two suffice; deadline=15m");
  const json set = cli_.Document<v1::FederationInfo>(
      {"federation", "set", "training.epochs=4"});
  EXPECT_EQ(set["policy"]["training.epochs"], "4");
  // Institutions are told with the next task.
  f_->StartRound();
  EXPECT_EQ(WaitForTask(f_["bank-a"]).parameters.at("epochs"), "4");
  EXPECT_EQ(cli_.Run({"federation", "set", "quorum=many"}), 2);
  EXPECT_EQ(cli_.Run({"federation", "set", "qorum=1"}), 2);
  EXPECT_THAT(cli_.err(), HasSubstr("there is no setting \"qorum\""));
}

TEST_F(CliChangeTest, Institutions) {
  EXPECT_THAT(cli_.Table({"institution", "invite", "bank-c", "--expires", "48h",
                          "--label", "region=eu"}),
              AllOf(HasSubstr("cst1-"), HasSubstr("consilium-client enroll"),
                    HasSubstr(f_->fingerprint())));
  ExpectAudit("institution.invite", "bank-c", "role institution");
  // A second invitation replaces the first; its token is good.
  const json invited = cli_.Document<v1::InviteInstitutionResponse>(
      {"institution", "invite", "bank-c"});
  client::EnrollOptions enroll;
  enroll.coordinator = f_->enrollment_address();
  enroll.token = invited["token"];
  enroll.ca_fingerprint = invited["ca_fingerprint"];
  enroll.directory = JoinPath(f_->dir(), "bank-c");
  enroll.proxy = "none";
  ASSERT_THAT(client::Enroll(enroll).status(), IsOk());

  EXPECT_THAT(cli_.Table({"institution", "suspend", "bank-c", "--reason",
                          "under review"}),
              HasSubstr("bank-c is suspended"));
  ExpectAudit("institution.suspend", "bank-c", "under review");
  EXPECT_EQ(cli_.Document<v1::InstitutionInfo>(
                {"institution", "resume", "bank-c"})["state"],
            "active");
  ExpectAudit("institution.resume", "bank-c", "");
  ExpectDryRun({"institution", "revoke", "bank-c"});
  const json revoked = cli_.Document<v1::InstitutionInfo>(
      {"institution", "revoke", "bank-c", "--yes", "--reason", "key lost"});
  EXPECT_EQ(revoked["state"], "revoked");
  EXPECT_EQ(revoked["labels"]["region"], "eu");
  EXPECT_EQ(revoked["certificates"][0]["state"], "revoked");
  ExpectAudit("institution.revoke", "bank-c", "key lost");
  EXPECT_EQ(cli_.Run({"institution", "resume", "bank-c"}), 1);
  EXPECT_EQ(cli_.Run({"institution", "show", "bank-x"}), 1);
}

TEST_F(CliChangeTest, RoundsByHand) {
  EXPECT_THAT(cli_.Table({"round", "start", "--set", "deadline=20m", "--reason",
                          "first"}),
              AllOf(HasSubstr("Round 1 is open"), HasSubstr("2 institutions")));
  ExpectAudit("round.start", "round 1", "first");
  EXPECT_EQ(cli_.Run({"round", "start"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("round 1 is open"));

  const json before = cli_.Document<v1::RoundInfo>({"round", "show", "1"});
  const json extended = cli_.Document<v1::RoundInfo>(
      {"round", "extend", "1", "--by", "15m", "--reason", "slow site"});
  EXPECT_GT(extended["deadline"], before["deadline"]);
  ExpectAudit("round.extend", "round 1", "by 15m 00s: slow site");
  EXPECT_THAT(cli_.Table({"round", "extend", "1", "--by", "1m"}),
              HasSubstr("has 1m more"));

  Contribute(f_["bank-a"], 1);
  ExpectDryRun({"round", "close-now", "1"});
  EXPECT_EQ(cli_.Run({"round", "close-now", "1", "--yes"}), 1);
  EXPECT_THAT(cli_.err(), HasSubstr("1 of 2 contributions"));
  ExpectDryRun({"round", "cancel", "1"});
  EXPECT_THAT(cli_.Table({"round", "cancel", "1", "--yes", "--reason", "oops"}),
              HasSubstr("Round 1 was cancelled"));
  ExpectAudit("round.cancel", "round 1", "oops");
  EXPECT_EQ(cli_.Run({"round", "cancel", "1", "--yes"}), 1);
  // Nor does a dry run promise what would be refused.
  EXPECT_EQ(cli_.Run({"round", "cancel", "1"}), 1);
  EXPECT_EQ(cli_.Run({"round", "close-now", "1"}), 1);
  EXPECT_EQ(cli_.Run({"version", "rollback", "0"}), 1);

  const json second = cli_.Document<v1::RoundInfo>(
      {"round", "start", "--institution", "bank-b", "--set", "quorum=1",
       "--set", "wait_after_quorum=1h"});
  EXPECT_EQ(second["members"].size(), 1u);
  HeldSubmit held(f_["bank-b"], WaitForTask(f_["bank-b"]), 1, 1);
  EXPECT_EQ(cli_.Run({"round", "close-now", "2", "--yes"}), 1);
  ExpectReceipt(held.Finish());
  EXPECT_EQ(f_->WaitForEnd(2).phase(), "promoted");
}

TEST_F(CliChangeTest, CloseNow) {
  ASSERT_EQ(cli_.Run({"federation", "set", "quorum=1"}), 0);
  ASSERT_EQ(cli_.Run({"round", "start"}), 0);
  Contribute(f_["bank-a"], 1);
  const json closed = cli_.Document<v1::RoundInfo>(
      {"round", "close-now", "1", "--yes", "--reason", "enough"});
  EXPECT_EQ(closed["round"], 1);
  EXPECT_EQ(f_->WaitForEnd(1).phase(), "promoted");
  ExpectAudit("round.close", "round 1", "enough");
}

TEST_F(CliChangeTest, ReplayRecomputesTheDigest) {
  RunRound();
  EXPECT_THAT(cli_.Table({"round", "replay", "1"}), HasSubstr("The same bits"));
  const json version = cli_.Document<v1::VersionInfo>({"version", "show", "1"});
  const json replay =
      cli_.Document<v1::ReplayRoundResponse>({"round", "replay", "1"});
  EXPECT_EQ(replay["equal"], true);
  EXPECT_EQ(replay["replayed_digest"], version["version"]["digest"]);
  EXPECT_EQ(replay["contributions"], json({"bank-a", "bank-b"}));
  EXPECT_TRUE(replay["candidate"].is_null());
  ExpectAudit("round.replay", "round 1", "replayed digest");
  EXPECT_THAT(cli_.Table({"round", "replay", "1", "--exclude", "bank-b",
                          "--reason", "mislabelled"}),
              HasSubstr("consilium version promote 2"));
  ExpectAudit("round.replay", "round 1", "without bank-b: mislabelled");
  EXPECT_EQ(cli_.Run({"round", "replay", "1", "--exclude", "bank-z"}), 2);
  EXPECT_EQ(cli_.Run({"round", "replay", "7"}), 1);
}

TEST_F(CliChangeTest, QuarantineAndRelease) {
  ASSERT_EQ(cli_.Run({"federation", "set", "quorum=1"}), 0);
  ASSERT_EQ(cli_.Run({"round", "start"}), 0);
  Contribute(f_["bank-a"], 1);
  const json list =
      cli_.Document<v1::ListContributionsResponse>({"contribution", "list"});
  const std::string id = list["contributions"][0]["id"];
  const std::string prefix = id.substr(0, 10);
  ExpectDryRun({"contribution", "quarantine", prefix});
  EXPECT_THAT(cli_.Table({"contribution", "quarantine", prefix, "--yes",
                          "--reason", "odd"}),
              HasSubstr("is quarantined"));
  ExpectAudit("contribution.quarantine", id, "odd");
  EXPECT_EQ(
      cli_.Document<v1::ContributionInfo>(
          {"contribution", "release", prefix, "--reason", "checked"})["state"],
      "committed");
  ExpectAudit("contribution.release", id, "checked");
  Contribute(f_["bank-b"], 3);
  EXPECT_EQ(f_->WaitForEnd(1).phase(), "promoted");
  ExpectDryRun({"contribution", "quarantine", prefix});
  EXPECT_EQ(cli_.Document<v1::ContributionInfo>(
                {"contribution", "quarantine", prefix, "--yes"})["state"],
            "quarantined");
  EXPECT_THAT(cli_.Table({"version", "list"}), HasSubstr("(tainted)"));
  EXPECT_THAT(cli_.Table({"status"}),
              HasSubstr("warning: the current version"));
  EXPECT_EQ(cli_.Run({"contribution", "show", "zz"}), 1);
}

TEST_F(CliChangeTest, PromoteRollbackImport) {
  RunRound();
  RunRound();
  ASSERT_EQ(cli_.Run({"round", "replay", "2", "--exclude", "bank-b"}), 0);
  ExpectDryRun({"version", "promote", "3"});
  EXPECT_EQ(cli_.Document<v1::VersionInfo>({"version", "promote", "3", "--yes",
                                            "--reason", "better"})["current"],
            true);
  ExpectAudit("version.promote", "version 3", "better");
  ExpectDryRun({"version", "rollback", "1"});
  EXPECT_THAT(cli_.Table({"version", "rollback", "1", "--yes", "--reason",
                          "worse at bank-a"}),
              HasSubstr("Serving version 1"));
  ExpectAudit("version.rollback", "version 1", "worse at bank-a");
  EXPECT_EQ(cli_.Document<v1::VersionInfo>({"version", "show", "3"})["state"],
            "rolled_back");
  EXPECT_EQ(cli_.Run({"version", "rollback", "1", "--yes"}), 1);
  // What was exported comes back as a version of its own.
  const std::string file = JoinPath(f_->dir(), "v2.safetensors");
  const std::string layout = JoinPath(f_->dir(), "layout");
  ASSERT_OK(
      WriteFileAtomic(f_->fs(), layout, AsBytes(f_->layout().CanonicalText())));
  ASSERT_EQ(cli_.Run({"version", "export", "2", "--output", file}), 0);
  ExpectDryRun({"version", "import", file, "--layout", layout});
  const json imported =
      cli_.Document<v1::VersionInfo>({"version", "import", file, "--layout",
                                      layout, "--reason", "again", "--yes"});
  EXPECT_EQ(imported["version"]["number"], 4);
  EXPECT_EQ(imported["current"], true);
  EXPECT_EQ(imported["round"], 0);
  EXPECT_EQ(imported["version"]["digest"],
            cli_.Document<v1::VersionInfo>(
                {"version", "show", "2"})["version"]["digest"]);
  ExpectAudit("version.import", "version 4", "again");
  // Asked for again, as after a lost answer, it is the same.
  EXPECT_THAT(
      cli_.Table({"version", "import", file, "--layout", layout, "--yes"}),
      HasSubstr("Imported version 4"));
}

TEST_F(CliChangeTest, Schedule) {
  EXPECT_THAT(cli_.Table({"schedule", "set", "cron", "0 3 * * 1-5",
                          "--time-zone", "Europe/Berlin"}),
              HasSubstr("cron 0 3 * * 1-5 Europe/Berlin"));
  ExpectAudit("schedule.set", "cron 0 3 * * 1-5 (Europe/Berlin)", "");
  const json every = cli_.Document<v1::ScheduleInfo>(
      {"schedule", "set", "every", "15m", "--reason", "faster"});
  EXPECT_EQ(every["kind"], "every");
  EXPECT_FALSE(every["next_at"].is_null());
  EXPECT_EQ(cli_.Document<v1::ScheduleInfo>({"schedule", "pause"})["paused"],
            true);
  ExpectAudit("schedule.pause", "every", "");
  EXPECT_THAT(cli_.Table({"schedule", "resume"}), HasSubstr("every 15m"));
  ExpectAudit("schedule.resume", "every", "");
  EXPECT_EQ(cli_.Run({"schedule", "set", "cron", "61 * * * *"}), 2);
  EXPECT_EQ(cli_.Run({"schedule", "set", "cron", "0 3 * * *", "--time-zone",
                      "Mars/Olympus"}),
            2);
  EXPECT_THAT(cli_.Table({"schedule", "set", "manual"}), HasSubstr("manual"));
}

TEST_F(CliChangeTest, CertificatesAndBackup) {
  const json server = cli_.Document<v1::CertificateInfo>(
      {"cert", "renew", "--server", "--reason", "yearly"});
  EXPECT_EQ(server["role"], "server");
  ExpectAudit("certificate.renew", "server", "yearly");
  EXPECT_THAT(cli_.Table({"cert", "renew"}),
              HasSubstr("consilium://cards/operator/admin"));
  ExpectAudit("certificate.renew", "admin", "certificate");
  // The new one works, and again.
  cli_.Document<v1::RenewCertificateResponse>({"cert", "renew"});
  EXPECT_THAT(cli_.Table({"cert", "status"}), HasSubstr("operator"));

  RunRound();
  const std::string backup = JoinPath(f_->dir(), "backup");
  const json made =
      cli_.Document<v1::BackupDatabaseResponse>({"db", "backup", backup});
  EXPECT_EQ(made["directory"], backup);
  EXPECT_GE(made["blobs"], 2);
  ExpectAudit("db.backup", backup, "");
  EXPECT_EQ(cli_.Run({"db", "backup", backup}), 1);  // not over another
  EXPECT_EQ(cli_.Run({"db", "backup", "relative"}), 2);
  EXPECT_EQ(cli_.Run({"db", "restore", backup}), 2);  // needs --offline
}

// The system chooses the ports, and the outside may know the host by a name.
TEST(CliInvitationTest, ItNamesAnAddressThatCanBeReached) {
  for (const std::string advertised : {"", "localhost:9999"}) {
    TestFederation::Options options;
    options.configure = [&](CoordinatorConfig& config) {
      config.listen.advertised_address = advertised;
    };
    TestFederation f(std::move(options));
    OperatorCli cli(f);
    const std::string listens = f.enrollment_address();
    const json invitation = cli.Document<v1::InviteInstitutionResponse>(
        {"institution", "invite", "bank-a"});
    EXPECT_EQ(invitation["enrollment_address"],
              advertised.empty()
                  ? listens
                  : Cat("localhost", listens.substr(listens.rfind(':'))));
  }
}

}  // namespace
}  // namespace consilium

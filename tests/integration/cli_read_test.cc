// Every verb that only reads, on a coordinator that runs: as a table, and as a
// JSON document with every field that is documented.

#include <cstring>

#include "consilium/aggregation/safetensors.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Two rounds are over and judged, the third is open.
class CliReadTest : public ::testing::Test {
 protected:
  CliReadTest()
      : f_({{"evaluation.enabled", "true"}}, {"bank-a", "bank-b"}), cli_(*f_) {
    for (int i = 0; i < 2; ++i) {
      const uint64_t id = f_->StartRound();
      Contribute(f_["bank-a"], 1, 100);
      Contribute(f_["bank-b"], 3, 300);
      EXPECT_EQ(f_->WaitForPhase(id, "evaluating").phase(), "evaluating");
      Evaluate(f_["bank-a"], 10, {{"accuracy", 0.75}});
      Evaluate(f_["bank-b"], 30, {{"accuracy", 0.95}});
      EXPECT_EQ(f_->WaitForEnd(id).phase(), "promoted");
    }
    f_->StartRound();
  }

  TimedFederation f_;
  OperatorCli cli_;
};

TEST_F(CliReadTest, Status) {
  EXPECT_THAT(cli_.Table({"status"}),
              AllOf(HasSubstr("cards"), HasSubstr("2 active"),
                    HasSubstr("3 open"), HasSubstr("not heard from")));
  const json status = cli_.Document<v1::StatusInfo>({"status"});
  EXPECT_EQ(status["current"]["number"], 2);
  EXPECT_EQ(status["live_round"]["round"], 3);
  EXPECT_EQ(status["sealing"], true);
  EXPECT_EQ(status["certificates"][0]["role"], "server");
}

TEST_F(CliReadTest, Federation) {
  EXPECT_THAT(cli_.Table({"federation", "show"}),
              AllOf(HasSubstr("4 tensors, 3 groups"),
                    HasSubstr("evaluation.quorum"), HasSubstr("quorum")));
  const json federation =
      cli_.Document<v1::FederationInfo>({"federation", "show"});
  EXPECT_EQ(federation["policy"]["quorum"], "2");
  EXPECT_EQ(federation["root_ca_fingerprint"], f_->fingerprint());
  EXPECT_EQ(federation["signing_public_key"].get<std::string>().size(), 64u);
}

TEST_F(CliReadTest, Institutions) {
  EXPECT_THAT(cli_.Table({"institution", "list"}),
              AllOf(HasSubstr("bank-a"), HasSubstr("bank-b")));
  const json list =
      cli_.Document<v1::ListInstitutionsResponse>({"institution", "list"});
  EXPECT_EQ(list["institutions"].size(), 2u);
  EXPECT_EQ(list["institutions"][0]["contributions"], 2);
  EXPECT_EQ(list["institutions"][0]["connected"], true);
  EXPECT_THAT(cli_.Table({"institution", "show", "bank-a"}),
              AllOf(HasSubstr("active"), HasSubstr("SERIAL")));
  const json shown =
      cli_.Document<v1::InstitutionInfo>({"institution", "show", "bank-a"});
  EXPECT_EQ(shown["role"], "institution");
  EXPECT_EQ(shown["certificates"].size(), 1u);
}

TEST_F(CliReadTest, Rounds) {
  EXPECT_THAT(cli_.Table({"round", "list"}),
              AllOf(HasSubstr("promoted"), HasSubstr("open")));
  const json list = cli_.Document<v1::ListRoundsResponse>({"round", "list"});
  EXPECT_EQ(list["rounds"].size(), 3u);
  EXPECT_EQ(list["rounds"][0]["round"], 3);
  EXPECT_EQ(cli_.Document<v1::ListRoundsResponse>(
                    {"round", "list", "--before", "2"})["rounds"]
                .size(),
            1u);
  EXPECT_THAT(cli_.Table({"round", "show", "1", "--events", "--settings"}),
              AllOf(HasSubstr("planned"), HasSubstr("committed"),
                    HasSubstr("accuracy 0.9"), HasSubstr("wait_after_quorum")));
  const json round =
      cli_.Document<v1::RoundInfo>({"round", "show", "1", "--events"});
  EXPECT_EQ(round["phase"], "promoted");
  EXPECT_EQ(round["contributions"], 2);
  EXPECT_FALSE(round["events"].empty());
  EXPECT_EQ(round["groups"].size(), 3u);
  EXPECT_EQ(round["elements_per_frame"], 258048);
  EXPECT_THAT(cli_.Table({"round", "show", "1"}), HasSubstr("258048 elements"));
  // The newest without a number.
  EXPECT_EQ(cli_.Document<v1::RoundInfo>({"round", "show"})["round"], 3);
}

TEST_F(CliReadTest, PlanSaysWhatStandsInTheWay) {
  EXPECT_EQ(cli_.Run({"round", "plan"}), 1);
  EXPECT_THAT(cli_.out(), HasSubstr("problem: round 3 is open"));
  EXPECT_EQ(cli_.Run({"round", "plan", "--json", "--set", "quorum=3"}), 1);
  ExpectFields(cli_.Json(), v1::RoundPlan::descriptor());
  EXPECT_EQ(cli_.Json()["problems"].size(), 2u);
  ASSERT_OK(f_->engine().CancelRound("op", 3, ""));
  const json plan = cli_.Document<v1::RoundPlan>(
      {"round", "plan", "--set", "deadline=30m", "--set", "quorum=1",
       "--institution", "bank-b"});
  EXPECT_EQ(plan["round"], 4);
  EXPECT_EQ(plan["cohort"], json({"bank-b"}));
  EXPECT_EQ(plan["settings"]["quorum"], "1");
  EXPECT_TRUE(plan["problems"].empty());
  EXPECT_THAT(cli_.Table({"round", "plan"}), HasSubstr("bank-a, bank-b"));
  EXPECT_EQ(cli_.Document<v1::RoundInfo>({"round", "show"})["round"], 3);
}

TEST_F(CliReadTest, Contributions) {
  EXPECT_THAT(cli_.Table({"contribution", "list", "--round", "1"}),
              AllOf(HasSubstr("bank-a"), HasSubstr("folded")));
  const json list = cli_.Document<v1::ListContributionsResponse>(
      {"contribution", "list", "--round", "1", "--institution", "bank-b"});
  ASSERT_EQ(list["contributions"].size(), 1u);
  const json& one = list["contributions"][0];
  EXPECT_EQ(one["examples"], 300);
  EXPECT_EQ(one["receipt"]["institution"], "bank-b");
  const std::string prefix = one["id"].get<std::string>().substr(0, 8);
  EXPECT_THAT(cli_.Table({"contribution", "show", prefix}),
              AllOf(HasSubstr("signed"), HasSubstr("sealed")));
  EXPECT_EQ(cli_.Document<v1::ContributionInfo>(
                {"contribution", "show", prefix})["id"],
            one["id"]);
  EXPECT_THAT(cli_.Table({"contribution", "verify", prefix}),
              HasSubstr("all is well"));
  const json verified = cli_.Document<v1::VerifyContributionResponse>(
      {"contribution", "verify", prefix});
  EXPECT_EQ(verified["ok"], true);
  EXPECT_GE(verified["chunks"], 3);
}

TEST_F(CliReadTest, Versions) {
  EXPECT_THAT(cli_.Table({"version", "list"}),
              AllOf(HasSubstr("promoted (current)"), HasSubstr("accuracy")));
  EXPECT_EQ(
      cli_.Document<v1::ListVersionsResponse>({"version", "list"})["versions"]
          .size(),
      3u);
  EXPECT_THAT(cli_.Table({"version", "show", "2"}),
              AllOf(HasSubstr("bank-a, bank-b"), HasSubstr("expert/0/1")));
  const json version = cli_.Document<v1::VersionInfo>({"version", "show", "2"});
  EXPECT_EQ(version["parent"], 1);
  EXPECT_EQ(version["contributors"], json({"bank-a", "bank-b"}));
  EXPECT_THAT(cli_.Table({"version", "diff", "0", "2"}), HasSubstr("shared"));
  const json diff =
      cli_.Document<v1::DiffVersionsResponse>({"version", "diff", "1", "2"});
  ASSERT_EQ(diff["groups"].size(), 3u);
  for (const json& group : diff["groups"]) {
    EXPECT_EQ(group["changed"], group["elements"]);
    EXPECT_EQ(group["max_abs"], 2.5);
    EXPECT_EQ(group["relative"], 1.0);
  }
}

TEST_F(CliReadTest, ExportGivesTheVersionsBits) {
  const std::string path = JoinPath(f_->dir(), "v2.safetensors");
  ASSERT_EQ(cli_.Run({"version", "export", "2", "--output", path, "--json"}), 0)
      << cli_.err();
  const json done = cli_.Json();
  EXPECT_EQ(done["version"], 2);
  EXPECT_EQ(done["path"], path);
  EXPECT_EQ(done["resumed_at"], 0);
  const auto bytes = ReadWholeFile(f_->fs(), path, 1 << 26);
  ASSERT_THAT(bytes, IsOk());
  EXPECT_EQ(done["bytes"], bytes->size());
  const auto view = SafetensorsView::Parse(AsBytes(*bytes));
  ASSERT_THAT(view.status(), IsOk());
  std::vector<float> exported;
  for (const TensorSlot& slot : f_->layout().slots()) {
    const auto tensor = view->Floats(slot.name);
    ASSERT_THAT(tensor.status(), IsOk());
    exported.insert(exported.end(), tensor->begin(), tensor->end());
  }
  const std::vector<float> served = f_->CurrentParameters(f_["bank-a"]);
  ASSERT_EQ(exported.size(), served.size());
  EXPECT_EQ(std::memcmp(exported.data(), served.data(), 4 * served.size()), 0);
  EXPECT_EQ(served.front(), 5.0f);
  // Not over a file that is there, unless told so.
  EXPECT_EQ(cli_.Run({"version", "export", "1", "--output", path}), 1);
  EXPECT_THAT(
      cli_.Table({"version", "export", "1", "--output", path, "--force"}),
      HasSubstr("version 1"));
}

TEST_F(CliReadTest, ScheduleCertificatesStoreAndAudit) {
  EXPECT_THAT(cli_.Table({"schedule", "show"}), HasSubstr("manual"));
  EXPECT_EQ(cli_.Document<v1::ScheduleInfo>({"schedule", "show"})["kind"],
            "manual");
  EXPECT_THAT(cli_.Table({"cert", "status"}),
              AllOf(HasSubstr("institution/bank-a"), HasSubstr("operator"),
                    HasSubstr("server"), HasSubstr("issuing-ca"),
                    HasSubstr("root-ca")));
  EXPECT_EQ(cli_.Document<v1::ListCertificatesResponse>(
                    {"cert", "status"})["certificates"]
                .size(),
            6u);
  EXPECT_THAT(cli_.Table({"db", "check", "--deep"}), HasSubstr("all is well"));
  const json check =
      cli_.Document<v1::CheckDatabaseResponse>({"db", "check", "--deep"});
  EXPECT_EQ(check["ok"], true);
  EXPECT_GT(check["blobs_checked"], 0);
  EXPECT_THAT(cli_.Table({"audit", "tail"}),
              AllOf(HasSubstr("round.start"), HasSubstr("operator/admin")));
  const json tail =
      cli_.Document<v1::TailAuditResponse>({"audit", "tail", "--limit", "2"});
  ASSERT_EQ(tail["entries"].size(), 2u);
  const uint64_t seq = tail["entries"][0]["seq"];
  EXPECT_EQ(cli_.Document<v1::TailAuditResponse>(
                    {"audit", "tail", "--after", Cat(seq)})["entries"]
                .size(),
            1u);
  EXPECT_THAT(cli_.Table({"audit", "verify"}),
              HasSubstr("signed by the coordinator's key"));
  const json audit =
      cli_.Document<v1::VerifyAuditResponse>({"audit", "verify"});
  EXPECT_EQ(audit["ok"], true);
  EXPECT_EQ(audit["entries"], tail["entries"][1]["seq"]);
}

TEST_F(CliReadTest, AnEndedRoundIsWatchedOnce) {
  EXPECT_THAT(cli_.Table({"round", "watch", "1"}),
              HasSubstr("round 1 promoted"));
  EXPECT_EQ(cli_.Run({"round", "watch", "2", "--json"}), 0);
  const json line = cli_.Json();
  EXPECT_EQ(line["event"], "round");
  EXPECT_EQ(line["terminal"], true);
  ExpectFields(line["round"], v1::RoundInfo::descriptor());
}

}  // namespace
}  // namespace consilium

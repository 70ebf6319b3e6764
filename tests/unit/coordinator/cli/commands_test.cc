// Verbs over a fake coordinator: what they ask, print and return.

#include <algorithm>

#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/json.h"
#include "tests/unit/coordinator/cli/cli_harness.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class CommandsTest : public CliTest {
 protected:
  void TwoInstitutions() {
    auto& list = fake_.Answer<v1::ListInstitutionsResponse>("ListInstitutions");
    v1::InstitutionInfo& a = *list.add_institutions();
    a.set_name("bank-a");
    a.set_state("active");
    a.set_connected(true);
    a.set_last_seen_at(MicrosAgo(absl::Minutes(3)));
    a.set_contributions(12);
    v1::InstitutionInfo& b = *list.add_institutions();
    b.set_name("a-much-longer-name");
    b.set_state("suspended");
  }
};

TEST_F(CommandsTest, TablesAreAlignedAndPlainWhenPiped) {
  TwoInstitutions();
  ASSERT_EQ(Run({"institution", "list"}), 0);
  EXPECT_EQ(
      out(),
      "NAME                STATE      CONNECTED  LAST SEEN                     "
      "CONTRIBUTIONS  CERTIFICATE ENDS\n"
      "bank-a              active     yes        2025-12-31 23:57:00 (3m ago)  "
      "           12  -\n"
      "a-much-longer-name  suspended  no         -                             "
      "            0  -\n");
}

TEST_F(CommandsTest, ColoursOnATerminalUnlessNoColor) {
  TwoInstitutions();
  env_.terminal = true;
  ASSERT_EQ(Run({"institution", "list"}), 0);
  EXPECT_THAT(out(), HasSubstr("\x1b[32mactive"));
  variables_["NO_COLOR"] = "1";
  ASSERT_EQ(Run({"institution", "list"}), 0);
  EXPECT_THAT(out(), Not(HasSubstr("\x1b")));
}

TEST_F(CommandsTest, TextFromPeersCannotMoveTheCursor) {
  auto& list = fake_.Answer<v1::ListInstitutionsResponse>("ListInstitutions");
  list.add_institutions()->set_name("a\x1b[2Jb\nc");
  ASSERT_EQ(Run({"institution", "list"}), 0);
  const std::string shown = out();
  EXPECT_THAT(shown, Not(HasSubstr("\x1b")));
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 2);
}

TEST_F(CommandsTest, JsonHasStableNamesAndTypes) {
  auto& round = fake_.Answer<v1::RoundInfo>("GetRound");
  round.set_round(7);
  round.set_phase("collecting");
  round.mutable_base()->set_number(3);
  round.mutable_base()->set_digest(std::string("\x01\xab", 2));
  round.mutable_base()->set_bytes(uint64_t{1} << 40);
  round.set_opened_at(absl::ToUnixMicros(kCliNow) + 5);
  (*round.mutable_settings())["quorum"] = "2";
  v1::MemberInfo& member = *round.add_members();
  member.set_institution("bank-a");
  member.set_progress(-1);
  ASSERT_EQ(Run({"round", "show", "7", "--json"}), 0);
  const nlohmann::json json = Json();
  EXPECT_EQ(json["round"], 7);
  EXPECT_EQ(json["phase"], "collecting");
  EXPECT_EQ(json["base"]["digest"], "01ab");
  EXPECT_EQ(json["base"]["bytes"], uint64_t{1} << 40);
  EXPECT_EQ(json["opened_at"], "2026-01-01T00:00:00.000005Z");
  EXPECT_TRUE(json["finished_at"].is_null());
  EXPECT_TRUE(json["candidate"].is_null());
  EXPECT_EQ(json["settings"]["quorum"], "2");
  EXPECT_TRUE(json["members"][0]["progress"].is_null());
  EXPECT_EQ(json["terminal"], false);
  EXPECT_THAT(fake_.calls, ElementsAre("GetRound round: 7"));
}

TEST_F(CommandsTest, EmptyListsSayWhatToDoNext) {
  for (const char* group : {"institution", "operator", "round", "version"}) {
    ASSERT_EQ(Run({group, "list"}), 0);
    EXPECT_THAT(out(), HasSubstr("consilium ")) << group;
  }
  ASSERT_EQ(Run({"round", "list", "--json"}), 0);
  EXPECT_TRUE(Json()["rounds"].empty());
}

TEST_F(CommandsTest, MistakesOnTheCommandLineAreUsage) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"rond"},
      {"round"},
      {"round", "show", "x"},
      {"round", "show", "-1"},
      {"round", "list", "--limit", "-1"},
      {"round", "extend", "7"},
      {"round", "extend", "7", "--by", "soon"},
      {"round", "start", "--set", "quorum"},
      {"federation", "set", "quorum=1", "quorum=2"},
      {"schedule", "set", "sometimes"},
      {"institution", "invite", "bank-a", "--role", "operator"},
      {"operator", "invite", "eve", "--role", "institution"},
      {"version", "export", "3"},
      {"status", "--timeout", "0"},
      {"db", "restore", "/backup"},
  };
  for (const auto& args : wrong) {
    EXPECT_EQ(Run(args), kExitUsage.code) << (args.empty() ? "" : args.back());
    EXPECT_THAT(err(), StartsWith("consilium: "));
  }
  EXPECT_THAT(fake_.calls, IsEmpty());
  Run({"rond"});
  EXPECT_THAT(err(), HasSubstr("rond"));
}

TEST_F(CommandsTest, OnlyWhatCameOfConnectingIsAConnectionError) {
  fake_.errors["GetStatus"] = Annotate(
      ConnectionError(absl::PermissionDeniedError("no operator")), "status");
  EXPECT_EQ(Run({"--json", "status"}), kExitConnection.code);
  EXPECT_EQ(Json()["error"]["message"], "status: no operator");
  EXPECT_EQ(Json()["error"]["code"], "PERMISSION_DENIED");
  connect_error_ = absl::PermissionDeniedError("the key may not be read");
  EXPECT_EQ(Run({"round", "list"}), kExitConnection.code);
}

TEST_F(CommandsTest, TimesOfLessThanASecondAreRefused) {
  for (const char* time : {"500ms", "0s", "0", "1500ms", "1us"}) {
    EXPECT_EQ(Run({"institution", "invite", "bank-a", "--expires", time}),
              kExitUsage.code)
        << time;
    EXPECT_THAT(err(), HasSubstr("--expires is \""));
    EXPECT_EQ(Run({"round", "extend", "7", "--by", time}), kExitUsage.code);
    EXPECT_THAT(err(), HasSubstr("must be whole seconds and at least 1s"));
  }
  EXPECT_THAT(fake_.calls, IsEmpty());
  EXPECT_EQ(Run({"round", "extend", "7", "--by", "1000ms"}), 0);
}

TEST_F(CommandsTest, AReasonThatNobodyWouldNoteIsRefused) {
  EXPECT_EQ(Run({"cert", "renew", "--reason", "yearly"}), kExitUsage.code);
  EXPECT_THAT(err(), HasSubstr("--reason is noted only for --server"));
  EXPECT_EQ(Run({"--offline", "cards", "cert", "renew", "--server", "--reason",
                 "yearly"}),
            kExitUsage.code);
  EXPECT_EQ(Run({"cert", "renew", "--server", "--reason", "yearly"}), 0);
}

TEST_F(CommandsTest, AnAuditHeadThatNobodySignedIsAFinding) {
  auto& audit = fake_.Answer<v1::VerifyAuditResponse>("VerifyAudit");
  audit.set_ok(true);
  audit.set_entries(7);
  audit.set_head_hash(std::string(64, 'a'));
  EXPECT_EQ(Run({"audit", "verify"}), 0);
  EXPECT_THAT(out(), HasSubstr("not checked, no signing_key is named"));
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random_));
  signing_key_ = key.verify_key();
  EXPECT_EQ(Run({"audit", "verify"}), 1);
  EXPECT_THAT(out(), HasSubstr("finding: the coordinator did not sign"));
  EXPECT_EQ(Run({"audit", "verify", "--json"}), 1);
  EXPECT_EQ(Json()["ok"], false);
}

TEST_F(CommandsTest, ErrorsHaveExitCodesAndAJsonForm) {
  const std::map<absl::StatusCode, int> codes = {
      {absl::StatusCode::kNotFound, 1},
      {absl::StatusCode::kFailedPrecondition, 1},
      {absl::StatusCode::kInvalidArgument, 2},
      {absl::StatusCode::kUnavailable, 1},
      {absl::StatusCode::kUnauthenticated, 1},
      {absl::StatusCode::kPermissionDenied, 1},
      {absl::StatusCode::kDeadlineExceeded, 4},
  };
  for (const auto& [status, code] : codes) {
    fake_.errors["GetStatus"] = absl::Status(status, "because");
    EXPECT_EQ(Run({"status"}), code);
    EXPECT_EQ(err(), "consilium: because\n");
    EXPECT_EQ(out(), "");
    EXPECT_EQ(Run({"--json", "status"}), code);
    EXPECT_EQ(Json()["error"]["message"], "because");
    EXPECT_EQ(Json()["error"]["exit_code"], code);
    EXPECT_EQ(Json()["error"]["code"], absl::StatusCodeToString(status));
  }
}

TEST_F(CommandsTest, NoConnectionIsItsOwnExitCode) {
  connect_error_ = absl::NotFoundError("no configuration at /x");
  EXPECT_EQ(Run({"status"}), kExitConnection.code);
  EXPECT_THAT(err(), HasSubstr("no configuration"));
}

TEST_F(CommandsTest, HelpShowsExamplesAndExitCodes) {
  EXPECT_EQ(Run({"--help"}), 0);
  for (const ExitCode& code : kExitCodes) {
    EXPECT_THAT(out(), HasSubstr(code.meaning));
  }
  EXPECT_EQ(Run({"round", "extend", "--help"}), 0);
  EXPECT_THAT(out(), HasSubstr("Example:\n  consilium round extend"));
  EXPECT_THAT(fake_.calls, IsEmpty());
}

TEST_F(CommandsTest, GlobalOptionsMayFollowTheVerb) {
  GlobalOptions seen;
  const auto connect = env_.connect;
  env_.connect = [&](const GlobalOptions& options, const CliEnvironment& env) {
    seen = options;
    return connect(options, env);
  };
  ASSERT_EQ(Run({"status", "--timeout", "5", "--coordinator", "h:1"}), 0);
  EXPECT_EQ(seen.timeout_seconds, 5u);
  EXPECT_EQ(seen.coordinator, "h:1");
}

TEST_F(CommandsTest, ACertificateThatEndsSoonIsToldOnStandardError) {
  CertificateInfo own;
  own.not_before = kCliNow - absl::Hours(24 * 300);
  own.not_after = kCliNow + absl::Hours(24 * 12);
  const auto connect = env_.connect;
  env_.connect = [&](const GlobalOptions& options, const CliEnvironment& env) {
    absl::StatusOr<AdminSession> session = connect(options, env);
    session->own = own;
    return session;
  };
  const auto hint =
      AllOf(HasSubstr("your certificate ends 2026-01-13"), HasSubstr("in 12d"),
            HasSubstr("`consilium cert renew`"));
  ASSERT_EQ(Run({"status"}), 0);
  EXPECT_THAT(err(), hint);
  EXPECT_THAT(out(), Not(HasSubstr("your certificate")));
  ASSERT_EQ(Run({"status", "--json"}), 0);
  EXPECT_THAT(err(), hint);
  EXPECT_TRUE(Json().is_object());
  own.not_after = kCliNow + absl::Hours(24 * 31);
  ASSERT_EQ(Run({"status"}), 0);
  EXPECT_EQ(err(), "");
}

TEST_F(CommandsTest, DestructiveVerbsChangeNothingWithoutYes) {
  auto& round = fake_.Answer<v1::RoundInfo>("GetRound");
  round.set_round(7);
  round.set_phase("collecting");
  round.set_contributions(1);
  (*round.mutable_settings())["quorum"] = "2";
  fake_.Answer<v1::ContributionInfo>("GetContribution").set_state("folded");
  fake_.Answer<v1::FederationInfo>("GetFederation")
      .mutable_current()
      ->set_number(9);
  auto& staff = fake_.Answer<v1::ListOperatorsResponse>("ListOperators");
  const auto add = [&staff](const char* name, const char* role) {
    v1::OperatorInfo& info = *staff.add_operators();
    info.set_name(name);
    info.set_role(role);
    info.set_state("active");
    info.set_certificate_not_after(absl::ToUnixMicros(kCliNow) + 1);
  };
  add("admin", "operator");
  add("eve", "auditor");
  const std::vector<std::vector<std::string>> verbs = {
      {"institution", "revoke", "bank-a"},
      {"operator", "revoke", "eve"},
      {"round", "cancel", "7"},
      {"round", "close-now", "7"},
      {"version", "rollback", "3"},
      {"version", "promote", "4"},
      {"contribution", "quarantine", "3fa"},
  };
  // What would be refused is not promised.
  EXPECT_EQ(Run({"version", "promote", "9"}), 1);
  EXPECT_THAT(err(), HasSubstr("version 9 is current already"));
  EXPECT_EQ(Run({"operator", "revoke", "admin"}), 1);
  EXPECT_THAT(err(), HasSubstr("admin is the last operator"));
  EXPECT_EQ(Run({"operator", "revoke", "nobody"}), 1);
  EXPECT_THAT(err(), HasSubstr("there is no operator or auditor \"nobody\""));
  for (std::vector<std::string> args : verbs) {
    fake_.calls.clear();
    EXPECT_EQ(Run(args), 0);
    EXPECT_THAT(out(), AllOf(HasSubstr(" would:\n  - "),
                             HasSubstr("Nothing was changed")));
    args.push_back("--json");
    EXPECT_EQ(Run(args), 0);
    EXPECT_EQ(Json()["dry_run"], true);
    EXPECT_FALSE(Json()["would"].empty());
    for (const std::string& call : fake_.calls) {
      EXPECT_THAT(call, AnyOf(StartsWith("Get"), StartsWith("List")));
    }
  }
}

TEST_F(CommandsTest, DestructiveVerbsActWithYesAndRecordTheReason) {
  const std::map<std::string, std::vector<std::string>> verbs = {
      {"SetInstitutionState name: \"bank-a\" change: REVOKE reason: \"why\"",
       {"institution", "revoke", "bank-a"}},
      {"RevokeOperator name: \"eve\" reason: \"why\"",
       {"operator", "revoke", "eve"}},
      {"CancelRound round: 7 reason: \"why\"", {"round", "cancel", "7"}},
      {"CloseRound round: 7 reason: \"why\"", {"round", "close-now", "7"}},
      {"RollbackVersion number: 3 reason: \"why\"",
       {"version", "rollback", "3"}},
      {"PromoteVersion number: 9 reason: \"why\"", {"version", "promote", "9"}},
      {"QuarantineContribution id: \"3fa\" reason: \"why\"",
       {"contribution", "quarantine", "3fa"}},
  };
  for (const auto& [call, verb] : verbs) {
    fake_.calls.clear();
    std::vector<std::string> args = verb;
    args.insert(args.end(), {"--yes", "--reason", "why"});
    EXPECT_EQ(Run(args), 0) << err();
    EXPECT_THAT(fake_.calls, ElementsAre(call));
  }
}

TEST_F(CommandsTest, ChangesAreSentAsTyped) {
  const std::map<std::string, std::vector<std::string>> verbs = {
      {"SetFederation policy { key: \"training.note\" value: \"a=b\" } reason: "
       "\"r\"",
       {"federation", "set", "training.note=a=b", "--reason", "r"}},
      {"StartRound overrides { key: \"quorum\" value: \"2\" } cohort: \"a\" "
       "cohort: \"b\" reason: \"r\"",
       {"round", "start", "--set", "quorum=2", "--institution", "a",
        "--institution", "b", "--reason", "r"}},
      {"ExtendRound round: 7 seconds: 900 reason: \"r\"",
       {"round", "extend", "7", "--by", "15m", "--reason", "r"}},
      {"SetSchedule kind: \"cron\" expression: \"0 3 * * 1-5\" time_zone: "
       "\"Europe/Berlin\"",
       {"schedule", "set", "cron", "0 3 * * 1-5", "--time-zone",
        "Europe/Berlin"}},
      {"PauseSchedule paused: true", {"schedule", "pause"}},
      {"PauseSchedule ", {"schedule", "resume"}},
      {"SetInstitutionState name: \"a\" change: SUSPEND",
       {"institution", "suspend", "a"}},
      {"ReplayRound round: 7 exclude: \"b\"",
       {"round", "replay", "7", "--exclude", "b"}},
      {"BackupDatabase directory: \"/b\"", {"db", "backup", "/b"}},
      {"TailAudit limit: 20 after: 4", {"audit", "tail", "--after", "4"}},
      {"DiffVersions a: 1 b: 2", {"version", "diff", "1", "2"}},
      {"ListContributions round: 7 institution: \"a\" limit: 50",
       {"contribution", "list", "--round", "7", "--institution", "a"}},
      {"InviteOperator name: \"eve\" role: \"auditor\" "
       "token_lifetime_seconds: 3600",
       {"operator", "invite", "eve", "--role", "auditor", "--expires", "1h"}},
      {"RenewServerCertificate ", {"cert", "renew", "--server"}},
  };
  fake_.Answer<v1::ReplayRoundResponse>("ReplayRound")
      .mutable_candidate()
      ->set_number(4);
  for (const auto& [call, args] : verbs) {
    fake_.calls.clear();
    EXPECT_EQ(Run(args), 0) << err();
    EXPECT_THAT(fake_.calls, ElementsAre(call));
  }
}

TEST_F(CommandsTest, InvitationIsACommandToCopy) {
  auto& answer =
      fake_.Answer<v1::InviteInstitutionResponse>("InviteInstitution");
  answer.set_token("cst1-abc");
  answer.set_enrollment_address("0.0.0.0:8444");
  answer.set_ca_fingerprint("f00d");
  ASSERT_EQ(Run({"institution", "invite", "bank-a", "--expires", "2h",
                 "--label", "region=eu"}),
            0);
  EXPECT_THAT(fake_.calls,
              ElementsAre(HasSubstr("token_lifetime_seconds: 7200")));
  // The wildcard address is replaced by where the coordinator is.
  EXPECT_THAT(out(), AllOf(HasSubstr("--coordinator fl.example.org:8444"),
                           HasSubstr("--token cst1-abc"),
                           HasSubstr("--ca-fingerprint f00d")));
}

TEST_F(CommandsTest, BadFindingsAreExitCodeOne) {
  // The default answers say ok = false, equal = false.
  EXPECT_EQ(Run({"db", "check"}), 1);
  EXPECT_EQ(Run({"contribution", "verify", "3fa"}), 1);
  EXPECT_EQ(Run({"audit", "verify"}), 1);
  EXPECT_EQ(Run({"round", "replay", "7"}), 1);
  EXPECT_EQ(err(), "");
  fake_.Answer<v1::RoundPlan>("PlanRound").add_problems("no base version");
  EXPECT_EQ(Run({"round", "plan"}), 1);
  EXPECT_THAT(out(), HasSubstr("problem: no base version"));
  fake_.Answer<v1::CheckDatabaseResponse>("CheckDatabase").set_ok(true);
  EXPECT_EQ(Run({"db", "check", "--json"}), 0);
  EXPECT_EQ(Json()["ok"], true);
}

TEST_F(CommandsTest, CompletionKnowsTheTree) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    ASSERT_EQ(Run({"completion", shell}), 0);
    EXPECT_THAT(out(), AllOf(HasSubstr("close-now"), HasSubstr("rollback"),
                             HasSubstr("reason")))
        << shell;
  }
  EXPECT_EQ(Run({"completion", "csh"}), kExitUsage.code);
}

TEST(OutputTest, AgesAndWidths) {
  Style style;
  style.now = kCliNow;
  style.zone = absl::UTCTimeZone();
  EXPECT_EQ(style.Age(MicrosAgo(absl::Seconds(59))), "59s ago");
  EXPECT_EQ(style.Age(MicrosAgo(absl::Hours(47))), "47h ago");
  EXPECT_EQ(style.Age(MicrosAgo(absl::Hours(49))), "2d ago");
  EXPECT_EQ(style.Age(MicrosAgo(-absl::Minutes(5))), "in 5m");
  EXPECT_EQ(style.When(0), "-");
  EXPECT_EQ(DisplayWidth("\x1b[1mZ\xc3\xbcrich\x1b[0m"), 6u);
  EXPECT_EQ(CutToWidth("\x1b[1mZ\xc3\xbcrich\x1b[0m", 2),
            "\x1b[1mZ\xc3\xbc\x1b[0m");
  EXPECT_EQ(CutToWidth("short", 80), "short");
}

TEST(JsonTest, ObjectsEscapeAndKeepOrder) {
  EXPECT_EQ(JsonObject()
                .Text("z", "a\"\n\xff")
                .Number("a", 18446744073709551615u)
                .Bool("t", true)
                .Texts("l", {"x"})
                .Raw("r", "{}")
                .ToString(),
            "{\"z\":\"a\\\"\\n\xEF\xBF\xBD\",\"a\":18446744073709551615,"
            "\"t\":true,\"l\":[\"x\"],\"r\":{}}");
}

}  // namespace
}  // namespace consilium

// Exit codes, help, completion and roles of the `consilium` command.

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "coordinator/cli/exit_codes.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Every verb there is.
const std::vector<std::vector<std::string>> kVerbs = {
    {"init"},
    {"adapter", "import"},
    {"adapter", "export"},
    {"status"},
    {"federation", "show"},
    {"federation", "set"},
    {"institution", "invite"},
    {"institution", "list"},
    {"institution", "show"},
    {"institution", "suspend"},
    {"institution", "resume"},
    {"institution", "revoke"},
    {"operator", "invite"},
    {"operator", "list"},
    {"operator", "revoke"},
    {"round", "plan"},
    {"round", "start"},
    {"round", "list"},
    {"round", "show"},
    {"round", "watch"},
    {"round", "extend"},
    {"round", "close-now"},
    {"round", "cancel"},
    {"round", "replay"},
    {"contribution", "list"},
    {"contribution", "show"},
    {"contribution", "quarantine"},
    {"contribution", "release"},
    {"contribution", "verify"},
    {"version", "list"},
    {"version", "show"},
    {"version", "promote"},
    {"version", "rollback"},
    {"version", "export"},
    {"version", "import"},
    {"version", "diff"},
    {"schedule", "show"},
    {"schedule", "set"},
    {"schedule", "pause"},
    {"schedule", "resume"},
    {"cert", "status"},
    {"cert", "renew"},
    {"cert", "renew-issuer"},
    {"db", "check"},
    {"db", "backup"},
    {"db", "restore"},
    {"audit", "tail"},
    {"audit", "verify"},
    {"completion"},
};

std::string Words(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    CatInto(out, out.empty() ? "" : " ", word);
  }
  return out;
}

// What a bash command writes; "" when it fails.
std::string Bash(const std::string& script) {
  FILE* const pipe = ::popen(Cat("bash -c '", script, "' 2>&1").c_str(), "r");
  if (pipe == nullptr) return "";
  std::string out;
  std::array<char, 4096> buffer;
  for (size_t n; (n = ::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.append(buffer.data(), n);
  }
  return ::pclose(pipe) == 0 ? out : Cat("failed: ", out);
}

TEST(CliExitTest, EachCodeAndWhatGivesIt) {
  TestFederation f;
  f.Enroll("bank-a");
  OperatorCli cli(f);
  EXPECT_EQ(cli.Run({"status"}), kExitOk.code);
  // Refused, or not there.
  EXPECT_EQ(cli.Run({"round", "show", "99"}), kExitFailed.code);
  EXPECT_EQ(cli.Run({"round", "start"}), kExitFailed.code);
  EXPECT_THAT(cli.err(), HasSubstr("the quorum is 2, only 1"));
  // A wrong line, found here; a wrong value, found there.
  EXPECT_EQ(cli.Run({"round", "show", "x"}), kExitUsage.code);
  EXPECT_EQ(cli.Run({"institution", "invite", "Bank A"}), kExitUsage.code);
  EXPECT_EQ(cli.Run({"federation", "set", "quorum=-1"}), kExitUsage.code);
  // Nobody there; somebody who may not; somebody who is not known.
  const std::string config = JoinPath(cli.directory(), "operator/config.toml");
  EXPECT_EQ(cli.RunAs(config, {"status", "--coordinator", "127.0.0.1:1"}),
            kExitConnection.code);
  const std::string institution = cli.ConfigFor(JoinPath(f.dir(), "bank-a"));
  EXPECT_EQ(cli.RunAs(institution, {"status"}), kExitConnection.code);
  EXPECT_THAT(cli.err(), HasSubstr("needs the role operator or auditor"));
  EXPECT_EQ(cli.RunAs(JoinPath(f.dir(), "none.toml"), {"status"}),
            kExitConnection.code);
  ASSERT_OK(f.SetState("bank-a", v1::SetInstitutionStateRequest::REVOKE, ""));
  EXPECT_EQ(cli.RunAs(institution, {"status", "--json"}), kExitConnection.code);
  EXPECT_EQ(cli.Json()["error"]["code"], "UNAUTHENTICATED");
  EXPECT_EQ(cli.Json()["error"]["exit_code"], kExitConnection.code);
  // Time is up.
  EXPECT_EQ(cli.Run({"round", "watch", "--timeout", "1"}), kExitTimeout.code);
  EXPECT_THAT(cli.err(), HasSubstr("--timeout passed, and no round is under"));
  // The coordinator answers, and it is its own disk that does not do.
  EXPECT_EQ(cli.Run({"db", "backup", "/sys/backup"}), kExitFailed.code);
  EXPECT_THAT(cli.err(), Not(HasSubstr("cannot reach")));
  f.Stop();
}

TEST(CliExitTest, AnAuditorReadsAndChangesNothing) {
  TestFederation f;
  f.Enroll("bank-a");
  client::EnrollOptions enroll;
  enroll.coordinator = f.enrollment_address();
  enroll.token = f.Token("watcher", "auditor");
  enroll.ca_fingerprint = f.fingerprint();
  enroll.directory = JoinPath(f.dir(), "watcher");
  enroll.proxy = "none";
  const auto enrolled = client::Enroll(enroll);
  ASSERT_THAT(enrolled.status(), IsOk());
  EXPECT_EQ(enrolled->uri, "consilium://cards/auditor/watcher");
  OperatorCli cli(f);
  // What enrolment left is what the command needs, but for the test's port.
  EXPECT_EQ(cli.RunAs(enrolled->config_path,
                      {"status", "--coordinator", f.address()}),
            0)
      << cli.err();
  const std::string auditor = cli.ConfigFor(enroll.directory);
  EXPECT_EQ(cli.RunAs(auditor, {"audit", "verify"}), 0) << cli.err();
  EXPECT_EQ(cli.RunAs(auditor, {"round", "list"}), 0) << cli.err();
  EXPECT_EQ(cli.RunAs(auditor, {"version", "export", "0", "--output",
                                JoinPath(f.dir(), "v0.safetensors")}),
            0)
      << cli.err();
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{
           {"round", "start"},
           {"federation", "set", "quorum=1"},
           {"institution", "revoke", "bank-a", "--yes"},
           {"schedule", "pause"},
           {"cert", "renew", "--server"},
           {"db", "backup", "/tmp/x"}}) {
    EXPECT_EQ(cli.RunAs(auditor, verb), kExitConnection.code) << Words(verb);
    EXPECT_THAT(cli.err(), HasSubstr("needs the role operator")) << Words(verb);
  }
  // Nor is it asked to train.
  const auto plan = cli.Run({"round", "plan", "--json"});
  EXPECT_EQ(plan, 1);
  EXPECT_EQ(cli.Json()["cohort"], nlohmann::json({"bank-a"}));
  EXPECT_THAT(cli.Table({"institution", "list"}),
              HasSubstr("active (auditor)"));
  // Its certificate can be taken away.
  ASSERT_EQ(cli.Run({"operator", "revoke", "watcher", "--yes"}), 0);
  EXPECT_EQ(cli.RunAs(auditor, {"round", "list"}), kExitConnection.code);
}

TEST(CliExitTest, EveryVerbHasHelpWithAnExample) {
  TestFederation f;
  OperatorCli cli(f);
  for (const std::vector<std::string>& verb : kVerbs) {
    std::vector<std::string> args = verb;
    args.push_back("--help");
    EXPECT_EQ(cli.Run(args), 0) << Words(verb);
    const size_t at = cli.out().find("Example:\n");
    ASSERT_NE(at, std::string::npos) << Words(verb);
    EXPECT_THAT(cli.out().substr(at), HasSubstr("consilium")) << Words(verb);
    EXPECT_THAT(cli.out().substr(at), HasSubstr(Words(verb))) << Words(verb);
  }
  ASSERT_EQ(cli.Run({"--help"}), 0);
  for (const ExitCode& exit : kExitCodes) {
    EXPECT_THAT(cli.out(), HasSubstr(Cat("  ", exit.code, "  ", exit.meaning)));
  }
}

TEST(CliExitTest, BashCompletesEveryVerb) {
  TestFederation f;
  OperatorCli cli(f);
  ASSERT_EQ(cli.Run({"completion", "bash"}), 0);
  const std::string script = JoinPath(f.dir(), "completion.bash");
  ASSERT_OK(WriteFileAtomic(f.fs(), script, AsBytes(cli.out())));
  EXPECT_EQ(Bash(Cat("bash -n ", script)), "");
  const auto complete = [&](const std::string& line) {
    return Bash(Cat("source ", script, "; COMP_WORDS=(consilium ", line,
                    " \"\"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
                    "_consilium; echo \" ${COMPREPLY[*]} \""));
  };
  for (const std::vector<std::string>& verb : kVerbs) {
    EXPECT_THAT(complete(verb.size() == 1 ? "" : verb.front()),
                HasSubstr(Cat(" ", verb.back(), " ")));
  }
  EXPECT_THAT(complete("round extend"),
              AllOf(HasSubstr(" --by "), HasSubstr(" --json ")));
  EXPECT_EQ(cli.Run({"completion", "zsh"}), 0);
  EXPECT_EQ(cli.Run({"completion", "fish"}), 0);
  EXPECT_EQ(cli.Run({"completion", "csh"}), kExitUsage.code);
}

}  // namespace
}  // namespace consilium

// contribution list|show|quarantine|release|verify

#include <algorithm>
#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

constexpr size_t kShortId = 12;

absl::Status List(Cli& cli, const v1::ListContributionsRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::ListContributionsResponse response,
                             cli.Call(&AdminApi::ListContributions, request));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.contributions().empty()) {
      out << "No contributions here. Rounds with some: consilium round list\n";
      return;
    }
    const Style style = cli.style();
    Table table({{"ID"},
                 {"ROUND", Align::kRight},
                 {"INSTITUTION"},
                 {"STATE", Align::kState},
                 {"SIZE", Align::kRight},
                 {"EXAMPLES", Align::kRight},
                 {"NORM", Align::kRight},
                 {"COMMITTED"},
                 {"REASON"}});
    for (const v1::ContributionInfo& c : response.contributions()) {
      table.Row({c.id().substr(0, kShortId), Cat(c.round()), c.institution(),
                 c.state(), FormatBytes(c.payload_bytes()), Cat(c.examples()),
                 FormatNumber(c.norm()), style.When(c.committed_at()),
                 c.reason()});
    }
    table.Print(out, style);
  });
}

void Print(std::ostream& out, const Style& style,
           const v1::ContributionInfo& c) {
  Fields()
      .Add("id", c.id())
      .Add("round", Cat(c.round(), ", attempt ", c.attempt()))
      .Add("institution", c.institution())
      .State("state", c.state())
      .Add("reason", c.reason())
      .Add("size", FormatBytes(c.payload_bytes()))
      .Add("digest", HexEncode(AsBytes(c.payload_digest())))
      .Add("sealed", c.sealed() ? "yes" : "no")
      .Add("examples", Cat(c.examples()))
      .Add("norm", FormatNumber(c.norm()))
      .Add("begun", style.When(c.begun_at()))
      .Add("committed", style.When(c.committed_at()))
      .Add("receipt", c.has_receipt() ? "signed" : "none")
      .Add("upload on disk", c.spool_present() ? "yes" : "no, deleted")
      .Add("metrics", FormatMetrics(c.metrics(), "", 16))
      .Print(out, style);
}

absl::Status ShowState(Cli& cli, const v1::ContributionInfo& c) {
  return cli.Show(c, [&](std::ostream& out) {
    out << c.id().substr(0, kShortId) << " of " << c.institution() << " is "
        << PaintState(cli.style(), c.state()) << "\n";
  });
}

absl::Status Quarantine(Cli& cli, const std::string& id,
                        const Confirmation& confirmation) {
  if (!confirmation.yes) {
    v1::GetContributionRequest get;
    get.set_id(id);
    CONSILIUM_ASSIGN_OR_RETURN(const v1::ContributionInfo c,
                               cli.Call(&AdminApi::GetContribution, get));
    std::vector<std::string> would = {
        Cat("keep ", c.id().substr(0, kShortId), " of ", c.institution(),
            ", which is ", c.state(), ", out of round ", c.round())};
    if (c.state() == "folded") {
      v1::GetRoundRequest round;
      round.set_round(c.round());
      CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info,
                                 cli.Call(&AdminApi::GetRound, round));
      if (info.has_candidate()) {
        would.push_back(Cat("mark version ", info.candidate().number(),
                            ", which holds it, and every version built on it "
                            "as tainted"));
      }
      would.push_back(
          Cat("change no version; make one without it with `consilium round "
              "replay ",
              c.round(), " --exclude ", c.institution(), "`"));
    }
    cli.Confirmed(confirmation,
                  Cat("contribution quarantine ", c.id().substr(0, kShortId)),
                  would);
    return absl::OkStatus();
  }
  v1::QuarantineContributionRequest request;
  request.set_id(id);
  request.set_reason(confirmation.reason);
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::ContributionInfo c,
      cli.Call(&AdminApi::QuarantineContribution, request));
  return ShowState(cli, c);
}

absl::Status Verify(Cli& cli, const v1::VerifyContributionRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::VerifyContributionResponse response,
                             cli.Call(&AdminApi::VerifyContribution, request));
  if (!response.ok()) cli.AnswerIsBad();
  return cli.Show(response, [&](std::ostream& out) {
    for (const std::string& finding : response.findings()) {
      out << "finding: " << finding << "\n";
    }
    out << response.chunks() << " chunks read in "
        << FormatDuration(absl::Seconds(response.seconds()))
        << (response.ok() ? ": all is well.\n"
                          : ": not as it was committed.\n");
  });
}

}  // namespace

void AddContributionCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("contribution", "What institutions sent");
  struct ListArgs {
    uint64_t round = 0;
    uint64_t limit = 50;
    std::string institution;
  };
  const auto list = std::make_shared<ListArgs>();
  group
      .Verb("list", "Contributions of a round",
            "consilium contribution list --round 7")
      .Option("--round", &list->round, "N", "default: the newest round")
      .Option("--institution", &list->institution, "NAME", "only of this one")
      .Option("--limit", &list->limit, "N", "at most so many (default 50)")
      .Action(cli, [&cli, list] {
        v1::ListContributionsRequest request;
        request.set_round(list->round);
        request.set_institution(list->institution);
        request.set_limit(
            static_cast<uint32_t>(std::min<uint64_t>(list->limit, 10000)));
        return List(cli, request);
      });

  constexpr const char* kIdHelp = "its id, or the first digits of it";
  const auto get = std::make_shared<v1::GetContributionRequest>();
  group.Verb("show", "One contribution", "consilium contribution show 3fa9c1")
      .Argument("ID", get->mutable_id(), kIdHelp)
      .Action(cli, [&cli, get]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const v1::ContributionInfo c,
                                   cli.Call(&AdminApi::GetContribution, *get));
        return cli.Show(c,
                        [&](std::ostream& out) { Print(out, cli.style(), c); });
      });

  struct QuarantineArgs {
    std::string id;
    Confirmation confirmation;
  };
  const auto quarantine = std::make_shared<QuarantineArgs>();
  group
      .Verb("quarantine", "Keep a contribution out, also after the fact",
            "consilium contribution quarantine 3fa9c1 --reason \"mislabelled\" "
            "--yes")
      .Argument("ID", &quarantine->id, kIdHelp)
      .Destructive(&quarantine->confirmation)
      .Action(cli, [&cli, quarantine] {
        return Quarantine(cli, quarantine->id, quarantine->confirmation);
      });

  const auto release = std::make_shared<v1::ReleaseContributionRequest>();
  group
      .Verb("release", "Lift a quarantine",
            "consilium contribution release 3fa9c1 --reason \"checked\"")
      .Argument("ID", release->mutable_id(), kIdHelp)
      .Reason(release->mutable_reason())
      .Action(cli, [&cli, release]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            const v1::ContributionInfo c,
            cli.Call(&AdminApi::ReleaseContribution, *release));
        return ShowState(cli, c);
      });

  const auto verify = std::make_shared<v1::VerifyContributionRequest>();
  group
      .Verb("verify",
            "Read its upload again: seals, digest, checks, receipt. Exit code "
            "1 when something is wrong",
            "consilium contribution verify 3fa9c1")
      .Argument("ID", verify->mutable_id(), kIdHelp)
      .Action(cli, [&cli, verify] { return Verify(cli, *verify); });
}

}  // namespace consilium

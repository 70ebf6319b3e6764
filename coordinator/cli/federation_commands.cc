// status, federation, schedule.

#include <map>
#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

std::string ScheduleText(const v1::ScheduleInfo& schedule) {
  std::string out = schedule.kind();
  if (!schedule.expression().empty()) {
    CatInto(out, " ", schedule.expression());
  }
  if (schedule.kind() == "cron") CatInto(out, " ", schedule.time_zone());
  if (schedule.paused()) out += ", paused";
  return out;
}

std::string RoundText(const v1::RoundInfo& round) {
  return Cat(round.round(), " ", round.phase(),
             round.reason().empty() ? "" : ": ", round.reason());
}

void PrintStatus(std::ostream& out, const Style& style,
                 const v1::StatusInfo& s) {
  Fields fields;
  fields.Add("federation", s.federation())
      .Add("coordinator", s.started_at() > 0 ? Cat(s.software(), ", up since ",
                                                   style.When(s.started_at()))
                                             : s.software())
      .Add("current version", s.has_current()
                                  ? FormatVersion(s.current())
                                  : "none; import one with `consilium "
                                    "version import FILE --layout FILE`")
      .Add("institutions", Cat(s.institutions_active(), " active, ",
                               s.institutions_connected(), " connected"));
  if (s.has_live_round()) {
    fields.Add("live round", RoundText(s.live_round()))
        .Add("  waits", s.live_round().waiting_for())
        .Add("  deadline", style.When(s.live_round().deadline()));
  }
  if (s.has_last_round()) {
    fields.Add("last round", RoundText(s.last_round()))
        .Add("  ended", style.When(s.last_round().finished_at()))
        .Add("  metrics", FormatMetrics(s.last_round().metrics(), "evaluate."));
  }
  fields.Add("schedule", ScheduleText(s.schedule()));
  if (s.schedule().next_at() > 0 && !s.schedule().paused()) {
    fields.Add("  next round", style.When(s.schedule().next_at()));
  }
  fields.Add("sealing", SealingText(s.sealing()))
      .Add("disk", Cat(FormatBytes(s.disk_free_bytes()), " free, ",
                       FormatBytes(s.blob_bytes()), " versions, ",
                       FormatBytes(s.spool_bytes()), " uploads, ",
                       FormatBytes(s.disk_reserved_bytes()), " reserved"));
  if (s.resident_bytes() > 0) {
    fields.Add("memory", FormatBytes(s.resident_bytes()));
  }
  for (const v1::CertificateInfo& c : s.certificates()) {
    fields.Add(Cat(c.role(), " certificate"),
               c.not_after() == 0
                   ? c.state()
                   : Cat(c.state(), ", ends ", style.When(c.not_after())));
  }
  fields.Print(out, style);
  for (const std::string& warning : s.warnings()) {
    out << "warning: " << warning << "\n";
  }
}

void PrintFederation(std::ostream& out, const Style& style,
                     const v1::FederationInfo& f) {
  Fields fields;
  fields.Add("name", f.name())
      .Add("created", style.When(f.created_at()))
      .Add("current version",
           f.has_current() ? FormatVersion(f.current()) : "none")
      .Add("layout", HexEncode(AsBytes(f.layout_digest())));
  if (f.layout_slots() > 0) {
    fields.Add("  holds", Cat(f.layout_slots(), " tensors, ", f.layout_groups(),
                              " groups, ", f.layout_elements(), " numbers"));
  }
  fields.Add("sealing", SealingText(f.sealing()))
      .Add("root CA", f.root_ca_fingerprint())
      .Add("signing key", HexEncode(AsBytes(f.signing_public_key())))
      .Print(out, style);
  out << "\n";
  Table policy({{"POLICY"}, {"VALUE"}});
  const std::map<std::string, std::string> sorted(f.policy().begin(),
                                                  f.policy().end());
  for (const auto& [key, value] : sorted) policy.Row({key, value});
  policy.Print(out, style);
}

void PrintSchedule(std::ostream& out, const Style& style,
                   const v1::ScheduleInfo& s) {
  Fields()
      .Add("schedule", ScheduleText(s))
      .Add("next round", s.paused()        ? "none until `schedule resume`"
                         : s.next_at() > 0 ? style.When(s.next_at())
                                           : "when somebody starts it")
      .Print(out, style);
}

absl::Status SetSchedule(Cli& cli, const v1::SetScheduleRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::ScheduleInfo schedule,
                             cli.Call(&AdminApi::SetSchedule, request));
  return cli.Show(schedule, [&](std::ostream& out) {
    PrintSchedule(out, cli.style(), schedule);
  });
}

}  // namespace

void AddStatusCommands(CommandGroup root, Cli& cli) {
  root.Verb("status", "How the federation and its coordinator are",
            "consilium status")
      .Action(cli, [&cli]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            const v1::StatusInfo status,
            cli.Call(&AdminApi::GetStatus, v1::GetStatusRequest()));
        return cli.Show(status, [&](std::ostream& out) {
          PrintStatus(out, cli.style(), status);
        });
      });
}

void AddFederationCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("federation", "The federation's policy");
  group
      .Verb("show", "Name, layout, keys and policy",
            "consilium federation show --json")
      .Action(cli, [&cli]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            const v1::FederationInfo federation,
            cli.Call(&AdminApi::GetFederation, v1::GetFederationRequest()));
        return cli.Show(federation, [&](std::ostream& out) {
          PrintFederation(out, cli.style(), federation);
        });
      });

  struct Args {
    std::vector<std::string> settings;
    std::string reason;
  };
  const auto args = std::make_shared<Args>();
  group
      .Verb("set",
            "Change the policy; rounds that are planned from now on use it",
            "consilium federation set quorum=2 deadline=15m "
            "training.epochs=3 --reason \"two sites suffice\"")
      .Argument("KEY=VALUE", &args->settings,
                "keys as `federation show` lists them")
      .Reason(&args->reason)
      .Action(cli, [&cli, args]() -> absl::Status {
        v1::SetFederationRequest request;
        CONSILIUM_RETURN_IF_ERROR(
            AddSettings(args->settings, request.mutable_policy()));
        request.set_reason(args->reason);
        CONSILIUM_ASSIGN_OR_RETURN(const v1::FederationInfo federation,
                                   cli.Call(&AdminApi::SetFederation, request));
        return cli.Show(federation, [&](std::ostream& out) {
          for (const auto& [key, value] : request.policy()) {
            const auto now = federation.policy().find(key);
            out << key << " = "
                << (now == federation.policy().end() ? "(removed)"
                                                     : now->second)
                << "\n";
          }
        });
      });
}

void AddScheduleCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("schedule", "When rounds begin");
  group
      .Verb("show", "The schedule and the next round",
            "consilium schedule show")
      .Action(cli, [&cli]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            const v1::ScheduleInfo schedule,
            cli.Call(&AdminApi::GetSchedule, v1::GetScheduleRequest()));
        return cli.Show(schedule, [&](std::ostream& out) {
          PrintSchedule(out, cli.style(), schedule);
        });
      });

  const auto request = std::make_shared<v1::SetScheduleRequest>();
  group
      .Verb("set", "Replace the schedule",
            "consilium schedule set cron \"0 3 * * 1-5\" --time-zone "
            "Europe/Berlin\n  consilium schedule set every 15m\n  consilium "
            "schedule set continuous")
      .Argument("KIND", request->mutable_kind(),
                "manual, every, cron or continuous")
      .OneOf({"manual", "every", "cron", "continuous"})
      .OptionalArgument("EXPRESSION", request->mutable_expression(),
                        "a duration for every, five fields for cron")
      .Option("--time-zone", request->mutable_time_zone(), "ZONE",
              "IANA name, for cron (default UTC)")
      .Reason(request->mutable_reason())
      .Action(cli, [&cli, request] { return SetSchedule(cli, *request); });

  for (const bool paused : {true, false}) {
    const auto reason = std::make_shared<std::string>();
    group
        .Verb(paused ? "pause" : "resume",
              paused ? "Begin no rounds by schedule; a live one goes on"
                     : "Begin rounds by schedule again",
              paused ? "consilium schedule pause --reason \"maintenance\""
                     : "consilium schedule resume")
        .Reason(reason.get())
        .Action(cli, [&cli, paused, reason]() -> absl::Status {
          v1::PauseScheduleRequest request;
          request.set_paused(paused);
          request.set_reason(*reason);
          CONSILIUM_ASSIGN_OR_RETURN(
              const v1::ScheduleInfo schedule,
              cli.Call(&AdminApi::PauseSchedule, request));
          return cli.Show(schedule, [&](std::ostream& out) {
            PrintSchedule(out, cli.style(), schedule);
          });
        });
  }
}

}  // namespace consilium

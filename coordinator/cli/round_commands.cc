// round plan|start|list|show|watch|extend|close-now|cancel|replay

#include <algorithm>
#include <map>
#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

struct PlanArgs {
  std::vector<std::string> settings;
  std::vector<std::string> cohort;
  std::string reason;
};

std::string Join(const google::protobuf::RepeatedPtrField<std::string>& items) {
  std::string out;
  for (const std::string& item : items) {
    CatInto(out, out.empty() ? "" : ", ", item);
  }
  return out;
}

std::string Took(const v1::RoundInfo& r) {
  if (r.opened_at() == 0 || r.finished_at() == 0) return "-";
  return FormatDuration(absl::Microseconds(r.finished_at() - r.opened_at()));
}

void PrintSettings(
    std::ostream& out, const Style& style,
    const google::protobuf::Map<std::string, std::string>& settings) {
  Table table({{"SETTING"}, {"VALUE"}});
  const std::map<std::string, std::string> sorted(settings.begin(),
                                                  settings.end());
  for (const auto& [key, value] : sorted) table.Row({key, value});
  table.Print(out, style);
}

absl::Status Plan(Cli& cli, const PlanArgs& args) {
  v1::PlanRoundRequest request;
  CONSILIUM_RETURN_IF_ERROR(
      AddSettings(args.settings, request.mutable_overrides()));
  request.mutable_cohort()->Assign(args.cohort.begin(), args.cohort.end());
  CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundPlan plan,
                             cli.Call(&AdminApi::PlanRound, request));
  if (!plan.problems().empty()) cli.AnswerIsBad();
  return cli.Show(plan, [&](std::ostream& out) {
    const Style style = cli.style();
    Fields()
        .Add("round", Cat(plan.round()))
        .Add("base version",
             plan.has_base() ? FormatVersion(plan.base()) : "none")
        .Add("institutions", Join(plan.cohort()))
        .Add("left out", Join(plan.left_out()))
        .Add("deadline", style.When(plan.deadline()))
        .Add("sealing", SealingText(plan.sealing()))
        .Add("upload each", FormatBytes(plan.upload_bytes_each()))
        .Add("disk needed", Cat(FormatBytes(plan.spool_bytes()), " of ",
                                FormatBytes(plan.disk_free_bytes()), " free"))
        .Print(out, style);
    out << "\n";
    PrintSettings(out, style, plan.settings());
    for (const std::string& problem : plan.problems()) {
      out << "problem: " << problem << "\n";
    }
    if (plan.problems().empty()) {
      out << "\nNothing was changed. Start it: consilium round start\n";
    }
  });
}

absl::Status Start(Cli& cli, const PlanArgs& args) {
  v1::StartRoundRequest request;
  CONSILIUM_RETURN_IF_ERROR(
      AddSettings(args.settings, request.mutable_overrides()));
  request.mutable_cohort()->Assign(args.cohort.begin(), args.cohort.end());
  request.set_reason(args.reason);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo round,
                             cli.Call(&AdminApi::StartRound, request));
  return cli.Show(round, [&](std::ostream& out) {
    out << "Round " << round.round() << " is " << round.phase() << " with "
        << round.members_size() << " institutions.";
    if (round.deadline() > 0) {
      out << " Deadline " << cli.style().When(round.deadline()) << ".";
    }
    out << "\nFollow it: consilium round watch " << round.round() << "\n";
  });
}

absl::Status List(Cli& cli, const v1::ListRoundsRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::ListRoundsResponse response,
                             cli.Call(&AdminApi::ListRounds, request));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.rounds().empty()) {
      out << (request.before() > 0
                  ? "No rounds before that one.\n"
                  : "No rounds yet. Start one: consilium round start\n");
      return;
    }
    const Style style = cli.style();
    Table table({{"ROUND", Align::kRight},
                 {"PHASE", Align::kState},
                 {"BASE", Align::kRight},
                 {"VERSION", Align::kRight},
                 {"CONTRIBUTIONS", Align::kRight},
                 {"BYTES", Align::kRight},
                 {"STARTED"},
                 {"TOOK"},
                 {"RESULT"}});
    for (const v1::RoundInfo& r : response.rounds()) {
      std::string result = FormatMetrics(r.metrics(), "evaluate.", 3);
      if (result.empty()) result = r.reason();
      table.Row({Cat(r.round()), r.phase(), Cat(r.base().number()),
                 r.has_candidate() ? Cat(r.candidate().number()) : "-",
                 Cat(r.contributions()), FormatBytes(r.contributed_bytes()),
                 style.When(r.opened_at()), Took(r), result});
    }
    table.Print(out, style);
  });
}

void PrintMembers(std::ostream& out, const Style& style,
                  const v1::RoundInfo& r) {
  if (r.members().empty()) return;
  out << "\n";
  Table table({{"INSTITUTION"},
               {"STATE", Align::kState},
               {"UPLOADED", Align::kRight},
               {"UPDATED"},
               {"NOTE"}});
  for (const v1::MemberInfo& m : r.members()) {
    table.Row({m.institution(), m.state(), FormatBytes(m.uploaded_bytes()),
               style.When(m.updated_at()),
               m.reason().empty() ? m.progress_text() : m.reason()});
  }
  table.Print(out, style);
}

void PrintRound(std::ostream& out, const Style& style, const v1::RoundInfo& r,
                bool settings) {
  Fields fields;
  fields.Add("round", Cat(r.round(), ", attempt ", r.attempt()))
      .State("phase", r.phase())
      .Add("reason", r.reason())
      .Add("waits", r.waiting_for())
      .Add("base version", FormatVersion(r.base()));
  if (r.has_candidate()) {
    fields.Add("version", FormatVersion(r.candidate()));
  }
  fields
      .Add("contributions",
           Cat(r.contributions(), ", ", FormatBytes(r.contributed_bytes())))
      .Add("trigger", r.trigger());
  const auto when = [&](const char* name, int64_t at) {
    if (at > 0) fields.Add(name, style.When(at));
  };
  when("planned", r.planned_at());
  when("opened", r.opened_at());
  when("deadline", r.deadline());
  when("closed", r.closed_at());
  when("evaluation deadline", r.eval_deadline());
  when("ended", r.finished_at());
  if (r.elements_per_frame() > 0) {
    fields.Add("frames of", Cat(r.elements_per_frame(), " elements"));
  }
  fields
      .Add("sealing", r.sealed() ? Cat("on, key ", r.round_key_state())
                                 : SealingText(false))
      .Add("training", FormatMetrics(r.metrics(), "train.", 8))
      .Add("evaluation", FormatMetrics(r.metrics(), "evaluate.", 8))
      .Add("fold", FormatMetrics(r.metrics(), "aggregate.", 8));
  int held = 0;
  for (const v1::GroupReport& group : r.groups()) held += group.held() ? 1 : 0;
  if (!r.groups().empty()) {
    fields.Add("release groups", Cat(r.groups_size(), ", ", held, " held"));
  }
  fields.Print(out, style);
  PrintMembers(out, style, r);
  if (!r.events().empty()) {
    out << "\n";
    Table table({{"AT"}, {"EVENT"}, {"INSTITUTION"}, {"DETAIL"}});
    for (const v1::RoundEvent& e : r.events()) {
      table.Row({style.When(e.at()), e.kind(), e.institution(), e.detail()});
    }
    table.Print(out, style);
  }
  if (settings) {
    out << "\n";
    PrintSettings(out, style, r.settings());
  }
}

absl::StatusOr<v1::RoundInfo> Get(Cli& cli, uint64_t round) {
  v1::GetRoundRequest request;
  request.set_round(round);
  return cli.Call(&AdminApi::GetRound, request);
}

absl::Status ShowChange(Cli& cli, const v1::RoundInfo& round,
                        std::string_view done) {
  return cli.Show(round, [&](std::ostream& out) {
    out << "Round " << round.round() << " " << done;
    if (!round.terminal()) {
      out << "; it is " << PaintState(cli.style(), round.phase());
      if (round.deadline() > 0) {
        out << ", deadline " << cli.style().When(round.deadline());
      }
    }
    out << ".\n";
  });
}

std::string Contributed(const v1::RoundInfo& round) {
  const auto quorum = round.settings().find("quorum");
  return Cat(round.contributions(), " contributions",
             quorum == round.settings().end()
                 ? ""
                 : Cat(" of a quorum of ", quorum->second));
}

// What the call itself would refuse is no use as a plan.
absl::Status MustBeLive(const v1::RoundInfo& round) {
  if (!round.terminal()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      Cat("round ", round.round(), " has ended already: it is ", round.phase(),
          "; see `consilium round list`"));
}

absl::Status CloseNow(Cli& cli, uint64_t round,
                      const Confirmation& confirmation) {
  if (!confirmation.yes) {
    CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info, Get(cli, round));
    CONSILIUM_RETURN_IF_ERROR(MustBeLive(info));
    std::vector<std::string> would = {
        Cat("take no more contributions to round ", info.round(), ", which is ",
            info.phase()),
        Cat("fold what is there: ", Contributed(info),
            "; below the quorum this is refused")};
    for (const v1::MemberInfo& m : info.members()) {
      if (m.state() == "training" || m.state() == "uploading") {
        would.push_back(
            Cat("leave out ", m.institution(), ", which is ", m.state()));
      }
    }
    cli.Confirmed(confirmation, Cat("round close-now ", info.round()), would);
    return absl::OkStatus();
  }
  v1::CloseRoundRequest request;
  request.set_round(round);
  request.set_reason(confirmation.reason);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info,
                             cli.Call(&AdminApi::CloseRound, request));
  return ShowChange(cli, info, "takes no more contributions");
}

absl::Status Cancel(Cli& cli, uint64_t round,
                    const Confirmation& confirmation) {
  if (!confirmation.yes) {
    CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info, Get(cli, round));
    CONSILIUM_RETURN_IF_ERROR(MustBeLive(info));
    cli.Confirmed(confirmation, Cat("round cancel ", info.round()),
                  {Cat("end round ", info.round(), ", which is ", info.phase(),
                       ", without a version"),
                   Cat("leave ", Contributed(info), " unused")});
    return absl::OkStatus();
  }
  v1::CancelRoundRequest request;
  request.set_round(round);
  request.set_reason(confirmation.reason);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info,
                             cli.Call(&AdminApi::CancelRound, request));
  return ShowChange(cli, info, "was cancelled");
}

absl::Status Extend(Cli& cli, v1::ExtendRoundRequest request,
                    const std::string& by) {
  CONSILIUM_ASSIGN_OR_RETURN(const uint64_t seconds, WholeSeconds("--by", by));
  request.set_seconds(seconds);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo info,
                             cli.Call(&AdminApi::ExtendRound, request));
  return ShowChange(cli, info, Cat("has ", by, " more"));
}

absl::Status Replay(Cli& cli, const v1::ReplayRoundRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::ReplayRoundResponse replay,
                             cli.Call(&AdminApi::ReplayRound, request));
  const bool candidate = replay.has_candidate();
  if (!candidate && !replay.equal()) cli.AnswerIsBad();
  return cli.Show(replay, [&](std::ostream& out) {
    Fields fields;
    fields.Add("folded", Join(replay.contributions()))
        .Add("recorded", HexEncode(AsBytes(replay.recorded_digest())))
        .Add("replayed", HexEncode(AsBytes(replay.replayed_digest())))
        .Add("took", FormatDuration(absl::Seconds(replay.seconds())));
    if (candidate) {
      fields.Add("candidate", FormatVersion(replay.candidate()));
    }
    fields.Print(out, cli.style());
    if (candidate) {
      out << "To serve it: consilium version promote "
          << replay.candidate().number() << "\n";
    } else {
      out << (replay.equal() ? "The same bits: the version is what its "
                               "contributions give.\n"
                             : "The bits differ from the recorded version.\n");
    }
  });
}

void AddPlanAndStart(CommandGroup group, Cli& cli) {
  for (const bool start : {false, true}) {
    const auto args = std::make_shared<PlanArgs>();
    Command verb = group.Verb(
        start ? "start" : "plan",
        start ? "Begin a round now" : "What `round start` would do",
        start ? "consilium round start --set quorum=2 --reason \"new data\""
              : "consilium round plan --set deadline=30m --institution bank-a");
    verb.Option("--set", &args->settings, "KEY=VALUE",
                "a setting of this round only; repeatable");
    verb.Option("--institution", &args->cohort, "NAME",
                "only these (default: every active one); repeatable");
    if (start) verb.Reason(&args->reason);
    verb.Action(cli, [&cli, args, start] {
      return start ? Start(cli, *args) : Plan(cli, *args);
    });
  }
}

void AddLists(CommandGroup group, Cli& cli) {
  struct ListArgs {
    uint64_t before = 0;
    uint64_t limit = 20;
  };
  const auto list = std::make_shared<ListArgs>();
  group.Verb("list", "Rounds, the newest first", "consilium round list")
      .Option("--before", &list->before, "N", "only rounds older than this one")
      .Option("--limit", &list->limit, "N", "at most so many (default 20)")
      .Action(cli, [&cli, list] {
        v1::ListRoundsRequest request;
        request.set_before(list->before);
        request.set_limit(
            static_cast<uint32_t>(std::min<uint64_t>(list->limit, 10000)));
        return List(cli, request);
      });

  struct ShowArgs {
    uint64_t round = 0;
    bool events = false;
    bool settings = false;
  };
  const auto show = std::make_shared<ShowArgs>();
  group
      .Verb("show", "One round: phase, institutions, metrics",
            "consilium round show 7 --events")
      .OptionalArgument("N", &show->round, "its number (default: the newest)")
      .Flag("--events", &show->events, "also everything that happened")
      .Flag("--settings", &show->settings, "also the settings it ran with")
      .Action(cli, [&cli, show]() -> absl::Status {
        v1::GetRoundRequest request;
        request.set_round(show->round);
        request.set_events(show->events);
        CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo round,
                                   cli.Call(&AdminApi::GetRound, request));
        return cli.Show(round, [&](std::ostream& out) {
          PrintRound(out, cli.style(), round, show->settings);
        });
      });

  struct WatchArgs {
    uint64_t round = 0;
    bool follow = false;
  };
  const auto watch = std::make_shared<WatchArgs>();
  group
      .Verb("watch",
            "Follow a round live: what each institution does and why the "
            "round waits. Exit code 1 when it ends without a new version",
            "consilium round watch\n  consilium round watch 7 --json")
      .OptionalArgument("N", &watch->round,
                        "its number (default: the live one, or the next)")
      .Flag("--follow", &watch->follow, "go on with every later round")
      .Action(cli, [&cli, watch] {
        return WatchRound(cli, watch->round, watch->follow);
      });
}

}  // namespace

void AddRoundCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("round", "Rounds of training");
  AddPlanAndStart(group, cli);
  AddLists(group, cli);

  struct ExtendArgs {
    uint64_t round = 0;
    std::string by;
    std::string reason;
  };
  const auto extend = std::make_shared<ExtendArgs>();
  group
      .Verb("extend", "Move the deadline of a live round",
            "consilium round extend 7 --by 15m --reason \"bank-b is slow\"")
      .Argument("N", &extend->round, "its number")
      .Option("--by", &extend->by, "DURATION", "how much later")
      .Required()
      .Reason(&extend->reason)
      .Action(cli, [&cli, extend] {
        v1::ExtendRoundRequest request;
        request.set_round(extend->round);
        request.set_reason(extend->reason);
        return Extend(cli, request, extend->by);
      });

  for (const bool cancel : {false, true}) {
    struct Args {
      uint64_t round = 0;
      Confirmation confirmation;
    };
    const auto args = std::make_shared<Args>();
    group
        .Verb(cancel ? "cancel" : "close-now",
              cancel ? "End a live round without a version"
                     : "Fold what is there, without waiting longer",
              cancel ? "consilium round cancel 7 --reason \"wrong data\" --yes"
                     : "consilium round close-now 7 --yes")
        .Argument("N", &args->round, "its number")
        .Destructive(&args->confirmation)
        .Action(cli, [&cli, args, cancel] {
          return cancel ? Cancel(cli, args->round, args->confirmation)
                        : CloseNow(cli, args->round, args->confirmation);
        });
  }

  struct ReplayArgs {
    uint64_t round = 0;
    std::vector<std::string> exclude;
    std::string reason;
  };
  const auto replay = std::make_shared<ReplayArgs>();
  group
      .Verb("replay",
            "Fold a round's uploads again and compare; with --exclude, make a "
            "new candidate without some",
            "consilium round replay 7\n  consilium round replay 7 --exclude "
            "bank-b --reason \"mislabelled\"")
      .Argument("N", &replay->round, "its number")
      .Option("--exclude", &replay->exclude, "NAME",
              "leave this institution out; repeatable")
      .Reason(&replay->reason)
      .Action(cli, [&cli, replay] {
        v1::ReplayRoundRequest request;
        request.set_round(replay->round);
        request.mutable_exclude()->Assign(replay->exclude.begin(),
                                          replay->exclude.end());
        request.set_reason(replay->reason);
        return Replay(cli, request);
      });
}

}  // namespace consilium

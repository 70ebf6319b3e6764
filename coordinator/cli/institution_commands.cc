// institution invite|list|show|suspend|resume|revoke

#include <map>
#include <memory>

#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/invitation.h"

namespace consilium {
namespace {

std::string Labels(const v1::InstitutionInfo& info) {
  std::string out;
  const std::map<std::string, std::string> sorted(info.labels().begin(),
                                                  info.labels().end());
  for (const auto& [key, value] : sorted) {
    CatInto(out, out.empty() ? "" : " ", key, "=", value);
  }
  return out;
}

std::string StateText(const v1::InstitutionInfo& info) {
  return Cat(info.state(), info.role() == "auditor" ? " (auditor)" : "");
}

void PrintInstitution(std::ostream& out, const Style& style,
                      const v1::InstitutionInfo& info) {
  Fields()
      .Add("name", info.name())
      .State("state", StateText(info))
      .Add("connected", info.connected() ? "yes" : "no")
      .Add("runs", info.software())
      .Add("last seen", style.When(info.last_seen_at()))
      .Add("contributions", Cat(info.contributions()))
      .Add("labels", Labels(info))
      .Add("invited", style.When(info.created_at()))
      .Add("certificate ends", style.When(info.certificate_not_after()))
      .Print(out, style);
  if (info.certificates().empty()) return;
  out << "\n";
  Table table({{"SERIAL"}, {"STATE", Align::kState}, {"ENDS"}});
  for (const v1::CertificateInfo& c : info.certificates()) {
    table.Row({c.serial(), c.state(), style.When(c.not_after())});
  }
  table.Print(out, style);
}

absl::Status List(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::ListInstitutionsResponse response,
      cli.Call(&AdminApi::ListInstitutions, v1::ListInstitutionsRequest()));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.institutions().empty()) {
      out << "No institutions yet. Invite the first: consilium institution "
             "invite NAME\n";
      return;
    }
    const Style style = cli.style();
    Table table({{"NAME"},
                 {"STATE", Align::kState},
                 {"CONNECTED"},
                 {"LAST SEEN"},
                 {"CONTRIBUTIONS", Align::kRight},
                 {"CERTIFICATE ENDS"}});
    for (const v1::InstitutionInfo& i : response.institutions()) {
      table.Row({i.name(), StateText(i), i.connected() ? "yes" : "no",
                 style.When(i.last_seen_at()), Cat(i.contributions()),
                 style.When(i.certificate_not_after())});
    }
    table.Print(out, style);
  });
}

struct InviteArgs {
  v1::InviteInstitutionRequest request;
  std::string expires;
  std::vector<std::string> labels;
};

absl::Status Invite(Cli& cli, const InviteArgs& args) {
  v1::InviteInstitutionRequest request = args.request;
  CONSILIUM_ASSIGN_OR_RETURN(const uint64_t lifetime,
                             TokenLifetime(args.expires));
  request.set_token_lifetime_seconds(lifetime);
  CONSILIUM_RETURN_IF_ERROR(AddSettings(args.labels, request.mutable_labels()));
  CONSILIUM_ASSIGN_OR_RETURN(v1::InviteInstitutionResponse invitation,
                             cli.Call(&AdminApi::InviteInstitution, request));
  return ShowInvitation(cli, request.name(), std::move(invitation));
}

absl::Status SetState(Cli& cli, const v1::SetInstitutionStateRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::InstitutionInfo info,
                             cli.Call(&AdminApi::SetInstitutionState, request));
  return cli.Show(info, [&](std::ostream& out) {
    out << info.name() << " is " << PaintState(cli.style(), info.state())
        << "\n";
  });
}

absl::Status Revoke(Cli& cli, const std::string& name,
                    const Confirmation& confirmation) {
  if (!confirmation.yes) {
    v1::GetInstitutionRequest get;
    get.set_name(name);
    CONSILIUM_ASSIGN_OR_RETURN(const v1::InstitutionInfo info,
                               cli.Call(&AdminApi::GetInstitution, get));
    int live = 0;
    for (const v1::CertificateInfo& c : info.certificates()) {
      if (c.state() == "valid" || c.state() == "expiring") ++live;
    }
    cli.Confirmed(
        confirmation, Cat("institution revoke ", name),
        {Cat("make ", name, ", which is ", info.state(), ", revoked for good"),
         Cat("revoke ", live,
             " certificates; live connections end with their "
             "next message"),
         Cat("keep its ", info.contributions(),
             " contributions in the versions that hold them")});
    return absl::OkStatus();
  }
  v1::SetInstitutionStateRequest request;
  request.set_name(name);
  request.set_change(v1::SetInstitutionStateRequest::REVOKE);
  request.set_reason(confirmation.reason);
  return SetState(cli, request);
}

}  // namespace

void AddInstitutionCommands(CommandGroup root, Cli& cli) {
  CommandGroup group =
      root.Group("institution", "Who takes part in the federation");
  const auto invite = std::make_shared<InviteArgs>();
  group
      .Verb("invite", "A one-time token with which an institution enrols",
            "consilium institution invite bank-a --expires 48h --label "
            "region=eu")
      .Argument("NAME", invite->request.mutable_name(),
                "1 to 63 of a-z, 0-9 and '-'")
      .Option("--expires", &invite->expires, "DURATION",
              "until when the token works (default: the coordinator's)")
      .Option("--label", &invite->labels, "KEY=VALUE",
              "a note about the institution; repeatable")
      .Option("--role", invite->request.mutable_role(), "ROLE",
              "institution (default) or auditor, who may only read")
      .OneOf({"institution", "auditor"})
      .Action(cli, [&cli, invite] { return Invite(cli, *invite); });
  group.Verb("list", "Every institution", "consilium institution list --json")
      .Action(cli, [&cli] { return List(cli); });

  const auto get = std::make_shared<v1::GetInstitutionRequest>();
  group.Verb("show", "One institution", "consilium institution show bank-a")
      .Argument("NAME", get->mutable_name(), "its name")
      .Action(cli, [&cli, get]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const v1::InstitutionInfo info,
                                   cli.Call(&AdminApi::GetInstitution, *get));
        return cli.Show(info, [&](std::ostream& out) {
          PrintInstitution(out, cli.style(), info);
        });
      });

  for (const bool suspend : {true, false}) {
    const auto request = std::make_shared<v1::SetInstitutionStateRequest>();
    request->set_change(suspend ? v1::SetInstitutionStateRequest::SUSPEND
                                : v1::SetInstitutionStateRequest::RESUME);
    group
        .Verb(suspend ? "suspend" : "resume",
              suspend ? "Leave it out of rounds; it keeps its certificate"
                      : "Let it take part again",
              suspend ? "consilium institution suspend bank-a --reason "
                        "\"data under review\""
                      : "consilium institution resume bank-a")
        .Argument("NAME", request->mutable_name(), "its name")
        .Reason(request->mutable_reason())
        .Action(cli, [&cli, request] { return SetState(cli, *request); });
  }

  struct RevokeArgs {
    std::string name;
    Confirmation confirmation;
  };
  const auto revoke = std::make_shared<RevokeArgs>();
  group
      .Verb("revoke", "Shut it out for good",
            "consilium institution revoke bank-a --reason \"key lost\" --yes")
      .Argument("NAME", &revoke->name, "its name")
      .Destructive(&revoke->confirmation)
      .Action(cli, [&cli, revoke] {
        return Revoke(cli, revoke->name, revoke->confirmation);
      });
}

}  // namespace consilium

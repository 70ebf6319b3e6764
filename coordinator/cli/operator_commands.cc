// operator invite|list|revoke

#include <memory>
#include <utility>

#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/invitation.h"

namespace consilium {
namespace {

struct InviteArgs {
  v1::InviteOperatorRequest request;
  std::string expires;
};

absl::Status Invite(Cli& cli, const InviteArgs& args) {
  v1::InviteOperatorRequest request = args.request;
  CONSILIUM_ASSIGN_OR_RETURN(const uint64_t lifetime,
                             TokenLifetime(args.expires));
  request.set_token_lifetime_seconds(lifetime);
  CONSILIUM_ASSIGN_OR_RETURN(v1::InviteInstitutionResponse invitation,
                             cli.Call(&AdminApi::InviteOperator, request));
  return ShowInvitation(cli, request.name(), std::move(invitation));
}

absl::Status List(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::ListOperatorsResponse response,
      cli.Call(&AdminApi::ListOperators, v1::ListOperatorsRequest()));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.operators().empty()) {
      out << "No operator that the history knows. Invite one: consilium "
             "operator invite NAME\n";
      return;
    }
    const Style style = cli.style();
    Table table({{"NAME"},
                 {"ROLE"},
                 {"STATE", Align::kState},
                 {"LAST SEEN"},
                 {"CERTIFICATE ENDS"}});
    for (const v1::OperatorInfo& o : response.operators()) {
      table.Row({o.name(), o.role(), o.state(), style.When(o.last_seen_at()),
                 style.When(o.certificate_not_after())});
    }
    table.Print(out, style);
  });
}

absl::Status Revoke(Cli& cli, const std::string& name,
                    const Confirmation& confirmation) {
  if (!confirmation.yes) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const v1::ListOperatorsResponse all,
        cli.Call(&AdminApi::ListOperators, v1::ListOperatorsRequest()));
    const int64_t now = absl::ToUnixMicros(cli.env().clock->Now());
    const v1::OperatorInfo* found = nullptr;
    int others = 0;
    for (const v1::OperatorInfo& o : all.operators()) {
      if (o.name() == name) {
        found = &o;
      } else if (o.role() == "operator" && o.state() == "active" &&
                 o.certificate_not_after() > now) {
        ++others;
      }
    }
    if (found == nullptr) {
      return absl::NotFoundError(Cat("there is no operator or auditor ",
                                     Quoted(name),
                                     "; see `consilium operator list`"));
    }
    if (found->role() == "operator" && found->state() == "active" &&
        others == 0) {
      return absl::FailedPreconditionError(
          Cat(name,
              " is the last operator, and nobody could undo it; first "
              "`consilium operator invite` another one, who then enrols"));
    }
    cli.Confirmed(confirmation, Cat("operator revoke ", name),
                  {Cat("make the ", found->role(), " ", name, ", who is ",
                       found->state(), ", revoked for good"),
                   Cat("revoke the certificates (", found->certificates_size(),
                       "); live connections end with their next message")});
    return absl::OkStatus();
  }
  v1::RevokeOperatorRequest request;
  request.set_name(name);
  request.set_reason(confirmation.reason);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::OperatorInfo info,
                             cli.Call(&AdminApi::RevokeOperator, request));
  return cli.Show(info, [&](std::ostream& out) {
    out << info.name() << " is " << PaintState(cli.style(), info.state())
        << "\n";
  });
}

}  // namespace

void AddOperatorCommands(CommandGroup root, Cli& cli) {
  CommandGroup group =
      root.Group("operator", "Who steers the federation, and who may read");
  const auto invite = std::make_shared<InviteArgs>();
  group
      .Verb("invite", "A one-time token with which an operator enrols",
            "consilium operator invite eve --role auditor --expires 48h")
      .Argument("NAME", invite->request.mutable_name(),
                "1 to 63 of a-z, 0-9 and '-'")
      .Option("--expires", &invite->expires, "DURATION",
              "until when the token works (default: the coordinator's)")
      .Option("--role", invite->request.mutable_role(), "ROLE",
              "operator (default) or auditor, who may only read")
      .OneOf({"operator", "auditor"})
      .Action(cli, [&cli, invite] { return Invite(cli, *invite); });
  group
      .Verb("list", "Every operator and auditor",
            "consilium operator list --json")
      .Action(cli, [&cli] { return List(cli); });
  struct RevokeArgs {
    std::string name;
    Confirmation confirmation;
  };
  const auto revoke = std::make_shared<RevokeArgs>();
  group
      .Verb("revoke", "Shut an operator or auditor out for good",
            "consilium operator revoke eve --reason \"left\" --yes")
      .Argument("NAME", &revoke->name, "its name")
      .Destructive(&revoke->confirmation)
      .Action(cli, [&cli, revoke] {
        return Revoke(cli, revoke->name, revoke->confirmation);
      });
}

}  // namespace consilium

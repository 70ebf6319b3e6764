// version list|show|promote|rollback|export|import|diff

#include <algorithm>
#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

std::string StateText(const v1::VersionInfo& v) {
  return Cat(v.state(), v.current() ? " (current)" : "",
             v.tainted() ? " (tainted)" : "");
}

absl::Status List(Cli& cli, const v1::ListVersionsRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::ListVersionsResponse response,
                             cli.Call(&AdminApi::ListVersions, request));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.versions().empty()) {
      out << "No versions yet. Give the federation its first parameters: "
             "consilium version import FILE --layout FILE\n";
      return;
    }
    const Style style = cli.style();
    Table table({{"VERSION", Align::kRight},
                 {"STATE", Align::kState},
                 {"ROUND", Align::kRight},
                 {"PARENT", Align::kRight},
                 {"SIZE", Align::kRight},
                 {"DIGEST"},
                 {"CREATED"},
                 {"METRICS"}});
    for (const v1::VersionInfo& v : response.versions()) {
      table.Row(
          {Cat(v.version().number()), StateText(v),
           v.round() > 0 ? Cat(v.round()) : "-",
           v.has_parent() ? Cat(v.parent()) : "-",
           v.blob_present() ? FormatBytes(v.version().bytes()) : "deleted",
           ShortDigest(v.version().digest()), style.When(v.created_at()),
           FormatMetrics(v.metrics(), "", 3)});
    }
    table.Print(out, style);
  });
}

void Print(std::ostream& out, const Style& style, const v1::VersionInfo& v) {
  std::string contributors;
  for (const std::string& name : v.contributors()) {
    CatInto(contributors, contributors.empty() ? "" : ", ", name);
  }
  Fields()
      .Add("version", Cat(v.version().number()))
      .State("state", StateText(v))
      .Add("reason", v.reason())
      .Add("digest", HexEncode(AsBytes(v.version().digest())))
      .Add("size", FormatBytes(v.version().bytes()))
      .Add("parameters", v.blob_present() ? "stored" : "deleted by retention")
      .Add("parent", v.has_parent() ? Cat(v.parent()) : "none")
      .Add("round", v.round() > 0 ? Cat(v.round()) : "none, imported")
      .Add("contributors", contributors)
      .Add("created", style.When(v.created_at()))
      .Add("promoted", style.When(v.promoted_at()))
      .Add("metrics", FormatMetrics(v.metrics(), "", 16))
      .Print(out, style);
  if (v.groups().empty()) return;
  out << "\n";
  Table table({{"GROUP"},
               {"CONTRIBUTORS", Align::kRight},
               {"WEIGHT", Align::kRight},
               {"HELD"}});
  for (const v1::GroupReport& g : v.groups()) {
    table.Row({g.group(), Cat(g.contributors()), FormatNumber(g.weight()),
               g.held() ? "held" : ""});
  }
  table.Print(out, style);
}

absl::StatusOr<v1::VersionInfo> Get(Cli& cli, uint64_t number) {
  v1::GetVersionRequest request;
  request.set_number(number);
  return cli.Call(&AdminApi::GetVersion, request);
}

absl::Status ServeVersion(Cli& cli, uint64_t number, bool rollback,
                          const Confirmation& confirmation) {
  if (!confirmation.yes) {
    CONSILIUM_ASSIGN_OR_RETURN(const v1::VersionInfo v, Get(cli, number));
    CONSILIUM_ASSIGN_OR_RETURN(
        const v1::FederationInfo federation,
        cli.Call(&AdminApi::GetFederation, v1::GetFederationRequest()));
    std::vector<std::string> would = {
        Cat("serve version ", FormatVersion(v.version()), ", which is ",
            StateText(v), ", to every institution")};
    if (federation.has_current()) {
      const uint64_t current = federation.current().number();
      if (current == number) {
        return absl::FailedPreconditionError(
            Cat("version ", number, " is current already"));
      }
      would.push_back(Cat("replace version ", current));
      if (rollback) {
        would.push_back(
            "mark the promoted versions built on it as rolled back; live "
            "rounds that start from one of them end");
      }
    }
    cli.Confirmed(confirmation,
                  Cat("version ", rollback ? "rollback " : "promote ", number),
                  would);
    return absl::OkStatus();
  }
  v1::VersionInfo v;
  if (rollback) {
    v1::RollbackVersionRequest request;
    request.set_number(number);
    request.set_reason(confirmation.reason);
    CONSILIUM_ASSIGN_OR_RETURN(v,
                               cli.Call(&AdminApi::RollbackVersion, request));
  } else {
    v1::PromoteVersionRequest request;
    request.set_number(number);
    request.set_reason(confirmation.reason);
    CONSILIUM_ASSIGN_OR_RETURN(v, cli.Call(&AdminApi::PromoteVersion, request));
  }
  return cli.Show(v, [&](std::ostream& out) {
    out << "Serving version " << FormatVersion(v.version()) << ".\n";
  });
}

absl::Status Diff(Cli& cli, const v1::DiffVersionsRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::DiffVersionsResponse response,
                             cli.Call(&AdminApi::DiffVersions, request));
  return cli.Show(response, [&](std::ostream& out) {
    Table table({{"GROUP"},
                 {"NORM", Align::kRight},
                 {"RELATIVE", Align::kRight},
                 {"LARGEST", Align::kRight},
                 {"CHANGED", Align::kRight},
                 {"ELEMENTS", Align::kRight}});
    for (const v1::GroupDiff& g : response.groups()) {
      table.Row({g.group(), FormatNumber(g.norm()), FormatNumber(g.relative()),
                 FormatNumber(g.max_abs()), Cat(g.changed()),
                 Cat(g.elements())});
    }
    table.Print(out, cli.style());
  });
}

void AddTransfers(CommandGroup group, Cli& cli) {
  struct ExportArgs {
    uint64_t number = 0;
    std::string output;
    bool force = false;
  };
  const auto to = std::make_shared<ExportArgs>();
  group
      .Verb("export",
            "Write a version's parameters as a safetensors file; an "
            "interrupted export goes on where it stopped",
            "consilium version export 8 --output cards-v8.safetensors")
      .Argument("N", &to->number, "its number")
      .Option("--output", &to->output, "FILE", "where to")
      .Required()
      .Flag("--force", &to->force, "replace a file that is there")
      .Action(cli, [&cli, to] {
        return ExportVersion(cli, to->number, to->output, to->force);
      });

  struct ImportArgs {
    std::string file;
    std::string layout;
    Confirmation confirmation;
  };
  const auto from = std::make_shared<ImportArgs>();
  group
      .Verb("import",
            "Serve parameters from a file: the first ones, version 0, or with "
            "--yes in place of the version that is served",
            "consilium version import base.safetensors --layout base.layout")
      .Argument("FILE", &from->file,
                "safetensors: every tensor of the layout, float32")
      .Option("--layout", &from->layout, "FILE", "the canonical layout text")
      .Required()
      .Destructive(&from->confirmation)
      .Action(cli, [&cli, from] {
        return ImportVersion(cli, from->file, from->layout, from->confirmation);
      });
}

}  // namespace

void AddVersionCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("version", "Versions of the parameters");
  const auto limit = std::make_shared<uint64_t>(20);
  group.Verb("list", "Versions, the newest first", "consilium version list")
      .Option("--limit", limit.get(), "N", "at most so many (default 20)")
      .Action(cli, [&cli, limit] {
        v1::ListVersionsRequest request;
        request.set_limit(
            static_cast<uint32_t>(std::min<uint64_t>(*limit, 10000)));
        return List(cli, request);
      });

  const auto number = std::make_shared<uint64_t>(0);
  group
      .Verb("show", "One version and its release groups",
            "consilium version show 8")
      .Argument("N", number.get(), "its number")
      .Action(cli, [&cli, number]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const v1::VersionInfo v, Get(cli, *number));
        return cli.Show(v,
                        [&](std::ostream& out) { Print(out, cli.style(), v); });
      });

  for (const bool rollback : {false, true}) {
    struct Args {
      uint64_t number = 0;
      Confirmation confirmation;
    };
    const auto args = std::make_shared<Args>();
    group
        .Verb(rollback ? "rollback" : "promote",
              rollback ? "Serve an earlier version again"
                       : "Serve a candidate, whatever its evaluation said",
              rollback ? "consilium version rollback 7 --reason \"worse at "
                         "bank-a\" --yes"
                       : "consilium version promote 9 --yes")
        .Argument("N", &args->number, "its number")
        .Destructive(&args->confirmation)
        .Action(cli, [&cli, args, rollback] {
          return ServeVersion(cli, args->number, rollback, args->confirmation);
        });
  }
  AddTransfers(group, cli);

  struct DiffArgs {
    uint64_t a = 0;
    uint64_t b = 0;
  };
  const auto diff = std::make_shared<DiffArgs>();
  group
      .Verb("diff", "How far two versions lie apart, for each release group",
            "consilium version diff 7 8")
      .Argument("A", &diff->a, "the earlier")
      .Argument("B", &diff->b, "the later")
      .Action(cli, [&cli, diff] {
        v1::DiffVersionsRequest request;
        request.set_a(diff->a);
        request.set_b(diff->b);
        return Diff(cli, request);
      });
}

}  // namespace consilium

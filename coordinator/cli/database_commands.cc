// db check|backup|restore, audit tail|verify

#include <memory>

#include "consilium/base/strings.h"
#include "consilium/secure/signing.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/json.h"
#include "coordinator/cli/offline_admin.h"
#include "coordinator/store/maintenance.h"

namespace consilium {
namespace {

absl::Status Check(Cli& cli, bool deep) {
  v1::CheckDatabaseRequest request;
  request.set_deep(deep);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::CheckDatabaseResponse response,
                             cli.Call(&AdminApi::CheckDatabase, request));
  if (!response.ok()) cli.AnswerIsBad();
  return cli.Show(response, [&](std::ostream& out) {
    for (const std::string& finding : response.findings()) {
      out << "finding: " << finding << "\n";
    }
    out << response.rows_checked() << " rows and " << response.blobs_checked()
        << " blobs checked" << (deep ? ", digests too" : "")
        << (response.ok()
                ? ": all is well.\n"
                : Cat(": ", response.findings_size(), " findings.\n"));
  });
}

absl::Status Backup(Cli& cli, const std::string& directory) {
  v1::BackupDatabaseRequest request;
  request.set_directory(directory);
  CONSILIUM_ASSIGN_OR_RETURN(const v1::BackupDatabaseResponse response,
                             cli.Call(&AdminApi::BackupDatabase, request));
  return cli.Show(response, [&](std::ostream& out) {
    out << response.directory() << ": " << FormatBytes(response.bytes())
        << ", database and " << response.blobs() << " blobs"
        << (cli.options().offline.empty() ? ", on the coordinator's host" : "")
        << ".\nKeep identity/ and secrets/ apart from it: they are not in "
           "it.\n";
  });
}

absl::Status Restore(Cli& cli, const std::string& backup, bool force) {
  const std::string& directory = cli.options().offline;
  if (directory.empty()) {
    return absl::InvalidArgumentError(
        "db restore works on a stopped coordinator: name its directory with "
        "--offline DIR");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const CoordinatorConfig config,
                             OfflineConfig(cli.env().fs, directory));
  RestoreOptions options;
  options.fs = cli.env().fs;
  options.backup_dir = backup;
  options.data_dir = config.storage.data_dir;
  options.force = force;
  CONSILIUM_ASSIGN_OR_RETURN(const RestoreReport report,
                             RestoreStore(options, cli.env().clock->Now()));
  if (cli.json()) {
    const auto number = [](int64_t value) {
      return static_cast<uint64_t>(value);
    };
    cli.PrintJson(
        JsonObject()
            .Text("directory", options.data_dir)
            .Number("blobs", number(report.blobs))
            .Number("blob_bytes", number(report.blob_bytes))
            .Number("rounds_cancelled", number(report.rounds_cancelled))
            .Number("contributions_expired",
                    number(report.contributions_expired))
            .Number("tokens_voided", number(report.tokens_voided))
            .Text("created", report.created)
            .Texts("revoked_again", report.revoked_again)
            .Bool("revocations_known", report.revocations_known)
            .ToString());
    return absl::OkStatus();
  }
  cli.out() << options.data_dir << " is restored: " << report.blobs
            << " versions, "
            << FormatBytes(static_cast<uint64_t>(report.blob_bytes)) << ".\n";
  if (report.rounds_cancelled > 0) {
    cli.out() << report.rounds_cancelled
              << " rounds were under way and are cancelled: a backup holds no "
                 "uploads.\n";
  }
  if (report.tokens_voided > 0) {
    cli.out() << report.tokens_voided
              << " enrolment tokens work no more: each may have been used "
                 "since. Invite anew whoever still waits.\n";
  }
  for (const std::string& name : report.revoked_again) {
    cli.out() << name << " was revoked after the backup and still is.\n";
  }
  if (!report.revocations_known) {
    cli.out() << "Revoke again whoever was revoked since " << report.created
              << ": the backup does not know of it.\n";
  }
  return absl::OkStatus();
}

absl::Status Tail(Cli& cli, const v1::TailAuditRequest& request) {
  CONSILIUM_ASSIGN_OR_RETURN(const v1::TailAuditResponse response,
                             cli.Call(&AdminApi::TailAudit, request));
  return cli.Show(response, [&](std::ostream& out) {
    if (response.entries().empty()) {
      out << "No entries"
          << (request.after() > 0 ? " after that one.\n" : " yet.\n");
      return;
    }
    const Style style = cli.style();
    Table table({{"SEQ", Align::kRight},
                 {"AT"},
                 {"ACTOR"},
                 {"ACTION"},
                 {"OBJECT"},
                 {"DETAIL"}});
    for (const v1::AuditEntry& e : response.entries()) {
      table.Row({Cat(e.seq()), style.When(e.at()), e.actor(), e.action(),
                 e.object(), e.detail()});
    }
    table.Print(out, style);
  });
}

// The head's signature by the key this operator has pinned: what to show of it.
// A coordinator that leaves it out is told of as a finding.
absl::StatusOr<std::string> CheckHead(Cli& cli,
                                      v1::VerifyAuditResponse& audit) {
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  if (!cli.options().offline.empty()) {
    return "not checked, a stopped coordinator signs nothing";
  }
  if (!session->signing_key.has_value()) {
    return "not checked, no signing_key is named in the configuration";
  }
  if (audit.head_signature().empty()) {
    audit.set_ok(false);
    audit.set_finding("the coordinator did not sign the head");
    return "missing";
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::FederationInfo federation,
      cli.Call(&AdminApi::GetFederation, v1::GetFederationRequest()));
  AuditHeadStatement statement;
  statement.federation = federation.name();
  statement.seq = audit.entries();
  CONSILIUM_ASSIGN_OR_RETURN(statement.hash,
                             Sha256Digest::FromHex(audit.head_hash()));
  CONSILIUM_ASSIGN_OR_RETURN(const Signature signature,
                             Signature::FromBytes(audit.head_signature()));
  CONSILIUM_RETURN_IF_ERROR(
      VerifyStatement(*session->signing_key, statement, signature));
  return "signed by the coordinator's key";
}

absl::Status VerifyAuditLog(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(
      v1::VerifyAuditResponse response,
      cli.Call(&AdminApi::VerifyAudit, v1::VerifyAuditRequest()));
  std::string head;
  if (response.ok()) {
    CONSILIUM_ASSIGN_OR_RETURN(head, CheckHead(cli, response));
  }
  if (!response.ok()) cli.AnswerIsBad();
  return cli.Show(response, [&](std::ostream& out) {
    if (!response.ok()) {
      out << "finding: " << response.finding() << "\n";
      return;
    }
    Fields()
        .Add("entries", Cat(response.entries()))
        .Add("head", response.head_hash())
        .Add("signature", head)
        .Print(out, cli.style());
    out << "The chain is whole. Note the head elsewhere: a later check must "
           "find it again.\n";
  });
}

}  // namespace

void AddDatabaseCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("db", "The coordinator's store");
  const auto deep = std::make_shared<bool>(false);
  group
      .Verb("check",
            "Rows, files, audit log: do they agree? Exit code 1 when not",
            "consilium db check --deep\n  consilium --offline cards db check")
      .Flag("--deep", deep.get(), "also read every version and its digest")
      .Action(cli, [&cli, deep] { return Check(cli, *deep); });

  const auto directory = std::make_shared<std::string>();
  group
      .Verb("backup", "A consistent copy, also while rounds run",
            "consilium db backup /var/backups/cards-2026-03-01")
      .Argument("DIR", directory.get(),
                "a new directory; a path on the coordinator's host")
      .Action(cli, [&cli, directory] { return Backup(cli, *directory); });

  struct RestoreArgs {
    std::string backup;
    bool force = false;
  };
  const auto restore = std::make_shared<RestoreArgs>();
  group
      .Verb("restore", "Rebuild the data of a stopped coordinator",
            "consilium --offline cards db restore /var/backups/cards-2026-03-01"
            " --force")
      .Argument("BACKUP", &restore->backup, "a directory `db backup` made")
      .Flag("--force", &restore->force,
            "also over data that is there; it is kept as DIR.before-restore")
      .Action(cli, [&cli, restore] {
        return Restore(cli, restore->backup, restore->force);
      });
}

void AddAuditCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("audit", "Who changed what, and why");
  struct TailArgs {
    uint64_t limit = 20;
    uint64_t after = 0;
  };
  const auto args = std::make_shared<TailArgs>();
  group
      .Verb("tail", "The newest entries, or those after one",
            "consilium audit tail --after 120 --json")
      .Option("--limit", &args->limit, "N", "at most so many (default 20)")
      .Option("--after", &args->after, "SEQ", "only entries after this one")
      .Action(cli, [&cli, args] {
        v1::TailAuditRequest request;
        request.set_limit(args->limit);
        request.set_after(args->after);
        return Tail(cli, request);
      });
  group
      .Verb("verify",
            "Recompute the hash chain and check the signed head. Exit code 1 "
            "when it is broken",
            "consilium audit verify")
      .Action(cli, [&cli] { return VerifyAuditLog(cli); });
}

}  // namespace consilium

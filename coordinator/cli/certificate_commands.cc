// cert status|renew|renew-issuer

#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/certificate.h"
#include "coordinator/app/renew.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/offline_admin.h"

namespace consilium {
namespace {

constexpr int64_t kMaxPemBytes = 64 << 10;

// `own`: the caller's serial.
void PrintCertificates(std::ostream& out, const Style& style,
                       const v1::ListCertificatesResponse& response,
                       std::string_view own) {
  Table table(
      {{"ROLE"}, {"STATE", Align::kState}, {"ENDS"}, {"SUBJECT"}, {"SERIAL"}});
  for (const v1::CertificateInfo& c : response.certificates()) {
    table.Row({Cat(c.role(), c.serial() == own ? " (you)" : ""), c.state(),
               style.When(c.not_after()), c.subject(), c.serial()});
  }
  table.Print(out, style);
  bool any = false;
  for (const v1::CertificateInfo& c : response.certificates()) {
    if (c.advice().empty()) continue;
    out << (std::exchange(any, true) ? "" : "\nTo do:\n") << "  "
        << CleanText(Cat(c.role(), " ", c.subject(), ": ", c.advice()), 4096)
        << "\n";
  }
}

absl::Status Status(Cli& cli, bool all) {
  v1::ListCertificatesRequest request;
  request.set_all(all);
  CONSILIUM_ASSIGN_OR_RETURN(v1::ListCertificatesResponse response,
                             cli.Call(&AdminApi::ListCertificates, request));
  // The coordinator's own certificates are not in the store.
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::StatusInfo status,
      cli.Call(&AdminApi::GetStatus, v1::GetStatusRequest()));
  for (const v1::CertificateInfo& c : status.certificates()) {
    *response.add_certificates() = c;
  }
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  return cli.Show(response, [&](std::ostream& out) {
    if (response.certificates().empty()) {
      out << "No valid certificates. Expired and revoked ones: consilium cert "
             "status --all\n";
      return;
    }
    PrintCertificates(out, cli.style(), response,
                      session->own.has_value() ? session->own->serial : "-");
  });
}

// Files of the coordinator that --offline names, to be renewed there.
absl::StatusOr<CoordinatorConfig> FilesOf(Cli& cli) {
  if (cli.options().offline.empty()) {
    return absl::InvalidArgumentError(
        "this works on the files of the coordinator: run it on its host, as "
        "its user, and name its directory with --offline DIR");
  }
  return OfflineConfig(cli.env().fs, cli.options().offline);
}

RenewContext ContextOf(Cli& cli, const CoordinatorConfig& config) {
  return {config, cli.env().fs, cli.env().random, cli.env().clock->Now()};
}

std::string WhenTaken(const CoordinatorConfig& config) {
  const absl::Duration interval = config.tls.reload_interval;
  return interval == absl::ZeroDuration()
             ? "A running coordinator takes it at SIGHUP.\n"
             : Cat("A running coordinator takes it within ",
                   FormatDuration(interval + absl::Minutes(1)),
                   ", or at once at SIGHUP.\n");
}

absl::Status RenewServerOffline(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(const CoordinatorConfig config, FilesOf(cli));
  const RenewContext context = ContextOf(cli, config);
  CONSILIUM_RETURN_IF_ERROR(RenewServerFiles(context).status());
  CONSILIUM_ASSIGN_OR_RETURN(const FileCertificates files,
                             ReadCertificates(context));
  const v1::CertificateInfo info =
      DescribeFiles(files, config, context.now).front();
  return cli.Show(info, [&](std::ostream& out) {
    out << config.tls.server_certificate << " is new and ends "
        << cli.style().When(info.not_after()) << ".\n"
        << WhenTaken(config);
  });
}

absl::Status RenewServer(Cli& cli, const std::string& reason) {
  if (!cli.options().offline.empty()) return RenewServerOffline(cli);
  v1::RenewServerCertificateRequest request;
  request.set_reason(reason);
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::CertificateInfo info,
      cli.Call(&AdminApi::RenewServerCertificate, request));
  return cli.Show(info, [&](std::ostream& out) {
    out << "The server shows a new certificate, which ends "
        << cli.style().When(info.not_after()) << ".\n";
  });
}

absl::Status RenewIssuer(Cli& cli, const std::string& root_key) {
  CONSILIUM_ASSIGN_OR_RETURN(const CoordinatorConfig config, FilesOf(cli));
  const std::string key =
      root_key.empty() ? JoinPath(cli.options().offline, "offline/root-ca.key")
                       : root_key;
  const RenewContext context = ContextOf(cli, config);
  CONSILIUM_ASSIGN_OR_RETURN(const FileCertificates files,
                             RenewIssuerFiles(context, key));
  v1::ListCertificatesResponse response;
  for (const auto& info : DescribeFiles(files, config, context.now)) {
    *response.add_certificates() = info;
  }
  return cli.Show(response, [&](std::ostream& out) {
    PrintCertificates(out, cli.style(), response, "-");
    out << "\nA new issuing CA and a server certificate of it. The root, which "
           "members pin, is\nas before, and the former CA is trusted until it "
           "ends: members do nothing.\n"
        << WhenTaken(config) << "Take " << key << " off this machine again.\n";
  });
}

// Keeps the key, so that exactly one file changes, and atomically: at no
// moment do key and certificate not fit.
absl::Status WriteOwn(Cli& cli, const OperatorConfig& config, const TlsKey& key,
                      const std::string& chain,
                      const v1::RenewCertificateResponse& response) {
  FileSystem* const fs = cli.env().fs;
  CONSILIUM_ASSIGN_OR_RETURN(SecretBytes key_pem, key.ToPem());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string root,
                             ReadWholeFile(fs, config.ca, kMaxPemBytes));
  CONSILIUM_ASSIGN_OR_RETURN(
      const TlsIdentity identity,
      MakeTlsIdentity(root, chain, std::move(key_pem), CertificateUse::kClient,
                      cli.env().clock->Now()));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, config.certificate, AsBytes(chain)));
  return cli.Show(response, [&](std::ostream& out) {
    out << config.certificate << ": " << identity.leaf.subject_uri << ", ends "
        << cli.style().When(response.not_after()) << ".\n";
  });
}

// For one whose certificate has ended, or a federation where all have.
absl::Status RenewOwnOffline(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(const CoordinatorConfig files, FilesOf(cli));
  const GlobalOptions& options = cli.options();
  FileSystem* const fs = cli.env().fs;
  CONSILIUM_ASSIGN_OR_RETURN(
      const OperatorConfig config,
      LoadOperatorConfig(fs,
                         options.config.empty()
                             ? JoinPath(options.offline, "operator/config.toml")
                             : options.config));
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key,
                             TlsKey::LoadFile(fs, config.key));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string old,
      ReadWholeFile(fs, config.certificate, kMaxPemBytes));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string chain,
      RenewStaffCertificate(ContextOf(cli, files), old, key));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                             ParseCertificate(chain));
  v1::RenewCertificateResponse response;
  response.set_certificate_chain_pem(chain);
  CONSILIUM_ASSIGN_OR_RETURN(
      *response.mutable_root_ca_pem(),
      ReadWholeFile(fs, files.tls.root_ca, kMaxPemBytes));
  response.set_not_after(absl::ToUnixMicros(info.not_after));
  return WriteOwn(cli, config, key, chain, response);
}

absl::Status RenewOwn(Cli& cli) {
  if (!cli.options().offline.empty()) return RenewOwnOffline(cli);
  cli.renews = true;
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  const OperatorConfig& config = session->config;
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key,
                             TlsKey::LoadFile(cli.env().fs, config.key));
  v1::RenewCertificateRequest request;
  CONSILIUM_ASSIGN_OR_RETURN(*request.mutable_csr_pem(),
                             CreateCertificateRequest(key, "renewal"));
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::RenewCertificateResponse response,
      cli.Call(&AdminApi::RenewOperatorCertificate, request));
  return WriteOwn(cli, config, key, response.certificate_chain_pem(), response);
}

}  // namespace

void AddCertificateCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("cert", "Certificates");
  const auto all = std::make_shared<bool>(false);
  group
      .Verb("status",
            "Certificates of members, server and CAs: when they end, and what "
            "to do",
            "consilium cert status --all")
      .Flag("--all", all.get(), "also expired and revoked ones of members")
      .Action(cli, [&cli, all] { return Status(cli, *all); });

  struct Args {
    bool server = false;
    std::string reason;
    std::string root_key;
  };
  const auto renew = std::make_shared<Args>();
  group
      .Verb("renew",
            "A new certificate for the same key: yours, or the server's. With "
            "--offline also one that has ended; for yours the coordinator is "
            "stopped",
            "consilium cert renew\n  consilium cert renew --server\n"
            "  consilium --offline cards cert renew --server")
      .Flag("--server", &renew->server,
            "the server's, which it shows from then on without a restart")
      .Option("--reason", &renew->reason, "TEXT",
              "why, for the audit log; with --server and no --offline")
      .Action(cli, [&cli, renew]() -> absl::Status {
        const bool noted = renew->server && cli.options().offline.empty();
        if (!renew->reason.empty() && !noted) {
          return absl::InvalidArgumentError(
              "--reason is noted only for --server on a running coordinator");
        }
        return renew->server ? RenewServer(cli, renew->reason) : RenewOwn(cli);
      });
  const auto issuer = std::make_shared<Args>();
  group
      .Verb("renew-issuer",
            "A new issuing CA from the root's key, and a server certificate of "
            "it; on the coordinator's host, as its user, while it runs or not. "
            "Members go on with what they have",
            "consilium --offline cards cert renew-issuer --root-key "
            "/media/safe/root-ca.key")
      .Option("--root-key", &issuer->root_key, "FILE",
              "where the root's key lies now (default "
              "DIR/offline/root-ca.key)")
      .Action(cli,
              [&cli, issuer] { return RenewIssuer(cli, issuer->root_key); });
}

}  // namespace consilium

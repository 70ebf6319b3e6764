// cert status|renew

#include <memory>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/certificate.h"
#include "coordinator/cli/command.h"

namespace consilium {
namespace {

absl::Status Status(Cli& cli, bool all) {
  v1::ListCertificatesRequest request;
  request.set_all(all);
  CONSILIUM_ASSIGN_OR_RETURN(v1::ListCertificatesResponse response,
                             cli.Call(&AdminApi::ListCertificates, request));
  // The server's own certificates are not in the store.
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::StatusInfo status,
      cli.Call(&AdminApi::GetStatus, v1::GetStatusRequest()));
  for (const v1::CertificateInfo& c : status.certificates()) {
    *response.add_certificates() = c;
  }
  return cli.Show(response, [&](std::ostream& out) {
    const Style style = cli.style();
    Table table({{"ROLE"},
                 {"STATE", Align::kState},
                 {"ENDS"},
                 {"SUBJECT"},
                 {"SERIAL"}});
    for (const v1::CertificateInfo& c : response.certificates()) {
      table.Row({c.role(), c.state(), style.When(c.not_after()), c.subject(),
                 c.serial()});
    }
    if (table.empty()) {
      out << "No valid certificates. Expired and revoked ones: consilium cert "
             "status --all\n";
      return;
    }
    table.Print(out, style);
  });
}

absl::Status RenewServer(Cli& cli, const std::string& reason) {
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

// Keeps the key, so that exactly one file changes, and atomically: at no
// moment do key and certificate not fit.
absl::Status RenewOwn(Cli& cli) {
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  const OperatorConfig& config = session->config;
  if (config.key.empty()) {
    return absl::FailedPreconditionError(
        "cert renew needs a running coordinator; leave --offline out");
  }
  FileSystem* const fs = cli.env().fs;
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key,
                             TlsKey::LoadFile(fs, config.key));
  v1::RenewCertificateRequest request;
  CONSILIUM_ASSIGN_OR_RETURN(*request.mutable_csr_pem(),
                             CreateCertificateRequest(key, "operator"));
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::RenewCertificateResponse response,
      cli.Call(&AdminApi::RenewOperatorCertificate, request));
  CONSILIUM_ASSIGN_OR_RETURN(SecretBytes key_pem, key.ToPem());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string root,
                             ReadWholeFile(fs, config.ca, int64_t{64} << 10));
  CONSILIUM_ASSIGN_OR_RETURN(
      const TlsIdentity identity,
      MakeTlsIdentity(root, response.certificate_chain_pem(),
                      std::move(key_pem), CertificateUse::kClient,
                      cli.env().clock->Now()));
  CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(
      fs, config.certificate, AsBytes(response.certificate_chain_pem())));
  return cli.Show(response, [&](std::ostream& out) {
    out << config.certificate << ": " << identity.leaf.subject_uri << ", ends "
        << cli.style().When(response.not_after()) << ".\n";
  });
}

}  // namespace

void AddCertificateCommands(CommandGroup root, Cli& cli) {
  CommandGroup group = root.Group("cert", "Certificates");
  const auto all = std::make_shared<bool>(false);
  group
      .Verb("status", "Certificates and when they end",
            "consilium cert status --all")
      .Flag("--all", all.get(), "also expired and revoked ones")
      .Action(cli, [&cli, all] { return Status(cli, *all); });

  struct Args {
    bool server = false;
    std::string reason;
  };
  const auto renew = std::make_shared<Args>();
  group
      .Verb("renew",
            "A new certificate for the same key: yours, or the server's",
            "consilium cert renew\n  consilium cert renew --server")
      .Flag("--server", &renew->server,
            "the server's, which it shows from then on without a restart")
      .Reason(&renew->reason)
      .Action(cli, [&cli, renew] {
        return renew->server ? RenewServer(cli, renew->reason) : RenewOwn(cli);
      });
}

}  // namespace consilium

#include "coordinator/app/renew.h"

#include <memory>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/ca_files.h"
#include "coordinator/store/store.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

constexpr int64_t kMaxPemBytes = 64 << 10;

IssuingCaFiles IssuerOf(const CoordinatorConfig& config) {
  return {config.tls.root_ca, config.tls.issuing_ca, config.tls.issuing_key};
}

}  // namespace

absl::StatusOr<std::vector<CertificateInfo>> ReadCertificateFile(
    FileSystem* fs, const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string pem,
                             ReadWholeFile(fs, path, kMaxPemBytes));
  auto chain = ParseCertificateChain(pem);
  if (!chain.ok()) return Annotate(chain.status(), path);
  return chain;
}

absl::StatusOr<FileCertificates> ReadCertificates(const RenewContext& context) {
  const CoordinatorConfig::Tls& tls = context.config.tls;
  FileCertificates out;
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto server,
      ReadCertificateFile(context.fs, tls.server_certificate));
  out.server = server.front();
  CONSILIUM_ASSIGN_OR_RETURN(out.issuing,
                             ReadCertificateFile(context.fs, tls.issuing_ca));
  CONSILIUM_ASSIGN_OR_RETURN(const auto root,
                             ReadCertificateFile(context.fs, tls.root_ca));
  out.root = root.front();
  return out;
}

absl::StatusOr<FileCertificates> RenewIssuerFiles(const RenewContext& context,
                                                  const std::string& root_key) {
  const auto key = TlsKey::LoadFile(context.fs, root_key);
  if (absl::IsNotFound(key.status())) {
    return absl::NotFoundError(
        Cat("there is no root key at ", root_key,
            "; bring it back and name it with --root-key FILE"));
  }
  CONSILIUM_RETURN_IF_ERROR(key.status());
  CONSILIUM_RETURN_IF_ERROR(RenewIssuingCa(context.fs, IssuerOf(context.config),
                                           context.config.federation.name, *key,
                                           context.now, *context.random)
                                .status());
  const auto server = RenewServerFiles(context);
  if (!server.ok()) {
    return Annotate(server.status(),
                    "the issuing CA is new, the server certificate is not; "
                    "mend this and run `consilium --offline DIR cert renew "
                    "--server`");
  }
  return ReadCertificates(context);
}

absl::StatusOr<CertificateInfo> RenewServerFiles(const RenewContext& context) {
  const CoordinatorConfig& config = context.config;
  CONSILIUM_ASSIGN_OR_RETURN(
      const IssuingCa ca, LoadIssuingCa(context.fs, IssuerOf(config),
                                        config.federation.name, context.now));
  return RenewServerCertificate(
      context.fs, config.tls.server_certificate, config.tls.server_key, ca,
      context.now, config.certificates.server_lifetime, *context.random);
}

absl::StatusOr<std::string> RenewStaffCertificate(
    const RenewContext& context, const std::string& certificate_pem,
    const TlsKey& key) {
  const CoordinatorConfig& config = context.config;
  CONSILIUM_ASSIGN_OR_RETURN(const PeerName peer,
                             PeerFromCertificatePem(certificate_pem));
  if (peer.role == PeerRole::kInstitution) {
    return absl::InvalidArgumentError(
        Cat(peer.Uri(), " renews with `consilium-client renew`"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      const IssuingCa ca, LoadIssuingCa(context.fs, IssuerOf(config),
                                        config.federation.name, context.now));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string request,
                             CreateCertificateRequest(key, peer.name));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string chain,
      ca.IssuePeer(request, peer, context.now,
                   config.certificates.operator_lifetime, *context.random));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                             ParseCertificate(chain));
  StoreOptions options;
  options.fs = context.fs;
  options.data_dir = config.storage.data_dir;
  options.syncer_threads = 0;
  options.min_free_bytes = 0;  // one small row
  auto opened = Store::Open(std::move(options));
  if (IsStoreInUse(opened.status())) {
    return absl::FailedPreconditionError(
        Cat(StdView(opened.status().message()),
            "; stop the coordinator for this, or leave --offline out"));
  }
  CONSILIUM_RETURN_IF_ERROR(opened.status());
  const std::unique_ptr<Store> store = *std::move(opened);
  CONSILIUM_RETURN_IF_ERROR(
      store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto known,
                                   FindInstitution(tx, peer.name));
        if (!known.has_value() || known->role != PeerRoleName(peer.role)) {
          return absl::InvalidArgumentError(
              Cat("there is no ", PeerRoleName(peer.role), " ", peer.name));
        }
        if (known->state == InstitutionState::kRevoked) {
          return absl::FailedPreconditionError(
              Cat(peer.Uri(), " is revoked, which is final"));
        }
        CertificateRow row;
        row.institution_id = known->id;
        row.serial = info.serial;
        row.subject_uri = info.subject_uri;
        row.role = known->role;
        row.fingerprint = info.fingerprint.Hex();
        row.not_before = info.not_before;
        row.not_after = info.not_after;
        row.issued_at = context.now;
        CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, row));
        AuditEntry entry;
        entry.at = context.now;
        entry.actor = "offline";
        entry.action = "certificate.renew";
        entry.object = peer.name;
        entry.detail = Cat("certificate ", info.serial);
        return AppendAudit(tx, std::move(entry)).status();
      }));
  CONSILIUM_RETURN_IF_ERROR(store->Close());
  return chain;
}

}  // namespace consilium

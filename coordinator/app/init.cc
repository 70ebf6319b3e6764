#include "coordinator/app/init.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/sync_name.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/proxy.h"
#include "consilium/secure/storage_key.h"
#include "coordinator/store/store.h"

namespace consilium {
namespace {

uint16_t PortOf(const std::string& address) {
  const auto parsed = HostPort::ParseListening(address);
  return parsed.ok() ? parsed->port : uint16_t{8443};
}

class Maker {
 public:
  Maker(const InitOptions& options, absl::Time now, FileSystem* fs,
        RandomSource* random)
      : options_(options), now_(now), fs_(fs), random_(random) {}

  absl::StatusOr<InitResult> Make() {
    for (const char* dir :
         {"identity", "offline", "operator", "secrets", "data"}) {
      CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(Path(dir), 0700));
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        NewCertificateAuthority authority,
        CreateCertificateAuthority(options_.federation, now_, *random_));
    CONSILIUM_RETURN_IF_ERROR(
        authority.root_key.SaveFile(fs_, Path("offline/root-ca.key")));
    CONSILIUM_RETURN_IF_ERROR(
        authority.issuing_key.SaveFile(fs_, Path("identity/issuing-ca.key")));
    CONSILIUM_RETURN_IF_ERROR(
        Write("identity/root-ca.pem", authority.root_pem));
    CONSILIUM_RETURN_IF_ERROR(
        Write("identity/issuing-ca.pem", authority.issuing_pem));
    CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest fingerprint,
                               CertificateFingerprint(authority.root_pem));
    const std::string root_pem = authority.root_pem;
    CONSILIUM_ASSIGN_OR_RETURN(
        const IssuingCa ca,
        IssuingCa::Create(options_.federation, authority.root_pem,
                          authority.issuing_pem,
                          std::move(authority.issuing_key), now_));
    CONSILIUM_RETURN_IF_ERROR(MakeServer(ca));
    CONSILIUM_RETURN_IF_ERROR(MakeSigningKey());
    CONSILIUM_RETURN_IF_ERROR(StorageKey::Generate(*random_).SaveFile(
        fs_, Path("secrets/storage.key")));
    CoordinatorConfig config = options_.config;
    config.federation.name = options_.federation;
    Advertise(config);
    CONSILIUM_RETURN_IF_ERROR(
        Write("consilium.toml", DefaultConfigText(config)));
    CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo operator_info,
                               MakeOperator(ca, root_pem, config));
    CONSILIUM_RETURN_IF_ERROR(MakeStore(operator_info));

    InitResult result;
    result.root_fingerprint = fingerprint.Hex();
    result.config_path = Path("consilium.toml");
    result.operator_config_path = Path("operator/config.toml");
    result.offline_key_path = Path("offline/root-ca.key");
    return result;
  }

 private:
  std::string Path(std::string_view name) const {
    return JoinPath(options_.directory, name);
  }
  absl::Status Write(std::string_view name, std::string_view text) {
    return WriteFileAtomic(fs_, Path(name), AsBytes(text), 0600);
  }

  // Who connects looks for the address in the certificate: one that is not
  // there (every interface, that behind a name) is none to be told.
  void Advertise(CoordinatorConfig& config) const {
    const auto address = HostPort::Parse(config.listen.address);
    if (!config.listen.advertised_address.empty() || !address.ok() ||
        options_.hosts.empty() || IsNamed(address->host)) {
      return;
    }
    config.listen.advertised_address =
        HostPort{options_.hosts.front(), address->port}.ToString();
  }

  // By the server's certificate.
  bool IsNamed(const std::string& host) const {
    const auto& hosts = options_.hosts;
    return std::find(hosts.begin(), hosts.end(), host) != hosts.end() ||
           (options_.localhost &&
            (host == "localhost" || host == "127.0.0.1" || host == "::1"));
  }

  absl::Status MakeServer(const IssuingCa& ca) {
    CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, TlsKey::Generate());
    CONSILIUM_RETURN_IF_ERROR(key.SaveFile(fs_, Path("identity/server.key")));
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::string chain,
        ca.IssueServer({options_.hosts, options_.localhost}, key, now_,
                       options_.config.certificates.server_lifetime, *random_));
    return Write("identity/server.pem", chain);
  }

  absl::Status MakeSigningKey() {
    CONSILIUM_ASSIGN_OR_RETURN(const SigningKey key,
                               SigningKey::Generate(*random_));
    CONSILIUM_RETURN_IF_ERROR(key.SaveFile(fs_, Path("identity/signing.key")));
    CONSILIUM_ASSIGN_OR_RETURN(const std::string pem, key.verify_key().ToPem());
    CONSILIUM_RETURN_IF_ERROR(Write("operator/signing.pub", pem));
    return Write("identity/signing.pub", pem);
  }

  absl::StatusOr<CertificateInfo> MakeOperator(
      const IssuingCa& ca, const std::string& root_pem,
      const CoordinatorConfig& config) {
    CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, TlsKey::Generate());
    CONSILIUM_RETURN_IF_ERROR(key.SaveFile(fs_, Path("operator/operator.key")));
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::string csr,
        CreateCertificateRequest(key, options_.operator_name));
    const PeerName name{options_.federation, PeerRole::kOperator,
                        options_.operator_name};
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::string chain,
        ca.IssuePeer(csr, name, now_, config.certificates.operator_lifetime,
                     *random_));
    CONSILIUM_RETURN_IF_ERROR(Write("operator/operator.pem", chain));
    CONSILIUM_RETURN_IF_ERROR(Write("operator/ca.pem", root_pem));
    const HostPort address{
        options_.hosts.empty() ? "localhost" : options_.hosts.front(),
        PortOf(config.listen.address)};
    CONSILIUM_RETURN_IF_ERROR(Write(
        "operator/config.toml",
        Cat("# What the `consilium` command needs to reach the coordinator.\n"
            "# Paths count from this file's folder.\n"
            "coordinator = \"",
            address.ToString(),
            "\"\n"
            "federation = \"",
            options_.federation,
            "\"\n"
            "certificate = \"operator.pem\"\n"
            "key = \"operator.key\"\n"
            "ca = \"ca.pem\"\n"
            "signing_key = \"signing.pub\"\n")));
    return ParseCertificate(chain);
  }

  absl::Status MakeStore(const CertificateInfo& operator_info) {
    StoreOptions options;
    options.fs = fs_;
    options.data_dir = Path("data");
    options.create = true;
    options.min_free_bytes = 0;
    CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                               Store::Open(options));
    CONSILIUM_RETURN_IF_ERROR(
        store->history().Write([&](WriteTx& tx) -> absl::Status {
          FederationRow row;
          row.name = options_.federation;
          row.created_at = now_;
          CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, row));
          InstitutionRow first;
          first.name = options_.operator_name;
          first.role = std::string(PeerRoleName(PeerRole::kOperator));
          first.state = InstitutionState::kActive;
          first.created_at = now_;
          first.updated_at = now_;
          CertificateRow certificate;
          CONSILIUM_ASSIGN_OR_RETURN(certificate.institution_id,
                                     InsertInstitution(tx, first));
          certificate.serial = operator_info.serial;
          certificate.subject_uri = operator_info.subject_uri;
          certificate.role = first.role;
          certificate.fingerprint = operator_info.fingerprint.Hex();
          certificate.not_before = operator_info.not_before;
          certificate.not_after = operator_info.not_after;
          certificate.issued_at = now_;
          CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, certificate));
          AuditEntry entry;
          entry.at = now_;
          entry.actor = "init";
          entry.action = "federation.init";
          entry.object = options_.federation;
          entry.detail = Cat("operator certificate ", operator_info.serial);
          return AppendAudit(tx, std::move(entry)).status();
        }));
    return store->Close();
  }

  const InitOptions& options_;
  const absl::Time now_;
  FileSystem* const fs_;
  RandomSource* const random_;
};

}  // namespace

absl::StatusOr<InitResult> InitFederation(const InitOptions& options,
                                          absl::Time now, FileSystem* fs,
                                          RandomSource* random) {
  CONSILIUM_RETURN_IF_ERROR(ValidateName("federation", options.federation));
  CONSILIUM_RETURN_IF_ERROR(ValidateName("operator", options.operator_name));
  CONSILIUM_RETURN_IF_ERROR(ValidateConfig(options.config));
  const bool existed = fs->Exists(options.directory);
  if (existed) {
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                               fs->List(options.directory));
    if (!names.empty()) {
      return absl::FailedPreconditionError(
          Cat(options.directory, " is not empty (it holds ", names.front(),
              "); name a new directory"));
    }
  }
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(options.directory, 0700));
  CONSILIUM_RETURN_IF_ERROR(SyncName(fs, options.directory));
  absl::StatusOr<InitResult> result = Maker(options, now, fs, random).Make();
  if (!result.ok()) {
    if (existed) {
      for (const char* name : {"identity", "offline", "operator", "secrets",
                               "data", "consilium.toml"}) {
        fs->RemoveTree(JoinPath(options.directory, name)).IgnoreError();
      }
    } else {
      fs->RemoveTree(options.directory).IgnoreError();
    }
  }
  return result;
}

}  // namespace consilium

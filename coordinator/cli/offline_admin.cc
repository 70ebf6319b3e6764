#include "coordinator/cli/offline_admin.h"

#include <algorithm>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/clock.h"
#include "consilium/base/strings.h"
#include "consilium/secure/certificate.h"
#include "coordinator/rpc/admin_queries.h"
#include "coordinator/rpc/own_certificates.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/store.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kMaxPemBytes = 64 << 10;

RenewalTimes TimesOf(const CoordinatorConfig& config) {
  return {config.certificates.renew_before,
          config.certificates.institution_lifetime};
}

class OfflineAdmin final : public AdminApi {
 public:
  OfflineAdmin(std::unique_ptr<Store> store, CoordinatorConfig config,
               absl::Time now, std::optional<VerifyKey> key)
      : store_(std::move(store)),
        config_(std::move(config)),
        now_(now),
        key_(std::move(key)),
        queries_(store_.get(), nullptr, now,
                 config_.certificates.renew_before) {}

  absl::Status GetStatus(const v1::GetStatusRequest&,
                         v1::StatusInfo* out) override {
    CONSILIUM_RETURN_IF_ERROR(queries_.Status(out));
    out->set_software("offline");
    out->set_sealing(config_.sealing);
    const auto own = DescribeReadable();
    out->mutable_certificates()->Add(own.begin(), own.end());
    for (const std::string& warning : RenewalWarnings(own)) {
      out->add_warnings(warning);
    }
    return absl::OkStatus();
  }
  absl::Status GetFederation(const v1::GetFederationRequest&,
                             v1::FederationInfo* out) override {
    CONSILIUM_RETURN_IF_ERROR(queries_.Federation(out));
    CONSILIUM_RETURN_IF_ERROR(FillPolicy(out));
    FileSystem* const fs = store_->fs();
    const auto root = ReadWholeFile(fs, config_.tls.root_ca, kMaxPemBytes);
    if (root.ok()) {
      CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest fingerprint,
                                 CertificateFingerprint(*root));
      out->set_root_ca_fingerprint(fingerprint.Hex());
    }
    if (key_.has_value()) out->set_signing_public_key(key_->ToString());
    out->set_sealing(config_.sealing);
    return absl::OkStatus();
  }
  absl::Status ListInstitutions(const v1::ListInstitutionsRequest&,
                                v1::ListInstitutionsResponse* out) override {
    return queries_.Institutions(out);
  }
  absl::Status GetInstitution(const v1::GetInstitutionRequest& request,
                              v1::InstitutionInfo* out) override {
    return queries_.Institution(request.name(), out);
  }
  absl::Status ListOperators(const v1::ListOperatorsRequest&,
                             v1::ListOperatorsResponse* out) override {
    return queries_.Operators(out);
  }
  absl::Status ListRounds(const v1::ListRoundsRequest& request,
                          v1::ListRoundsResponse* out) override {
    return queries_.Rounds(request, out);
  }
  absl::Status GetRound(const v1::GetRoundRequest& request,
                        v1::RoundInfo* out) override {
    return queries_.Round(request.round(), request.events(), out);
  }
  absl::Status ListContributions(const v1::ListContributionsRequest& request,
                                 v1::ListContributionsResponse* out) override {
    return queries_.Contributions(request, out);
  }
  absl::Status GetContribution(const v1::GetContributionRequest& request,
                               v1::ContributionInfo* out) override {
    return queries_.Contribution(request.id(), out);
  }
  absl::Status ListVersions(const v1::ListVersionsRequest& request,
                            v1::ListVersionsResponse* out) override {
    return queries_.Versions(request.limit(), out);
  }
  absl::Status GetVersion(const v1::GetVersionRequest& request,
                          v1::VersionInfo* out) override {
    return queries_.Version(request.number(), out);
  }
  absl::Status DiffVersions(const v1::DiffVersionsRequest& request,
                            v1::DiffVersionsResponse* out) override {
    return queries_.Diff(request.a(), request.b(), out);
  }
  absl::Status GetSchedule(const v1::GetScheduleRequest&,
                           v1::ScheduleInfo* out) override {
    return queries_.Schedule(out);
  }
  absl::Status ListCertificates(const v1::ListCertificatesRequest& request,
                                v1::ListCertificatesResponse* out) override {
    return queries_.Certificates(request.all(), out);
  }
  absl::Status CheckDatabase(const v1::CheckDatabaseRequest& request,
                             v1::CheckDatabaseResponse* out) override {
    const absl::Duration started = SystemClock()->Monotonic();
    CONSILIUM_RETURN_IF_ERROR(queries_.Check(request.deep(), out));
    out->set_seconds(
        absl::ToDoubleSeconds(SystemClock()->Monotonic() - started));
    return absl::OkStatus();
  }
  absl::Status BackupDatabase(const v1::BackupDatabaseRequest& request,
                              v1::BackupDatabaseResponse* out) override {
    const absl::Duration started = SystemClock()->Monotonic();
    CONSILIUM_ASSIGN_OR_RETURN(const BackupReport report,
                               BackupStore(*store_, request.directory(), now_));
    out->set_directory(request.directory());
    out->set_bytes(
        static_cast<uint64_t>(report.database_bytes + report.blob_bytes));
    out->set_blobs(static_cast<uint64_t>(report.blobs));
    out->set_seconds(
        absl::ToDoubleSeconds(SystemClock()->Monotonic() - started));
    return absl::OkStatus();
  }
  absl::Status TailAudit(const v1::TailAuditRequest& request,
                         v1::TailAuditResponse* out) override {
    return queries_.AuditTail(request, out);
  }
  absl::Status VerifyAudit(const v1::VerifyAuditRequest&,
                           v1::VerifyAuditResponse* out) override {
    return queries_.AuditCheck(out);
  }

  absl::Status DownloadVersion(
      const v1::DownloadRequest& request,
      absl::FunctionRef<absl::Status(const v1::DownloadChunk&)> on_chunk)
      override {
    CONSILIUM_ASSIGN_OR_RETURN(
        const Sha256Digest digest,
        DigestOf(request.version_digest(), "version_digest"));
    std::optional<VersionRow> row;
    CONSILIUM_RETURN_IF_ERROR(
        store_->history().Read([&](ReadTx& tx) -> absl::Status {
          CONSILIUM_ASSIGN_OR_RETURN(row, FindVersionByDigest(tx, digest));
          return absl::OkStatus();
        }));
    if (!row.has_value()) {
      return absl::NotFoundError(Cat("there is no version ", digest.Hex()));
    }
    CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                               OpenVersionBlob(store_->blobs(), *row));
    v1::DownloadChunk chunk;
    chunk.set_total_bytes(static_cast<uint64_t>(row->blob_bytes));
    for (int64_t at = static_cast<int64_t>(request.offset());
         at < row->blob_bytes;) {
      const int64_t size = std::min(kPieceBytes, row->blob_bytes - at);
      std::string& data = *chunk.mutable_data();
      data.resize(static_cast<size_t>(size));
      CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
          file.get(), at,
          std::as_writable_bytes(std::span(data.data(), data.size()))));
      chunk.set_offset(static_cast<uint64_t>(at));
      CONSILIUM_RETURN_IF_ERROR(on_chunk(chunk));
      at += size;
    }
    return absl::OkStatus();
  }

 protected:
  absl::Status NotHere(std::string_view method) const override {
    return absl::FailedPreconditionError(
        Cat(method,
            " needs a running coordinator: --offline only reads. "
            "Start consilium-coordinator and leave --offline out"));
  }

 private:
  // A history is read also where the certificates are not.
  std::vector<v1::CertificateInfo> DescribeReadable() const {
    OwnCertificates own;
    std::vector<v1::CertificateInfo> unknown;
    const auto read = [&](const char* role, const std::string& path,
                          std::vector<CertificateInfo>& to) {
      auto chain = ReadCertificateFile(store_->fs(), path);
      if (chain.ok()) {
        to = *std::move(chain);
        return;
      }
      v1::CertificateInfo& info = unknown.emplace_back();
      info.set_role(role);
      info.set_state("unknown");
      info.set_advice(
          Cat("look after the file: ", StdView(chain.status().message())));
    };
    read("server", config_.tls.server_certificate, own.server);
    read("issuing-ca", config_.tls.issuing_ca, own.issuing);
    read("root-ca", config_.tls.root_ca, own.root);
    if (own.server.size() > 1) own.server.resize(1);
    if (own.root.size() > 1) own.root.resize(1);
    std::vector<v1::CertificateInfo> out =
        DescribeOwn(own, TimesOf(config_), now_);
    out.insert(out.end(), unknown.begin(), unknown.end());
    return out;
  }

  // As the coordinator would have it: over the defaults of its configuration.
  absl::Status FillPolicy(v1::FederationInfo* out) {
    return store_->history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row,
                                 ::consilium::GetFederation(tx));
      CONSILIUM_ASSIGN_OR_RETURN(
          const FederationPolicy policy,
          FederationPolicy::FromJson(row.policy_json, config_.rounds));
      out->clear_policy();
      const Settings settings = policy.ToSettings();
      out->mutable_policy()->insert(settings.begin(), settings.end());
      return absl::OkStatus();
    });
  }

  const std::unique_ptr<Store> store_;
  const CoordinatorConfig config_;
  const absl::Time now_;
  const std::optional<VerifyKey> key_;
  AdminQueries queries_;
};

}  // namespace

std::vector<v1::CertificateInfo> DescribeFiles(const FileCertificates& files,
                                               const CoordinatorConfig& config,
                                               absl::Time now) {
  return DescribeOwn({{files.server}, files.issuing, {files.root}},
                     TimesOf(config), now);
}

absl::StatusOr<CoordinatorConfig> OfflineConfig(FileSystem* fs,
                                                const std::string& directory) {
  const std::string path = JoinPath(directory, "consilium.toml");
  const auto found = fs->Stat(path);
  if (absl::IsNotFound(found.status())) {
    return absl::NotFoundError(
        Cat("no ", path,
            ": --offline takes the directory that `consilium "
            "init` made"));
  }
  CONSILIUM_RETURN_IF_ERROR(found.status());
  return LoadConfig(path);
}

absl::StatusOr<AdminSession> OpenOffline(FileSystem* fs,
                                         const std::string& directory,
                                         absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(CoordinatorConfig config,
                             OfflineConfig(fs, directory));
  StoreOptions options;
  options.fs = fs;
  options.data_dir = config.storage.data_dir;
  options.read_only = true;
  options.syncer_threads = 0;
  auto store = Store::Open(std::move(options));
  if (IsStoreInUse(store.status())) {
    return absl::FailedPreconditionError(
        Cat(StdView(store.status().message()),
            "; a running coordinator is asked without --offline"));
  }
  CONSILIUM_RETURN_IF_ERROR(store.status());
  AdminSession session;
  const std::string key_path = JoinPath(directory, "identity/signing.pub");
  if (fs->Exists(key_path)) {
    CONSILIUM_ASSIGN_OR_RETURN(session.signing_key,
                               VerifyKey::LoadFile(fs, key_path));
  }
  session.api = std::make_unique<OfflineAdmin>(
      *std::move(store), std::move(config), now, session.signing_key);
  return session;
}

}  // namespace consilium

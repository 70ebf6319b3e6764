#include "coordinator/app/certificates.h"

#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr char kIssuerAction[] = "certificate.issuer";
constexpr char kServerAction[] = "certificate.server";

}  // namespace

CertificateKeeper::CertificateKeeper(const CoordinatorConfig& config,
                                     FileSystem* fs, Clock* clock,
                                     Logger* logger)
    : server_files_{config.tls.root_ca, config.tls.server_certificate,
                    config.tls.server_key},
      issuing_files_{config.tls.root_ca, config.tls.issuing_ca,
                     config.tls.issuing_key},
      federation_(config.federation.name),
      times_{config.certificates.renew_before,
             config.certificates.institution_lifetime},
      check_interval_(config.tls.reload_interval == absl::ZeroDuration()
                          ? absl::InfiniteDuration()
                          : config.tls.reload_interval),
      fs_(fs),
      clock_(clock),
      logger_(logger),
      checked_at_(clock->Monotonic()) {}

absl::StatusOr<std::unique_ptr<CertificateKeeper>> CertificateKeeper::Load(
    const CoordinatorConfig& config, FileSystem* fs, Clock* clock,
    Logger* logger) {
  std::unique_ptr<CertificateKeeper> keeper(
      new CertificateKeeper(config, fs, clock, logger));
  CONSILIUM_ASSIGN_OR_RETURN(IssuingCa ca,
                             LoadIssuingCa(fs, keeper->issuing_files_,
                                           keeper->federation_, clock->Now()));
  keeper->ca_ = std::make_unique<LiveIssuingCa>(std::move(ca));
  ReloadableServerIdentity::Options server;
  server.files = keeper->server_files_;
  server.check_interval = keeper->check_interval_;
  server.fs = fs;
  server.clock = clock;
  auto identity = ReloadableServerIdentity::Create(std::move(server));
  if (absl::IsUnauthenticated(identity.status())) {
    return absl::UnauthenticatedError(Cat(
        keeper->server_files_.chain, ": ", StdView(identity.status().message()),
        "; `consilium --offline DIR cert renew --server` makes a new one"));
  }
  CONSILIUM_RETURN_IF_ERROR(identity.status());
  keeper->server_ = *std::move(identity);
  return keeper;
}

absl::Status CertificateKeeper::ReloadIssuer() {
  CONSILIUM_ASSIGN_OR_RETURN(
      IssuingCa fresh,
      LoadIssuingCa(fs_, issuing_files_, federation_, clock_->Now()));
  const std::shared_ptr<const IssuingCa> now = ca_->Get();
  if (fresh.issuing_pem() == now->issuing_pem() &&
      fresh.root_pem() == now->root_pem()) {
    return absl::OkStatus();
  }
  const CertificateInfo issuing = fresh.authorities().front();
  ca_->Set(std::move(fresh));
  logger_->Info({}, Cat("certificates are issued by a new CA, ", issuing.serial,
                        ", until ", FormatTime(issuing.not_after)));
  return absl::OkStatus();
}

absl::Status CertificateKeeper::Reload() {
  const absl::Status issuer = ReloadIssuer();
  const absl::Status server = server_->Reload();
  return issuer.ok() ? server : issuer;
}

void CertificateKeeper::Look(Engine& engine) {
  MutexLock lock(&mu_);
  const absl::Duration mono = clock_->Monotonic();
  if (mono - checked_at_ >= check_interval_) {
    checked_at_ = mono;
    const absl::Status status = Reload();
    std::string trouble(status.message());
    if (trouble != trouble_ && !status.ok()) {
      logger_->Warn({}, Cat("the certificates in use stay: ", trouble));
    }
    trouble_ = std::move(trouble);
  }
  for (const v1::CertificateInfo& c : Own()) {
    if (c.state() == "former") continue;
    engine.listener().OnCertificateExpiry(CertificateKind::kOwn, c.role(),
                                          TimeOf(c.not_after()));
  }
  const std::shared_ptr<const IssuingCa> ca = ca_->Get();
  // The first issuing CA, that of `init`, is noted there.
  Note(engine, kIssuerAction, ca->authorities().front(),
       ca->authorities().size() == 1, &noted_issuer_);
  Note(engine, kServerAction, server_->leaf(), false, &noted_server_);
  Tell();
}

std::vector<v1::CertificateInfo> CertificateKeeper::Own() const {
  const std::shared_ptr<const IssuingCa> ca = ca_->Get();
  return DescribeOwn({{server_->leaf()}, ca->authorities(), {ca->root()}},
                     times_, clock_->Now());
}

absl::Status CertificateKeeper::Check() const {
  const absl::Time until = server_->leaf().not_after;
  if (clock_->Now() < until) return absl::OkStatus();
  return absl::UnavailableError(
      Cat("the server certificate ended ", FormatTime(until)));
}

std::vector<std::string> CertificateKeeper::Warnings() const {
  return RenewalWarnings(Own());
}

void CertificateKeeper::Tell() {
  std::vector<std::string> warnings = Warnings();
  const absl::Time now = clock_->Now();
  if (warnings == told_ && told_at_.has_value() &&
      now - *told_at_ < kTellEvery) {
    return;
  }
  for (const std::string& warning : warnings) logger_->Warn({}, warning);
  told_ = std::move(warnings);
  told_at_ = now;
}

// Files say nothing of when they came into use, nor does whoever renews them
// beside a running coordinator; the audit log does.
void CertificateKeeper::Note(Engine& engine, const char* action,
                             const CertificateInfo& info, bool first_is_known,
                             std::string* noted) {
  if (*noted == info.serial) return;
  const absl::Time now = engine.Now();
  const absl::Status status =
      engine.store().history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto last,
                                   FindNewestAudit(tx, action));
        const bool known =
            last.has_value() ? last->object == info.serial : first_is_known;
        if (known) return absl::OkStatus();
        return AppendAudit(tx, NewAudit(now, "coordinator", action, info.serial,
                                        Cat("in use from now on, ends ",
                                            FormatTime(info.not_after))))
            .status();
      });
  if (status.ok()) *noted = info.serial;
}

}  // namespace consilium

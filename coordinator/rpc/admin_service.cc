#include "coordinator/rpc/admin_service.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/version.h"
#include "consilium/secure/ca_files.h"
#include "consilium/secure/random.h"
#include "coordinator/rpc/admin_queries.h"
#include "coordinator/rpc/admin_streams.h"
#include "coordinator/rpc/download_stream.h"
#include "coordinator/rpc/own_certificates.h"
#include "coordinator/rpc/unary.h"
#include "coordinator/store/maintenance.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

Settings SettingsFrom(
    const google::protobuf::Map<std::string, std::string>& in) {
  return Settings(in.begin(), in.end());
}

std::vector<std::string> NamesFrom(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

absl::StatusOr<int64_t> NumberOf(std::string_view what, uint64_t value) {
  if (value < (uint64_t{1} << 62)) return static_cast<int64_t>(value);
  return absl::InvalidArgumentError(Cat(what, " is ", value));
}

}  // namespace

AdminServiceImpl::AdminServiceImpl(RpcDeps deps, AdminServiceOptions options)
    : deps_(deps),
      options_(std::move(options)),
      jobs_(options_.max_jobs, "limits.max_admin_jobs") {}

template <typename Handler>
grpc::ServerUnaryReactor* AdminServiceImpl::Read(
    grpc::CallbackServerContext* context, std::string_view method,
    Handler handler) {
  return RunUnary(
      deps_, context, method, AdmitStaff(deps_, *context, /*reads=*/true),
      [this, handler](const Staff&) {
        AdminQueries queries(&deps_.engine->store(), deps_.engine,
                             deps_.engine->WallNow(), options_.renew_before);
        return ForStaff(handler(queries));
      });
}

template <typename Handler>
grpc::ServerUnaryReactor* AdminServiceImpl::Change(
    grpc::CallbackServerContext* context, std::string_view method,
    Handler handler) {
  return RunUnary(
      deps_, context, method, AdmitStaff(deps_, *context, /*reads=*/false),
      [this, handler](const Staff& staff) {
        AdminQueries queries(&deps_.engine->store(), deps_.engine,
                             deps_.engine->WallNow(), options_.renew_before);
        return ForStaff(handler(staff, queries));
      });
}

std::vector<v1::CertificateInfo> AdminServiceImpl::Own() const {
  const std::shared_ptr<const IssuingCa> ca = options_.ca->Get();
  return DescribeOwn(
      {{options_.identity->leaf()}, ca->authorities(), {ca->root()}},
      {options_.renew_before, options_.institution_lifetime},
      deps_.engine->WallNow());
}

absl::Status AdminServiceImpl::Invite(const std::string& actor,
                                      const std::string& name, PeerRole role,
                                      uint64_t lifetime_seconds,
                                      const Settings& labels,
                                      v1::InviteInstitutionResponse* response) {
  if (lifetime_seconds > uint64_t{366} * 86400) {
    return absl::InvalidArgumentError(Cat(
        "token_lifetime_seconds is ", lifetime_seconds, ", at most a year"));
  }
  if (options_.enrollment_address.empty()) {
    return absl::FailedPreconditionError(
        "enrolment is closed: set listen.enrollment_address in the "
        "coordinator's configuration and restart it");
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      const Engine::Invitation invitation,
      deps_.engine->Invite(
          actor, name, role,
          absl::Seconds(static_cast<int64_t>(lifetime_seconds)), labels));
  response->set_token(std::string(
      invitation.token.Text(SecretAccess("answer to the operator"))));
  response->set_expires_at(MicrosOf(invitation.expires_at));
  response->set_enrollment_address(options_.enrollment_address);
  CONSILIUM_ASSIGN_OR_RETURN(
      const Sha256Digest fingerprint,
      CertificateFingerprint(options_.ca->Get()->root_pem()));
  response->set_ca_fingerprint(fingerprint.Hex());
  return absl::OkStatus();
}

#define CONSILIUM_READ(Method, Request, Response, body)                    \
  grpc::ServerUnaryReactor* AdminServiceImpl::Method(                      \
      grpc::CallbackServerContext* context, const v1::Request* request,    \
      v1::Response* response) {                                            \
    return Read(                                                           \
        context, #Method,                                                  \
        [this, request, response](AdminQueries& queries) -> absl::Status { \
          static_cast<void>(this);                                         \
          static_cast<void>(request);                                      \
          static_cast<void>(queries);                                      \
          body                                                             \
        });                                                                \
  }

CONSILIUM_READ(GetStatus, GetStatusRequest, StatusInfo, {
  CONSILIUM_RETURN_IF_ERROR(queries.Status(response));
  response->set_software(Cat("consilium-coordinator ", SoftwareVersion()));
  const std::vector<v1::CertificateInfo> own = Own();
  response->mutable_certificates()->Add(own.begin(), own.end());
  for (const std::string& warning : RenewalWarnings(own)) {
    response->add_warnings(warning);
  }
  return absl::OkStatus();
})

CONSILIUM_READ(GetFederation, GetFederationRequest, FederationInfo, {
  CONSILIUM_RETURN_IF_ERROR(queries.Federation(response));
  CONSILIUM_ASSIGN_OR_RETURN(
      const Sha256Digest fingerprint,
      CertificateFingerprint(options_.ca->Get()->root_pem()));
  response->set_root_ca_fingerprint(fingerprint.Hex());
  return absl::OkStatus();
})

CONSILIUM_READ(ListInstitutions, ListInstitutionsRequest,
               ListInstitutionsResponse,
               { return queries.Institutions(response); })
CONSILIUM_READ(GetInstitution, GetInstitutionRequest, InstitutionInfo,
               { return queries.Institution(request->name(), response); })
CONSILIUM_READ(ListOperators, ListOperatorsRequest, ListOperatorsResponse,
               { return queries.Operators(response); })
CONSILIUM_READ(ListRounds, ListRoundsRequest, ListRoundsResponse,
               { return queries.Rounds(*request, response); })
CONSILIUM_READ(GetRound, GetRoundRequest, RoundInfo, {
  return queries.Round(request->round(), request->events(), response);
})
CONSILIUM_READ(ListContributions, ListContributionsRequest,
               ListContributionsResponse,
               { return queries.Contributions(*request, response); })
CONSILIUM_READ(GetContribution, GetContributionRequest, ContributionInfo,
               { return queries.Contribution(request->id(), response); })
CONSILIUM_READ(ListVersions, ListVersionsRequest, ListVersionsResponse,
               { return queries.Versions(request->limit(), response); })
CONSILIUM_READ(GetVersion, GetVersionRequest, VersionInfo,
               { return queries.Version(request->number(), response); })
CONSILIUM_READ(DiffVersions, DiffVersionsRequest, DiffVersionsResponse, {
  CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job,
                             jobs_.Begin("version diff"));
  return queries.Diff(request->a(), request->b(), response);
})
CONSILIUM_READ(GetSchedule, GetScheduleRequest, ScheduleInfo,
               { return queries.Schedule(response); })
CONSILIUM_READ(ListCertificates, ListCertificatesRequest,
               ListCertificatesResponse,
               { return queries.Certificates(request->all(), response); })
CONSILIUM_READ(TailAudit, TailAuditRequest, TailAuditResponse,
               { return queries.AuditTail(*request, response); })
CONSILIUM_READ(VerifyAudit, VerifyAuditRequest, VerifyAuditResponse, {
  CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job,
                             jobs_.Begin("audit verify"));
  return queries.AuditCheck(response);
})
CONSILIUM_READ(CheckDatabase, CheckDatabaseRequest, CheckDatabaseResponse, {
  CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job, jobs_.Begin("db check"));
  const absl::Duration started = deps_.engine->Monotonic();
  CONSILIUM_RETURN_IF_ERROR(queries.Check(request->deep(), response));
  response->set_seconds(
      absl::ToDoubleSeconds(deps_.engine->Monotonic() - started));
  return absl::OkStatus();
})
CONSILIUM_READ(PlanRound, PlanRoundRequest, RoundPlan, {
  CONSILIUM_ASSIGN_OR_RETURN(
      const RoundPlanView plan,
      deps_.engine->PlanNextRound(SettingsFrom(request->overrides()),
                                  NamesFrom(request->cohort())));
  response->set_round(static_cast<uint64_t>(plan.round));
  if (plan.base.has_value()) {
    v1::VersionRef& base = *response->mutable_base();
    base.set_number(static_cast<uint64_t>(plan.base->number));
    base.set_digest(BytesOf(plan.base->digest));
    base.set_bytes(static_cast<uint64_t>(plan.base->blob_bytes));
  }
  const uint64_t each = static_cast<uint64_t>(plan.upload_bytes_each);
  for (const std::string& name : plan.cohort) response->add_cohort(name);
  for (const std::string& text : plan.left_out) response->add_left_out(text);
  for (const std::string& text : plan.problems) response->add_problems(text);
  response->set_sealing(deps_.engine->options().sealing);
  response->set_deadline(MicrosOf(deps_.engine->Now() + plan.config.deadline));
  response->set_upload_bytes_each(each);
  response->set_spool_bytes(each * plan.cohort.size());
  response->set_download_bytes(each * plan.cohort.size());
  const auto free =
      deps_.engine->store().fs()->FreeSpace(deps_.engine->store().data_dir());
  if (free.ok()) response->set_disk_free_bytes(static_cast<uint64_t>(*free));
  const Settings settings = SettingsOf(plan.config, plan.training);
  response->mutable_settings()->insert(settings.begin(), settings.end());
  return absl::OkStatus();
})
#undef CONSILIUM_READ

#define CONSILIUM_CHANGE(Method, Request, Response, body)                  \
  grpc::ServerUnaryReactor* AdminServiceImpl::Method(                      \
      grpc::CallbackServerContext* context, const v1::Request* request,    \
      v1::Response* response) {                                            \
    return Change(                                                         \
        context, #Method,                                                  \
        [this, request, response](const Staff& staff,                      \
                                  AdminQueries& queries) -> absl::Status { \
          const std::string actor = staff.name.Uri();                      \
          static_cast<void>(queries);                                      \
          body                                                             \
        });                                                                \
  }

CONSILIUM_CHANGE(SetFederation, SetFederationRequest, FederationInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_RETURN_IF_ERROR(deps_.engine->SetPolicy(
      actor, SettingsFrom(request->policy()), request->reason()));
  return queries.Federation(response);
})

CONSILIUM_CHANGE(
    InviteInstitution, InviteInstitutionRequest, InviteInstitutionResponse, {
      CONSILIUM_ASSIGN_OR_RETURN(
          const PeerRole role,
          ParsePeerRole(request->role().empty()
                            ? "institution"
                            : std::string_view(request->role())));
      if (role == PeerRole::kOperator) {
        return absl::InvalidArgumentError(
            "operators are not invited as institutions; see `consilium "
            "operator invite`");
      }
      return Invite(actor, request->name(), role,
                    request->token_lifetime_seconds(),
                    SettingsFrom(request->labels()), response);
    })

CONSILIUM_CHANGE(
    InviteOperator, InviteOperatorRequest, InviteInstitutionResponse, {
      CONSILIUM_ASSIGN_OR_RETURN(
          const PeerRole role,
          ParsePeerRole(request->role().empty()
                            ? "operator"
                            : std::string_view(request->role())));
      if (role == PeerRole::kInstitution) {
        return absl::InvalidArgumentError(
            "institutions are not invited as operators; see `consilium "
            "institution invite`");
      }
      return Invite(actor, request->name(), role,
                    request->token_lifetime_seconds(), {}, response);
    })

CONSILIUM_CHANGE(RevokeOperator, RevokeOperatorRequest, OperatorInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->RevokeStaff(actor, request->name(), request->reason()));
  return queries.Operator(request->name(), response);
})

CONSILIUM_CHANGE(SetInstitutionState, SetInstitutionStateRequest,
                 InstitutionInfo, {
                   CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
                   InstitutionState state = InstitutionState::kActive;
                   switch (request->change()) {
                     case v1::SetInstitutionStateRequest::SUSPEND:
                       state = InstitutionState::kSuspended;
                       break;
                     case v1::SetInstitutionStateRequest::RESUME:
                       state = InstitutionState::kActive;
                       break;
                     case v1::SetInstitutionStateRequest::REVOKE:
                       state = InstitutionState::kRevoked;
                       break;
                     default:
                       return absl::InvalidArgumentError(Cat(
                           "change is ", static_cast<int>(request->change())));
                   }
                   CONSILIUM_RETURN_IF_ERROR(deps_.engine->SetInstitution(
                       actor, request->name(), state, request->reason()));
                   return queries.Institution(request->name(), response);
                 })

CONSILIUM_CHANGE(StartRound, StartRoundRequest, RoundInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(
      const int64_t round,
      deps_.engine->StartRound(actor, SettingsFrom(request->overrides()),
                               NamesFrom(request->cohort()), "manual",
                               request->reason()));
  return queries.Round(static_cast<uint64_t>(round), false, response);
})

CONSILIUM_CHANGE(ExtendRound, ExtendRoundRequest, RoundInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t round,
                             NumberOf("round", request->round()));
  if (request->seconds() == 0 || request->seconds() > uint64_t{366} * 86400) {
    return absl::InvalidArgumentError(
        Cat("seconds is ", request->seconds(), ", must be 1 to a year's"));
  }
  CONSILIUM_RETURN_IF_ERROR(deps_.engine->ExtendRound(
      actor, round, absl::Seconds(static_cast<int64_t>(request->seconds())),
      request->reason()));
  return queries.Round(request->round(), false, response);
})

CONSILIUM_CHANGE(CloseRound, CloseRoundRequest, RoundInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t round,
                             NumberOf("round", request->round()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->CloseRound(actor, round, request->reason()));
  return queries.Round(request->round(), false, response);
})

CONSILIUM_CHANGE(CancelRound, CancelRoundRequest, RoundInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t round,
                             NumberOf("round", request->round()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->CancelRound(actor, round, request->reason()));
  return queries.Round(request->round(), false, response);
})

CONSILIUM_CHANGE(ReplayRound, ReplayRoundRequest, ReplayRoundResponse, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t round,
                             NumberOf("round", request->round()));
  CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job,
                             jobs_.Begin("round replay"));
  CONSILIUM_ASSIGN_OR_RETURN(
      const ReplayView view,
      deps_.engine->ReplayRound(actor, round, NamesFrom(request->exclude()),
                                request->reason()));
  response->set_recorded_digest(BytesOf(view.recorded));
  response->set_replayed_digest(BytesOf(view.replayed));
  response->set_equal(view.recorded == view.replayed);
  if (view.candidate.has_value()) {
    v1::VersionRef& candidate = *response->mutable_candidate();
    candidate.set_number(static_cast<uint64_t>(view.candidate->number));
    candidate.set_digest(BytesOf(view.candidate->digest));
    candidate.set_bytes(static_cast<uint64_t>(view.candidate->blob_bytes));
  }
  for (const std::string& name : view.contributions) {
    response->add_contributions(name);
  }
  response->set_seconds(absl::ToDoubleSeconds(view.took));
  return absl::OkStatus();
})

CONSILIUM_CHANGE(
    QuarantineContribution, QuarantineContributionRequest, ContributionInfo, {
      CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
      CONSILIUM_ASSIGN_OR_RETURN(const std::string id,
                                 queries.ContributionId(request->id()));
      CONSILIUM_RETURN_IF_ERROR(
          deps_.engine->QuarantineContribution(actor, id, request->reason()));
      return queries.Contribution(id, response);
    })

CONSILIUM_CHANGE(ReleaseContribution, ReleaseContributionRequest,
                 ContributionInfo, {
                   CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
                   CONSILIUM_ASSIGN_OR_RETURN(
                       const std::string id,
                       queries.ContributionId(request->id()));
                   CONSILIUM_RETURN_IF_ERROR(deps_.engine->ReleaseContribution(
                       actor, id, request->reason()));
                   return queries.Contribution(id, response);
                 })

CONSILIUM_CHANGE(
    VerifyContribution, VerifyContributionRequest, VerifyContributionResponse, {
      CONSILIUM_ASSIGN_OR_RETURN(const std::string id,
                                 queries.ContributionId(request->id()));
      CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job,
                                 jobs_.Begin("contribution verify"));
      const absl::Duration started = deps_.engine->Monotonic();
      int64_t chunks = 0;
      CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> findings,
                                 deps_.engine->VerifyContribution(id, &chunks));
      response->set_ok(findings.empty());
      for (const std::string& finding : findings)
        response->add_findings(finding);
      response->set_chunks(static_cast<uint64_t>(chunks));
      response->set_seconds(
          absl::ToDoubleSeconds(deps_.engine->Monotonic() - started));
      return deps_.engine->Audit(actor, "contribution.verify", id,
                                 findings.empty() ? "clean" : findings.front());
    })

CONSILIUM_CHANGE(PromoteVersion, PromoteVersionRequest, VersionInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t number,
                             NumberOf("version", request->number()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->PromoteVersion(actor, number, request->reason()));
  return queries.Version(request->number(), response);
})

CONSILIUM_CHANGE(RollbackVersion, RollbackVersionRequest, VersionInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t number,
                             NumberOf("version", request->number()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->RollbackVersion(actor, number, request->reason()));
  return queries.Version(request->number(), response);
})

CONSILIUM_CHANGE(SetSchedule, SetScheduleRequest, ScheduleInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  ScheduleRow row;
  row.kind = request->kind();
  row.expression = request->expression();
  row.time_zone = request->time_zone();
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->SetSchedule(actor, row, request->reason()));
  return queries.Schedule(response);
})

CONSILIUM_CHANGE(PauseSchedule, PauseScheduleRequest, ScheduleInfo, {
  CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
  CONSILIUM_RETURN_IF_ERROR(
      deps_.engine->PauseSchedule(actor, request->paused(), request->reason()));
  return queries.Schedule(response);
})

// Changes nothing but the caller's own certificate: auditors may, too.
grpc::ServerUnaryReactor* AdminServiceImpl::RenewOperatorCertificate(
    grpc::CallbackServerContext* context,
    const v1::RenewCertificateRequest* request,
    v1::RenewCertificateResponse* response) {
  return RunUnary(
      deps_, context, "RenewOperatorCertificate",
      AdmitStaff(deps_, *context, /*reads=*/true),
      [this, request, response](const Staff& staff) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            const EnrollResult result,
            deps_.engine->Renew(staff.name, request->csr_pem()));
        response->set_certificate_chain_pem(result.chain_pem);
        response->set_root_ca_pem(options_.ca->Get()->root_pem());
        response->set_not_after(MicrosOf(result.not_after));
        return absl::OkStatus();
      });
}

CONSILIUM_CHANGE(RenewServerCertificate, RenewServerCertificateRequest,
                 CertificateInfo, {
                   CONSILIUM_RETURN_IF_ERROR(CheckReason(request->reason()));
                   CONSILIUM_RETURN_IF_ERROR(
                       consilium::RenewServerCertificate(
                           deps_.engine->store().fs(),
                           options_.server_certificate, options_.server_key,
                           *options_.ca->Get(), deps_.engine->WallNow(),
                           options_.server_lifetime, *SystemRandom())
                           .status());
                   CONSILIUM_RETURN_IF_ERROR(options_.identity->Reload());
                   const CertificateInfo leaf = options_.identity->leaf();
                   deps_.engine->listener().OnCertificateExpiry(
                       CertificateKind::kOwn, "server", leaf.not_after);
                   *response = Own().front();
                   return deps_.engine->Audit(actor, "certificate.renew",
                                              "server", request->reason());
                 })

CONSILIUM_CHANGE(
    BackupDatabase, BackupDatabaseRequest, BackupDatabaseResponse, {
      if (request->directory().empty() || request->directory().front() != '/') {
        return absl::InvalidArgumentError(
            Cat("directory is ", Quoted(request->directory()),
                "; name an absolute path on the coordinator's host"));
      }
      CONSILIUM_ASSIGN_OR_RETURN(const JobLimit::Slot job,
                                 jobs_.Begin("db backup"));
      const absl::Duration started = deps_.engine->Monotonic();
      CONSILIUM_ASSIGN_OR_RETURN(
          const BackupReport report,
          BackupStore(deps_.engine->store(), request->directory(),
                      deps_.engine->Now(), deps_.engine->stop_token()));
      response->set_directory(request->directory());
      response->set_bytes(
          static_cast<uint64_t>(report.database_bytes + report.blob_bytes));
      response->set_blobs(static_cast<uint64_t>(report.blobs));
      response->set_seconds(
          absl::ToDoubleSeconds(deps_.engine->Monotonic() - started));
      return deps_.engine->Audit(actor, "db.backup", request->directory(), "");
    })
#undef CONSILIUM_CHANGE

grpc::ServerWriteReactor<v1::RoundInfo>* AdminServiceImpl::WatchRound(
    grpc::CallbackServerContext* context,
    const v1::WatchRoundRequest* request) {
  return StartWatch(deps_, context, request->round(), options_.renew_before);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* AdminServiceImpl::DownloadVersion(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartDownload(deps_, context, *request);
}

grpc::ServerReadReactor<v1::ImportVersionChunk>*
AdminServiceImpl::ImportVersion(grpc::CallbackServerContext* context,
                                v1::VersionInfo* response) {
  return StartImport(deps_, context, response, options_.renew_before, &jobs_);
}

}  // namespace consilium

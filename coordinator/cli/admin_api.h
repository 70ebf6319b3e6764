// What a command asks of a coordinator.

#ifndef CONSILIUM_COORDINATOR_CLI_ADMIN_API_H_
#define CONSILIUM_COORDINATOR_CLI_ADMIN_API_H_

#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/v1/admin.pb.h"

namespace consilium {

// The one table of unary calls: method, request, response, and whether it may
// take long (then it has no deadline unless --timeout is given).
#define CONSILIUM_ADMIN_CALLS(X)                                               \
  X(GetStatus, GetStatusRequest, StatusInfo, false)                            \
  X(GetFederation, GetFederationRequest, FederationInfo, false)                \
  X(SetFederation, SetFederationRequest, FederationInfo, false)                \
  X(InviteInstitution, InviteInstitutionRequest, InviteInstitutionResponse,    \
    false)                                                                     \
  X(ListInstitutions, ListInstitutionsRequest, ListInstitutionsResponse,       \
    false)                                                                     \
  X(GetInstitution, GetInstitutionRequest, InstitutionInfo, false)             \
  X(SetInstitutionState, SetInstitutionStateRequest, InstitutionInfo, false)   \
  X(InviteOperator, InviteOperatorRequest, InviteInstitutionResponse, false)   \
  X(ListOperators, ListOperatorsRequest, ListOperatorsResponse, false)         \
  X(RevokeOperator, RevokeOperatorRequest, OperatorInfo, false)                \
  X(PlanRound, PlanRoundRequest, RoundPlan, false)                             \
  X(StartRound, StartRoundRequest, RoundInfo, false)                           \
  X(ListRounds, ListRoundsRequest, ListRoundsResponse, false)                  \
  X(GetRound, GetRoundRequest, RoundInfo, false)                               \
  X(ExtendRound, ExtendRoundRequest, RoundInfo, false)                         \
  X(CloseRound, CloseRoundRequest, RoundInfo, false)                           \
  X(CancelRound, CancelRoundRequest, RoundInfo, false)                         \
  X(ReplayRound, ReplayRoundRequest, ReplayRoundResponse, true)                \
  X(ListContributions, ListContributionsRequest, ListContributionsResponse,    \
    false)                                                                     \
  X(GetContribution, GetContributionRequest, ContributionInfo, false)          \
  X(QuarantineContribution, QuarantineContributionRequest, ContributionInfo,   \
    false)                                                                     \
  X(ReleaseContribution, ReleaseContributionRequest, ContributionInfo, false)  \
  X(VerifyContribution, VerifyContributionRequest, VerifyContributionResponse, \
    true)                                                                      \
  X(ListVersions, ListVersionsRequest, ListVersionsResponse, false)            \
  X(GetVersion, GetVersionRequest, VersionInfo, false)                         \
  X(PromoteVersion, PromoteVersionRequest, VersionInfo, false)                 \
  X(RollbackVersion, RollbackVersionRequest, VersionInfo, false)               \
  X(DiffVersions, DiffVersionsRequest, DiffVersionsResponse, true)             \
  X(GetSchedule, GetScheduleRequest, ScheduleInfo, false)                      \
  X(SetSchedule, SetScheduleRequest, ScheduleInfo, false)                      \
  X(PauseSchedule, PauseScheduleRequest, ScheduleInfo, false)                  \
  X(ListCertificates, ListCertificatesRequest, ListCertificatesResponse,       \
    false)                                                                     \
  X(RenewOperatorCertificate, RenewCertificateRequest,                         \
    RenewCertificateResponse, false)                                           \
  X(RenewServerCertificate, RenewServerCertificateRequest, CertificateInfo,    \
    false)                                                                     \
  X(CheckDatabase, CheckDatabaseRequest, CheckDatabaseResponse, true)          \
  X(BackupDatabase, BackupDatabaseRequest, BackupDatabaseResponse, true)       \
  X(TailAudit, TailAuditRequest, TailAuditResponse, false)                     \
  X(VerifyAudit, VerifyAuditRequest, VerifyAuditResponse, true)

// Calls block. One thread at a time. A call that an implementation cannot do
// answers FAILED_PRECONDITION and says what to do instead.
class AdminApi {
 public:
  virtual ~AdminApi() = default;

#define CONSILIUM_ADMIN_CALL(Method, Request, Response, is_long)   \
  virtual absl::Status Method(const v1::Request&, v1::Response*) { \
    return NotHere(#Method);                                       \
  }
  CONSILIUM_ADMIN_CALLS(CONSILIUM_ADMIN_CALL)
#undef CONSILIUM_ADMIN_CALL

  // Until the stream ends or `on_change` returns false (then OK).
  virtual absl::Status WatchRound(
      const v1::WatchRoundRequest&,
      absl::FunctionRef<bool(const v1::RoundInfo&)> /*on_change*/) {
    return NotHere("WatchRound");
  }
  // An error of `on_chunk` ends the download and is returned.
  virtual absl::Status DownloadVersion(
      const v1::DownloadRequest&,
      absl::FunctionRef<absl::Status(const v1::DownloadChunk&)> /*on_chunk*/) {
    return NotHere("DownloadVersion");
  }
  // `next` fills the next message and returns false when there is none; its
  // error ends the import and is returned.
  virtual absl::Status ImportVersion(
      absl::FunctionRef<absl::StatusOr<bool>(v1::ImportVersionChunk*)>
      /*next*/,
      v1::VersionInfo*) {
    return NotHere("ImportVersion");
  }

 protected:
  virtual absl::Status NotHere(std::string_view method) const = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_ADMIN_API_H_

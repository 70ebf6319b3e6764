// AdminService over the engine and the store.

#ifndef CONSILIUM_COORDINATOR_RPC_ADMIN_SERVICE_H_
#define CONSILIUM_COORDINATOR_RPC_ADMIN_SERVICE_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/v1/admin.grpc.pb.h"
#include "coordinator/rpc/caller.h"
#include "coordinator/rpc/job_limit.h"

namespace consilium {

struct AdminServiceOptions {
  absl::Duration server_lifetime;
  absl::Duration renew_before;
  absl::Duration institution_lifetime;
  std::string server_certificate;  // path, for RenewServerCertificate
  std::string server_key;
  std::string enrollment_address;  // told with an invitation
  std::shared_ptr<ReloadableServerIdentity> identity;
  const LiveIssuingCa* ca = nullptr;
  int64_t max_jobs = 2;  // long operations at once, limits.max_admin_jobs
};

// Handlers run on the executor, which is not that of institutions: long ones
// hold their thread. The executor has more threads than max_jobs. Reads take a
// snapshot of the store; changes go to the engine, which writes the audit entry
// with the caller's URI.
class AdminServiceImpl final
    : public v1::AdminService::WithRawCallbackMethod_DownloadVersion<
          v1::AdminService::CallbackService> {
 public:
  AdminServiceImpl(RpcDeps deps, AdminServiceOptions options);

#define CONSILIUM_ADMIN_UNARY(Method, Request, Response)                 \
  grpc::ServerUnaryReactor* Method(grpc::CallbackServerContext* context, \
                                   const v1::Request* request,           \
                                   v1::Response* response) override
  CONSILIUM_ADMIN_UNARY(GetStatus, GetStatusRequest, StatusInfo);
  CONSILIUM_ADMIN_UNARY(GetFederation, GetFederationRequest, FederationInfo);
  CONSILIUM_ADMIN_UNARY(SetFederation, SetFederationRequest, FederationInfo);
  CONSILIUM_ADMIN_UNARY(InviteInstitution, InviteInstitutionRequest,
                        InviteInstitutionResponse);
  CONSILIUM_ADMIN_UNARY(ListInstitutions, ListInstitutionsRequest,
                        ListInstitutionsResponse);
  CONSILIUM_ADMIN_UNARY(GetInstitution, GetInstitutionRequest, InstitutionInfo);
  CONSILIUM_ADMIN_UNARY(SetInstitutionState, SetInstitutionStateRequest,
                        InstitutionInfo);
  CONSILIUM_ADMIN_UNARY(InviteOperator, InviteOperatorRequest,
                        InviteInstitutionResponse);
  CONSILIUM_ADMIN_UNARY(ListOperators, ListOperatorsRequest,
                        ListOperatorsResponse);
  CONSILIUM_ADMIN_UNARY(RevokeOperator, RevokeOperatorRequest, OperatorInfo);
  CONSILIUM_ADMIN_UNARY(PlanRound, PlanRoundRequest, RoundPlan);
  CONSILIUM_ADMIN_UNARY(StartRound, StartRoundRequest, RoundInfo);
  CONSILIUM_ADMIN_UNARY(ListRounds, ListRoundsRequest, ListRoundsResponse);
  CONSILIUM_ADMIN_UNARY(GetRound, GetRoundRequest, RoundInfo);
  CONSILIUM_ADMIN_UNARY(ExtendRound, ExtendRoundRequest, RoundInfo);
  CONSILIUM_ADMIN_UNARY(CloseRound, CloseRoundRequest, RoundInfo);
  CONSILIUM_ADMIN_UNARY(CancelRound, CancelRoundRequest, RoundInfo);
  CONSILIUM_ADMIN_UNARY(ReplayRound, ReplayRoundRequest, ReplayRoundResponse);
  CONSILIUM_ADMIN_UNARY(ListContributions, ListContributionsRequest,
                        ListContributionsResponse);
  CONSILIUM_ADMIN_UNARY(GetContribution, GetContributionRequest,
                        ContributionInfo);
  CONSILIUM_ADMIN_UNARY(QuarantineContribution, QuarantineContributionRequest,
                        ContributionInfo);
  CONSILIUM_ADMIN_UNARY(ReleaseContribution, ReleaseContributionRequest,
                        ContributionInfo);
  CONSILIUM_ADMIN_UNARY(VerifyContribution, VerifyContributionRequest,
                        VerifyContributionResponse);
  CONSILIUM_ADMIN_UNARY(ListVersions, ListVersionsRequest,
                        ListVersionsResponse);
  CONSILIUM_ADMIN_UNARY(GetVersion, GetVersionRequest, VersionInfo);
  CONSILIUM_ADMIN_UNARY(PromoteVersion, PromoteVersionRequest, VersionInfo);
  CONSILIUM_ADMIN_UNARY(RollbackVersion, RollbackVersionRequest, VersionInfo);
  CONSILIUM_ADMIN_UNARY(DiffVersions, DiffVersionsRequest,
                        DiffVersionsResponse);
  CONSILIUM_ADMIN_UNARY(GetSchedule, GetScheduleRequest, ScheduleInfo);
  CONSILIUM_ADMIN_UNARY(SetSchedule, SetScheduleRequest, ScheduleInfo);
  CONSILIUM_ADMIN_UNARY(PauseSchedule, PauseScheduleRequest, ScheduleInfo);
  CONSILIUM_ADMIN_UNARY(ListCertificates, ListCertificatesRequest,
                        ListCertificatesResponse);
  CONSILIUM_ADMIN_UNARY(RenewOperatorCertificate, RenewCertificateRequest,
                        RenewCertificateResponse);
  CONSILIUM_ADMIN_UNARY(RenewServerCertificate, RenewServerCertificateRequest,
                        CertificateInfo);
  CONSILIUM_ADMIN_UNARY(CheckDatabase, CheckDatabaseRequest,
                        CheckDatabaseResponse);
  CONSILIUM_ADMIN_UNARY(BackupDatabase, BackupDatabaseRequest,
                        BackupDatabaseResponse);
  CONSILIUM_ADMIN_UNARY(TailAudit, TailAuditRequest, TailAuditResponse);
  CONSILIUM_ADMIN_UNARY(VerifyAudit, VerifyAuditRequest, VerifyAuditResponse);
#undef CONSILIUM_ADMIN_UNARY

  grpc::ServerWriteReactor<v1::RoundInfo>* WatchRound(
      grpc::CallbackServerContext* context,
      const v1::WatchRoundRequest* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* DownloadVersion(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerReadReactor<v1::ImportVersionChunk>* ImportVersion(
      grpc::CallbackServerContext* context, v1::VersionInfo* response) override;

 private:
  // Runs `handler(const Staff&) -> absl::Status` for an admitted caller.
  template <typename Handler>
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context,
                                 std::string_view method, Handler handler);
  template <typename Handler>
  grpc::ServerUnaryReactor* Change(grpc::CallbackServerContext* context,
                                   std::string_view method, Handler handler);

  // The server's certificate, the CAs'.
  std::vector<v1::CertificateInfo> Own() const;
  absl::Status Invite(const std::string& actor, const std::string& name,
                      PeerRole role, uint64_t lifetime_seconds,
                      const Settings& labels,
                      v1::InviteInstitutionResponse* response);

  const RpcDeps deps_;
  const AdminServiceOptions options_;
  JobLimit jobs_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_ADMIN_SERVICE_H_

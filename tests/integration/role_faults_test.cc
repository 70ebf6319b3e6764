// Every call with every role: institutions do not administer, operators and
// auditors do not contribute, auditors change nothing.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "consilium/base/strings.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

struct Call {
  const char* name;
  std::function<grpc::Status(const std::shared_ptr<grpc::Channel>&)> run;
};

template <typename Service, typename Request, typename Response>
Call Unary(const char* name,
           grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*)) {
  return {name, [method](const std::shared_ptr<grpc::Channel>& channel) {
            const auto stub = Service::NewStub(channel);
            grpc::ClientContext context;
            Response response;
            return (stub.get()->*method)(&context, Request(), &response);
          }};
}

// The first message, if any, and the end of a stream that the server writes.
template <typename Service, typename Request, typename Response>
Call Reads(const char* name,
           std::unique_ptr<grpc::ClientReader<Response>> (
               Service::Stub::*method)(grpc::ClientContext*, const Request&)) {
  return {name, [method](const std::shared_ptr<grpc::Channel>& channel) {
            const auto stub = Service::NewStub(channel);
            grpc::ClientContext context;
            const auto reader = (stub.get()->*method)(&context, Request());
            Response response;
            while (reader->Read(&response)) context.TryCancel();
            return reader->Finish();
          }};
}

#define ADMIN_CALL(method) \
  Unary<v1::AdminService>(#method, &v1::AdminService::Stub::method)
#define FEDERATION_CALL(method) \
  Unary<v1::FederationService>(#method, &v1::FederationService::Stub::method)

std::vector<Call> ReadingCalls() {
  return {
      ADMIN_CALL(GetStatus),
      ADMIN_CALL(GetFederation),
      ADMIN_CALL(ListInstitutions),
      ADMIN_CALL(GetInstitution),
      ADMIN_CALL(ListOperators),
      ADMIN_CALL(PlanRound),
      ADMIN_CALL(ListRounds),
      ADMIN_CALL(GetRound),
      ADMIN_CALL(ListContributions),
      ADMIN_CALL(GetContribution),
      ADMIN_CALL(ListVersions),
      ADMIN_CALL(GetVersion),
      ADMIN_CALL(DiffVersions),
      ADMIN_CALL(GetSchedule),
      ADMIN_CALL(ListCertificates),
      ADMIN_CALL(CheckDatabase),
      ADMIN_CALL(TailAudit),
      ADMIN_CALL(VerifyAudit),
      ADMIN_CALL(RenewOperatorCertificate),  // the caller's own
      Reads<v1::AdminService>("WatchRound",
                              &v1::AdminService::Stub::WatchRound),
  };
}

std::vector<Call> ChangingCalls() {
  return {
      ADMIN_CALL(SetFederation),
      ADMIN_CALL(InviteInstitution),
      ADMIN_CALL(SetInstitutionState),
      ADMIN_CALL(InviteOperator),
      ADMIN_CALL(RevokeOperator),
      ADMIN_CALL(StartRound),
      ADMIN_CALL(ExtendRound),
      ADMIN_CALL(CloseRound),
      ADMIN_CALL(CancelRound),
      ADMIN_CALL(ReplayRound),
      ADMIN_CALL(QuarantineContribution),
      ADMIN_CALL(ReleaseContribution),
      ADMIN_CALL(VerifyContribution),
      ADMIN_CALL(PromoteVersion),
      ADMIN_CALL(RollbackVersion),
      ADMIN_CALL(SetSchedule),
      ADMIN_CALL(PauseSchedule),
      ADMIN_CALL(RenewServerCertificate),
      ADMIN_CALL(BackupDatabase),
      {"ImportVersion",
       [](const std::shared_ptr<grpc::Channel>& channel) {
         const auto stub = v1::AdminService::NewStub(channel);
         grpc::ClientContext context;
         v1::VersionInfo response;
         const auto writer = stub->ImportVersion(&context, &response);
         writer->Write({});
         writer->WritesDone();
         return writer->Finish();
       }},
  };
}

std::vector<Call> InstitutionCalls() {
  return {
      FEDERATION_CALL(Hello),
      FEDERATION_CALL(RenewCertificate),
      FEDERATION_CALL(WaitForWork),
      FEDERATION_CALL(ReportProgress),
      FEDERATION_CALL(Decline),
      FEDERATION_CALL(BeginUpload),
      FEDERATION_CALL(CommitUpload),
      FEDERATION_CALL(ReportEvaluation),
      {"Upload",
       [](const std::shared_ptr<grpc::Channel>& channel) {
         const auto stub = v1::FederationService::NewStub(channel);
         grpc::ClientContext context;
         const auto stream = stub->Upload(&context);
         stream->Write({});
         stream->WritesDone();
         v1::UploadReply reply;
         while (stream->Read(&reply)) {
         }
         return stream->Finish();
       }},
  };
}

class RolesTest : public testing::Test {
 protected:
  RolesTest() { federation_.Enroll("bank-a"); }

  std::shared_ptr<grpc::Channel> ChannelOf(PeerRole role,
                                           const std::string& name) {
    return federation_.ChannelWith(
        federation_.Issue({"cards", role, name}, absl::Now(), absl::Hours(1)));
  }
  std::string LastAuditHash() {
    v1::TailAuditRequest request;
    request.set_limit(1000);
    v1::TailAuditResponse response;
    grpc::ClientContext context;
    EXPECT_OK(
        FromGrpc(federation_.admin().TailAudit(&context, request, &response)));
    return response.entries().rbegin()->hash();
  }
  // Every call is denied, with the role it would need, and none leaves a trace.
  void ExpectDenied(const std::shared_ptr<grpc::Channel>& channel,
                    const std::vector<Call>& calls,
                    const testing::Matcher<std::string>& says) {
    const std::string before = LastAuditHash();
    for (const Call& call : calls) {
      SCOPED_TRACE(call.name);
      EXPECT_THAT(FromGrpc(call.run(channel)),
                  StatusIs(StatusCode::kPermissionDenied, says));
    }
    EXPECT_EQ(LastAuditHash(), before);
    ExpectStoreIsWhole(federation_);
  }

  TestFederation federation_;
};

TEST_F(RolesTest, AnInstitutionDoesNotAdminister) {
  const auto channel = ChannelOf(PeerRole::kInstitution, "bank-a");
  ExpectDenied(channel, ReadingCalls(),
               AllOf(HasSubstr("consilium://cards/institution/bank-a has the "
                               "role institution"),
                     HasSubstr("needs the role operator or auditor")));
  ExpectDenied(channel, ChangingCalls(),
               AllOf(HasSubstr("has the role institution"),
                     HasSubstr("needs the role operator")));
}

TEST_F(RolesTest, AnAuditorReadsAndChangesNothing) {
  const auto channel = ChannelOf(PeerRole::kAuditor, "audit-x");
  ExpectDenied(channel, ChangingCalls(),
               AllOf(HasSubstr("consilium://cards/auditor/audit-x has the role "
                               "auditor"),
                     HasSubstr("needs the role operator")));
  for (const Call& call : ReadingCalls()) {
    SCOPED_TRACE(call.name);
    EXPECT_NE(FromGrpc(call.run(channel)).code(),
              StatusCode::kPermissionDenied);
  }
}

TEST_F(RolesTest, StaffDoesNotContribute) {
  for (const PeerRole role : {PeerRole::kOperator, PeerRole::kAuditor}) {
    // A name that is also that of an institution helps nobody.
    ExpectDenied(
        ChannelOf(role, "bank-a"), InstitutionCalls(),
        AllOf(HasSubstr(Cat("consilium://cards/", PeerRoleName(role),
                            "/bank-a has not the role \"institution\"")),
              HasSubstr("use the certificate of an institution")));
  }
}

// Who enrolled to read is never asked to train, or a round would wait for it.
TEST_F(RolesTest, AnAuditorIsNotInvitedToRounds) {
  federation_.Enroll("bank-b");
  federation_.EnrollAuditor("audit-x");
  const uint64_t round = federation_.StartRound();
  v1::GetRoundRequest request;
  request.set_round(round);
  v1::RoundInfo info;
  grpc::ClientContext context;
  ASSERT_OK(FromGrpc(federation_.admin().GetRound(&context, request, &info)));
  std::vector<std::string> members;
  for (const v1::MemberInfo& member : info.members()) {
    members.push_back(member.institution());
  }
  EXPECT_THAT(members, testing::UnorderedElementsAre("bank-a", "bank-b"));
  const Delta a{"bank-a", 1, 3};
  const Delta b{"bank-b", 2, 5};
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);
  ExpectExactMean(federation_, round, {a, b});
  ExpectStoreIsWhole(federation_);
}

TEST_F(RolesTest, ARevokedAuditorIsCutOffWhileItWatches) {
  const TlsIdentity identity = federation_.EnrollAuditor("audit-x");
  const auto stub =
      v1::AdminService::NewStub(federation_.ChannelWith(identity));
  grpc::ClientContext context;
  const auto reader = stub->WatchRound(&context, {});
  v1::RoundInfo info;
  ASSERT_TRUE(reader->Read(&info));
  for (const auto change : {v1::SetInstitutionStateRequest::SUSPEND,
                            v1::SetInstitutionStateRequest::REVOKE}) {
    EXPECT_THAT(federation_.SetState("audit-x", change, ""),
                StatusIs(StatusCode::kFailedPrecondition,
                         HasSubstr("is an auditor; see `consilium operator "
                                   "revoke`")));
  }
  ASSERT_OK(federation_.RevokeOperator("audit-x", "contract ended"));
  while (reader->Read(&info)) {
  }
  const testing::Matcher<absl::Status> revoked =
      StatusIs(StatusCode::kUnauthenticated, HasSubstr("is revoked"));
  EXPECT_THAT(FromGrpc(reader->Finish()), revoked);
  grpc::ClientContext next;
  v1::StatusInfo status;
  EXPECT_THAT(FromGrpc(stub->GetStatus(&next, {}, &status)), revoked);
  ExpectStoreIsWhole(federation_);
}

}  // namespace
}  // namespace consilium

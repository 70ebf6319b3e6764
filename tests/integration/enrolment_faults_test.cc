// Enrolment with tokens that are wrong, spent, expired or for somebody else,
// and institutions that are suspended or shut out afterwards.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/random.h"
#include "consilium/secure/sha256.h"
#include "consilium/secure/token.h"
#include "consilium/v1/enrollment.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sleeper.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;
using Change = v1::SetInstitutionStateRequest;

class EnrolmentFaultsTest : public testing::Test {
 protected:
  client::EnrollOptions OptionsFor(const std::string& token,
                                   const std::string& folder) const {
    client::EnrollOptions options;
    options.coordinator = federation_.enrollment_address();
    options.token = token;
    options.ca_fingerprint = federation_.fingerprint();
    options.directory = JoinPath(federation_.dir(), folder);
    options.proxy = "none";
    return options;
  }
  absl::StatusOr<client::Enrollment> Enroll(const std::string& token,
                                            const std::string& folder) const {
    return client::Enroll(OptionsFor(token, folder));
  }
  // Around the SDK, which would refuse much of this itself.
  absl::StatusOr<v1::EnrollResponse> EnrollRaw(
      const v1::EnrollRequest& request) {
    const auto root = ReadWholeFile(
        federation_.fs(),
        JoinPath(federation_.dir(), "coordinator/identity/root-ca.pem"),
        64 << 10);
    const auto stub = v1::EnrollmentService::NewStub(grpc::CreateCustomChannel(
        federation_.enrollment_address(),
        MakeEnrollmentChannelCredentials(*root), MakeChannelArguments({})));
    grpc::ClientContext context;
    v1::EnrollResponse response;
    const absl::Status status =
        FromGrpc(stub->Enroll(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  v1::EnrollRequest Honest(const std::string& token) const {
    v1::EnrollRequest request;
    *request.mutable_protocol() = OwnProtocolRange();
    request.set_token(token);
    const auto key = TlsKey::Generate();
    request.set_csr_pem(*CreateCertificateRequest(*key, "operator"));
    return request;
  }
  absl::Status Invite(const std::string& name, const std::string& role = "",
                      uint64_t lifetime_seconds = 0) {
    v1::InviteInstitutionRequest request;
    request.set_name(name);
    request.set_role(role);
    request.set_token_lifetime_seconds(lifetime_seconds);
    v1::InviteInstitutionResponse response;
    grpc::ClientContext context;
    return FromGrpc(
        federation_.admin().InviteInstitution(&context, request, &response));
  }
  static testing::Matcher<absl::Status> BadToken() {
    return StatusIs(StatusCode::kUnauthenticated,
                    AllOf(HasSubstr("token is wrong, used or expired"),
                          HasSubstr("ask the operator for a new one")));
  }
  // The newest `count` entries, oldest first, as "action object detail".
  std::vector<std::string> AuditTail(uint64_t count) {
    v1::TailAuditRequest request;
    request.set_limit(count);
    v1::TailAuditResponse response;
    grpc::ClientContext context;
    EXPECT_OK(
        FromGrpc(federation_.admin().TailAudit(&context, request, &response)));
    std::vector<std::string> out;
    for (const v1::AuditEntry& e : response.entries()) {
      out.push_back(Cat(e.action(), " ", e.object(), " ", e.detail()));
    }
    out.resize(count);
    return out;
  }
  std::string StateOf(const std::string& name) {
    v1::GetInstitutionRequest request;
    request.set_name(name);
    v1::InstitutionInfo info;
    grpc::ClientContext context;
    EXPECT_OK(
        FromGrpc(federation_.admin().GetInstitution(&context, request, &info)));
    return info.state();
  }
  static TestFederation::Options OptionsWith(Clock* clock) {
    TestFederation::Options options;
    options.clock = clock;
    return options;
  }

  FakeClock clock_{absl::Now()};
  TestFederation federation_{OptionsWith(&clock_)};
};

TEST_F(EnrolmentFaultsTest, ATokenWorksOnce) {
  const std::string token = federation_.Token("bank-a");
  ASSERT_OK(Enroll(token, "bank-a").status());
  EXPECT_THAT(Enroll(token, "thief").status(), BadToken());
  // The first one is none the worse, and nothing was left of the second.
  EXPECT_OK(RawClient(federation_, "bank-a").Work().status());
  EXPECT_FALSE(federation_.fs()->Exists(
      JoinPath(federation_.dir(), "thief/client.pem")));
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, ATokenThatManyUseAtOnceWorksOnce) {
  const std::string token = federation_.Token("bank-a");
  std::atomic<int> enrolled{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back(
        [&] { enrolled += EnrollRaw(Honest(token)).ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(enrolled.load(), 1);
  ExpectStoreIsWhole(federation_);
}

// As when the answer is lost: the token is spent, and the caller has nothing.
TEST_F(EnrolmentFaultsTest, TheSameKeyGetsTheSameCertificateAgain) {
  const std::string token = federation_.Token("bank-a");
  const std::string folder = JoinPath(federation_.dir(), "bank-a");
  const auto key = TlsKey::Generate();
  ASSERT_OK(key.status());
  ASSERT_OK(federation_.fs()->MakeDirs(folder));
  ASSERT_OK(key->SaveFile(federation_.fs(), JoinPath(folder, "client.key")));
  v1::EnrollRequest request = Honest(token);
  request.set_csr_pem(*CreateCertificateRequest(*key, ""));
  const auto lost = EnrollRaw(request);
  ASSERT_OK(lost.status());

  const auto again = Enroll(token, "bank-a");
  ASSERT_OK(again.status());
  EXPECT_EQ(again->certificate_serial,
            ParseCertificate(lost->certificate_chain_pem())->serial);
  EXPECT_OK(RawClient(federation_, "bank-a").Work().status());
  const auto audit = AuditTail(2);
  EXPECT_THAT(audit[0], AllOf(HasSubstr("institution.enrol bank-a"),
                              HasSubstr(again->certificate_serial)));
  EXPECT_THAT(audit[1], AllOf(HasSubstr("institution.enrol bank-a"),
                              HasSubstr(again->certificate_serial),
                              HasSubstr("sent again to the key")));
  // Over a restart too; another key, or the same one too late, is refused.
  federation_.Restart();
  EXPECT_OK(EnrollRaw(request).status());
  EXPECT_THAT(EnrollRaw(Honest(token)).status(), BadToken());
  clock_.Advance(absl::Hours(73));
  EXPECT_THAT(EnrollRaw(request).status(), BadToken());
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, ARevokedCertificateIsNotToldAgain) {
  const v1::EnrollRequest request = Honest(federation_.Token("bank-a"));
  ASSERT_OK(EnrollRaw(request).status());
  ASSERT_OK(federation_.SetState("bank-a", Change::REVOKE, "key lost"));
  EXPECT_THAT(EnrollRaw(request).status(), BadToken());
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, TooManyAttemptsAreTurnedAway) {
  const v1::EnrollRequest wrong = Honest("cst1-guess");
  const auto guess = [&] { return EnrollRaw(wrong).status(); };
  const std::string token = federation_.Token("bank-a");
  for (int i = 0; i < 30; ++i) EXPECT_THAT(guess(), BadToken());
  const auto too_many =
      StatusIs(StatusCode::kResourceExhausted,
               AllOf(HasSubstr("too many enrolments from 127.0.0.1"),
                     HasSubstr("limits.enrollments_per_minute_and_address is "
                               "30"),
                     HasSubstr("try again in 2s")));
  EXPECT_THAT(guess(), too_many);
  // A good token is turned away too, and not spent: the SDK waits and asks
  // again, which here makes the coordinator's time pass.
  EXPECT_THAT(EnrollRaw(Honest(token)).status(), too_many);
  FakeSleeper sleeper(&clock_);
  client::EnrollOptions options = OptionsFor(token, "bank-a");
  options.sleeper = &sleeper;
  EXPECT_OK(client::Enroll(options).status());
  EXPECT_FALSE(sleeper.slept().empty());
  EXPECT_OK(RawClient(federation_, "bank-a").Work().status());
  ExpectStoreIsWhole(federation_);
}

// The port is open to strangers, who could take every place there is.
TEST_F(EnrolmentFaultsTest, WhoOnlyHoldsAConnectionLosesIt) {
  const std::string token = federation_.Token("bank-a");
  const CoordinatorConfig::Limits limits;
  std::vector<int> held;
  for (int64_t i = 0; i < limits.max_enrollment_connections_per_address; ++i) {
    held.push_back(DialLoopback(
        static_cast<uint16_t>(federation_.server().enrollment_port())));
  }
  EXPECT_THAT(EnrollRaw(Honest(token)).status(),
              StatusIs(StatusCode::kUnavailable));
  clock_.Advance(limits.enrollment_timeout);
  FakeSleeper sleeper(&clock_);
  client::EnrollOptions options = OptionsFor(token, "bank-a");
  options.sleeper = &sleeper;
  EXPECT_OK(client::Enroll(options).status());
  for (const int fd : held) {
    char next;
    EXPECT_LE(recv(fd, &next, 1, 0), 0);
    close(fd);
  }
}

TEST_F(EnrolmentFaultsTest, WrongTokensAreRefusedAlike) {
  const std::string good = federation_.Token("bank-a");
  const EnrollmentToken other = EnrollmentToken::Generate(*SystemRandom());
  const SecretBytes text = other.ToText();
  EXPECT_THAT(
      Enroll(std::string(text.Text(SecretAccess("a test's own token"))), "x")
          .status(),
      BadToken());
  for (const std::string& token :
       {std::string(), std::string("cst1-"), std::string("password"),
        good.substr(0, good.size() - 1), good + "x", std::string(8'000, 'a')}) {
    EXPECT_THAT(EnrollRaw(Honest(token)).status(), BadToken()) << token.size();
  }
  // The SDK does not send what cannot be a token.
  EXPECT_THAT(Enroll("password", "x").status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("token")));
  EXPECT_OK(Enroll(good, "bank-a").status());
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, ATokenExpires) {
  const std::string token = federation_.Token("bank-a");
  clock_.Advance(absl::Hours(72) - absl::Minutes(1));
  const std::string late = federation_.Token("bank-b");
  clock_.Advance(absl::Minutes(2));
  EXPECT_THAT(Enroll(token, "bank-a").status(), BadToken());
  EXPECT_EQ(StateOf("bank-a"), "invited");
  // By hand: the SDK would find that this certificate begins in its future.
  EXPECT_OK(EnrollRaw(Honest(late)).status());
  EXPECT_EQ(StateOf("bank-b"), "active");
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, ANewInvitationEndsTheOldOne) {
  const std::string old = federation_.Token("bank-a");
  const std::string token = federation_.Token("bank-a");
  EXPECT_THAT(Enroll(old, "bank-a").status(), BadToken());
  EXPECT_OK(Enroll(token, "bank-a").status());
  ExpectStoreIsWhole(federation_);
}

// Who one becomes is in the token, not in what one says of oneself.
TEST_F(EnrolmentFaultsTest, ATokenMakesOneInstitutionWhateverItCallsItself) {
  const std::string token = federation_.Token("bank-b");
  const auto enrollment = Enroll(token, "bank-a");
  ASSERT_OK(enrollment.status());
  EXPECT_EQ(enrollment->institution, "bank-b");
  EXPECT_EQ(enrollment->uri, "consilium://cards/institution/bank-b");
  const auto raw = EnrollRaw(Honest(federation_.Token("bank-c")));
  ASSERT_OK(raw.status());
  EXPECT_EQ(raw->uri(), "consilium://cards/institution/bank-c");
}

// Each of these ends before the token is spent.
TEST_F(EnrolmentFaultsTest, OtherMistakesDoNotCostTheToken) {
  const std::string token = federation_.Token("bank-a");
  client::EnrollOptions options = OptionsFor(token, "bank-a");
  options.ca_fingerprint = Sha256("another root").Hex();
  EXPECT_THAT(client::Enroll(options).status(),
              StatusIs(StatusCode::kUnauthenticated,
                       HasSubstr(federation_.fingerprint())));
  options.ca_fingerprint = "abc";
  EXPECT_THAT(client::Enroll(options).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("64")));

  v1::EnrollRequest request = Honest(token);
  request.set_csr_pem("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n");
  EXPECT_THAT(
      EnrollRaw(request).status(),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("certificate request")));
  // This is not even taken in.
  request.set_csr_pem(std::string(1 << 20, 'A'));
  EXPECT_THAT(EnrollRaw(request).status(), StatusIs(StatusCode::kUnavailable));
  request = Honest(token);
  request.mutable_protocol()->set_min(7);
  request.mutable_protocol()->set_max(9);
  EXPECT_THAT(EnrollRaw(request).status(),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("the caller speaks 7 to 9"),
                             HasSubstr("this side 1 to 1"),
                             HasSubstr("upgrade the coordinator"))));

  ASSERT_OK(Enroll(token, "bank-a").status());
  const std::string second = federation_.Token("bank-b");
  EXPECT_THAT(Enroll(second, "bank-a").status(),
              StatusIs(StatusCode::kAlreadyExists,
                       HasSubstr("already holds an identity")));
  EXPECT_OK(Enroll(second, "bank-b").status());
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, InvitationsThatMakeNoSense) {
  for (const char* name : {"", "Bank A", "../bank", "-bank", "b\xc3\xa4nk"}) {
    EXPECT_THAT(Invite(name), StatusIs(StatusCode::kInvalidArgument,
                                       HasSubstr("institution")))
        << name;
  }
  EXPECT_THAT(Invite(std::string(64, 'a')),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("63")));
  EXPECT_THAT(Invite("bank-a", "operator"),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("operators are not invited")));
  EXPECT_THAT(Invite("bank-a", "king"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("king")));
  EXPECT_THAT(Invite("bank-a", "", uint64_t{367} * 86400),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("a year")));
  // One name, one role.
  federation_.Enroll("bank-a");
  EXPECT_THAT(Invite("bank-a", "auditor"),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("bank-a has enrolled as institution"),
                             HasSubstr("another name"))));
  federation_.EnrollAuditor("audit-x");
  EXPECT_THAT(Invite("audit-x"),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("audit-x has enrolled as auditor")));
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, RevocationIsFinal) {
  const std::string pending = federation_.Token("bank-a");
  ASSERT_OK(federation_.SetState("bank-a", Change::REVOKE, "a mistake"));
  EXPECT_THAT(Enroll(pending, "bank-a").status(), BadToken());
  EXPECT_THAT(Invite("bank-a"),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("bank-a was revoked, which is final"),
                             HasSubstr("another name"))));
  for (const auto change : {Change::RESUME, Change::SUSPEND}) {
    EXPECT_THAT(federation_.SetState("bank-a", change, ""),
                StatusIs(StatusCode::kFailedPrecondition,
                         HasSubstr("bank-a is revoked, which is final")));
  }
  EXPECT_EQ(StateOf("bank-a"), "revoked");
  EXPECT_THAT(federation_.SetState("bank-z", Change::REVOKE, ""),
              StatusIs(StatusCode::kNotFound,
                       HasSubstr("there is no institution \"bank-z\"")));
  ExpectStoreIsWhole(federation_);
}

TEST_F(EnrolmentFaultsTest, TheEnrolmentPortServesNothingElse) {
  federation_.Enroll("bank-a");
  const TlsIdentity identity = federation_.IdentityOf("bank-a");
  const auto channel = grpc::CreateCustomChannel(
      federation_.enrollment_address(), MakeClientCredentials(identity),
      MakeChannelArguments({}));
  grpc::ClientContext context;
  v1::HelloResponse hello;
  EXPECT_THAT(FromGrpc(v1::FederationService::NewStub(channel)->Hello(
                  &context, {}, &hello)),
              StatusIs(StatusCode::kUnimplemented));
  grpc::ClientContext admin_context;
  v1::StatusInfo status;
  EXPECT_THAT(FromGrpc(v1::AdminService::NewStub(channel)->GetStatus(
                  &admin_context, {}, &status)),
              StatusIs(StatusCode::kUnimplemented));
}

TEST_F(EnrolmentFaultsTest, SuspensionStopsNewWorkAndEndsWithResume) {
  for (const char* name : {"bank-a", "bank-b", "idle", "sending"}) {
    federation_.Enroll(name);
  }
  const uint64_t round = federation_.StartRound();
  const Delta a{"bank-a", 1, 10};
  const Delta b{"bank-b", 2, 20};
  const Delta sent{"sending", 3, 30};
  RawClient idle(federation_, "idle");
  RawClient sending(federation_, "sending");
  const RawUpload later = idle.Make(idle.Task(), {"idle", 4, 40});
  const RawUpload upload = sending.Make(sending.Task(), sent);
  sending.ExpectBegins(upload);
  for (const char* name : {"idle", "sending"}) {
    ASSERT_OK(federation_.SetState(name, Change::SUSPEND, "under review"));
    EXPECT_EQ(StateOf(name), "suspended");
  }
  const auto work = idle.Work();
  ASSERT_OK(work.status());
  EXPECT_THAT(work->idle().reason(),
              HasSubstr("suspended; the operator can resume it"));
  ExpectRefused(idle.Begin(later.manifest),
                Refuses(v1::Refusal::SUSPENDED,
                        {"idle is suspended", "the operator can resume it"}));
  // What was begun may end.
  sending.SendAll(upload);

  ASSERT_OK(federation_.SetState("idle", Change::RESUME, ""));
  idle.ExpectBegins(later);
  idle.SendAll(later);
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);
  ExpectExactMean(federation_, round, {a, b, {"idle", 4, 40}, sent});

  // The next round has the one that was resumed and not the other.
  const uint64_t next = federation_.StartRound();
  EXPECT_TRUE(sending.Work()->has_idle());
  SubmitTask(federation_, *federation_.Connect("idle"), {"idle", 4, 40});
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);
  ExpectExactMean(federation_, next, {a, b, {"idle", 4, 40}});
  ExpectStoreIsWhole(federation_);
}

// A port that anybody may reach need not be open all the time.
TEST_F(EnrolmentFaultsTest, AClosedPortIsNoPort) {
  federation_.Enroll("bank-a");
  federation_.Stop();
  federation_.NextConfig().listen.enrollment_address.clear();
  federation_.StartAgain();
  EXPECT_EQ(federation_.server().enrollment_port(), 0);
  EXPECT_OK(RawClient(federation_, "bank-a").Work().status());
  v1::InviteInstitutionRequest request;
  request.set_name("bank-b");
  v1::InviteInstitutionResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(FromGrpc(federation_.admin().InviteInstitution(&context, request,
                                                             &response)),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("listen.enrollment_address")));
}

}  // namespace
}  // namespace consilium

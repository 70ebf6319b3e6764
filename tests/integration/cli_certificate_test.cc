// Certificates by the command: everybody renews his own, and a new issuing CA
// takes over while institutions go on with what they have.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "coordinator/cli/exit_codes.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Duration kDay = absl::Hours(24);

CertificateInfo LeafIn(const std::string& folder) {
  const auto pem =
      ReadWholeFile(PosixFileSystem(), JoinPath(folder, "client.pem"), 1 << 16);
  EXPECT_OK(pem);
  const auto leaf = ParseCertificate(*pem);
  EXPECT_OK(leaf);
  return *leaf;
}

// Of the CA in the chain.
std::string IssuerIn(const TlsIdentity& identity) {
  const auto chain = ParseCertificateChain(identity.chain_pem);
  EXPECT_OK(chain);
  EXPECT_EQ(chain->size(), 2u);
  return chain->back().serial;
}

class CliCertificateTest : public testing::Test {
 protected:
  // Invites by the command, enrols by the SDK; the command's configuration.
  std::string Join(const std::string& name, const std::string& role) {
    const json invitation = cli_.Document<v1::InviteInstitutionResponse>(
        {"operator", "invite", name, "--role", role});
    client::EnrollOptions options;
    options.coordinator = f_->enrollment_address();
    options.token = invitation["token"];
    options.ca_fingerprint = invitation["ca_fingerprint"];
    options.directory = Folder(name);
    options.proxy = "none";
    EXPECT_OK(client::Enroll(options).status());
    return cli_.ConfigFor(options.directory);
  }
  std::string Folder(const std::string& name) {
    return JoinPath(f_->dir(), name);
  }
  // An identity of that age, as the command uses it.
  std::string PlaceStaff(const PeerName& name, absl::Time issued_at,
                         absl::Duration lifetime) {
    const TlsIdentity identity = f_->Issue(name, issued_at, lifetime);
    const std::string folder = Folder(Cat("old-", name.name));
    EXPECT_OK(f_->fs()->MakeDirs(folder));
    const auto key = TlsKey::FromPem(identity.key_pem);
    EXPECT_OK(key);
    EXPECT_OK(key->SaveFile(f_->fs(), JoinPath(folder, "client.key")));
    EXPECT_OK(WriteFileAtomic(f_->fs(), JoinPath(folder, "client.pem"),
                              AsBytes(identity.chain_pem)));
    EXPECT_OK(WriteFileAtomic(f_->fs(), JoinPath(folder, "root-ca.pem"),
                              AsBytes(identity.root_pem)));
    return cli_.ConfigFor(folder);
  }
  // As the coordinator's own shows: role, state, serial.
  json Own(const std::string& role, const std::string& state) {
    const json all =
        cli_.Document<v1::ListCertificatesResponse>({"cert", "status"});
    for (const json& c : all["certificates"]) {
      if (c["role"] == role && c["state"] == state) return c;
    }
    return nullptr;
  }
  int Audited(const std::string& action) {
    const json tail = cli_.Document<v1::TailAuditResponse>(
        {"audit", "tail", "--limit", "1000"});
    int found = 0;
    for (const json& e : tail["entries"]) found += e["action"] == action;
    return found;
  }

  TimedFederation f_{{}, {"bank-a", "bank-b"}};
  OperatorCli cli_{*f_};
};

TEST_F(CliCertificateTest, EverybodyOnTheStaffRenewsHisOwn) {
  for (const std::string role : {"auditor", "operator"}) {
    SCOPED_TRACE(role);
    const std::string name = Cat("an-", role);
    const std::string config = Join(name, role);
    const CertificateInfo before = LeafIn(Folder(name));
    EXPECT_EQ(before.not_after - before.not_before,
              f_->config().certificates.operator_lifetime + kClockSkew);
    ASSERT_EQ(cli_.RunAs(config, {"cert", "renew"}), 0) << cli_.err();
    EXPECT_THAT(cli_.out(), HasSubstr(Cat("consilium://cards/", role, "/an-")));
    EXPECT_EQ(cli_.err(), "");
    const CertificateInfo after = LeafIn(Folder(name));
    EXPECT_NE(after.serial, before.serial);
    EXPECT_EQ(after.subject_uri, before.subject_uri);
    // The new one works, again too, and the role is what it was.
    ASSERT_EQ(cli_.RunAs(config, {"cert", "renew", "--json"}), 0);
    ASSERT_EQ(cli_.RunAs(config, {"cert", "status"}), 0) << cli_.err();
    EXPECT_THAT(cli_.out(), HasSubstr(Cat(role, " (you)")));
    EXPECT_EQ(cli_.RunAs(config, {"federation", "set", "quorum=1"}),
              role == "operator" ? 0 : kExitConnection.code);
  }
  EXPECT_EQ(Audited("certificate.renew"), 4);
  // Revoked, nobody renews.
  const std::string eve = Join("eve", "auditor");
  ASSERT_EQ(cli_.Run({"operator", "revoke", "eve", "--yes"}), 0);
  EXPECT_EQ(cli_.RunAs(eve, {"cert", "renew"}), kExitConnection.code);
}

TEST_F(CliCertificateTest, TheCommandTellsBeforeAndAfterTheEnd) {
  Join("watcher", "auditor");
  const PeerName watcher{"cards", PeerRole::kAuditor, "watcher"};
  const absl::Time now = absl::Now();
  const std::string soon =
      PlaceStaff(watcher, now - absl::Minutes(11), absl::Minutes(15));
  ASSERT_EQ(cli_.RunAs(soon, {"status", "--json"}), 0) << cli_.err();
  EXPECT_THAT(cli_.err(), AllOf(HasSubstr("your certificate ends"),
                                HasSubstr("consilium cert renew")));
  EXPECT_TRUE(cli_.Json().is_object());
  ASSERT_EQ(cli_.RunAs(soon, {"cert", "renew"}), 0);
  EXPECT_EQ(cli_.err(), "");
  ASSERT_EQ(cli_.RunAs(soon, {"status"}), 0);
  EXPECT_EQ(cli_.err(), "");
  const std::string late = PlaceStaff(watcher, now - 91 * kDay, 90 * kDay);
  EXPECT_EQ(cli_.RunAs(late, {"cert", "renew"}), kExitConnection.code);
  EXPECT_THAT(cli_.err(), AllOf(HasSubstr("your certificate expired at"),
                                HasSubstr("consilium operator invite"),
                                HasSubstr("--offline DIR cert renew")));
}

TEST_F(CliCertificateTest, AnInstitutionThatWasAwayEnrolsAgainInItsFolder) {
  f_->Enroll("bank-c");
  const auto place = [&](const std::string& name) {
    const absl::Time then = absl::Now() - 91 * kDay;
    const TlsIdentity old =
        f_->Issue({"cards", PeerRole::kInstitution, name}, then, 90 * kDay);
    ASSERT_OK(WriteFileAtomic(f_->fs(),
                              JoinPath(Folder("bank-c"), "client.pem"),
                              AsBytes(old.chain_pem), 0644));
    const auto key = TlsKey::FromPem(old.key_pem);
    ASSERT_OK(key);
    ASSERT_OK(
        key->SaveFile(f_->fs(), JoinPath(Folder("bank-c"), "client.key")));
  };
  const auto enroll = [&] {
    client::EnrollOptions options;
    options.coordinator = f_->enrollment_address();
    options.token = f_->Token("bank-c");
    options.ca_fingerprint = f_->fingerprint();
    options.directory = Folder("bank-c");
    options.proxy = "none";
    return client::Enroll(options).status();
  };
  EXPECT_THAT(enroll(), StatusIs(absl::StatusCode::kAlreadyExists));
  place("bank-x");  // somebody else's
  EXPECT_THAT(enroll(), StatusIs(absl::StatusCode::kFailedPrecondition));
  place("bank-c");
  ASSERT_OK(enroll());
  const uint64_t round = f_->StartRound();
  Contribute(*f_->Connect("bank-c"), 1);
  Contribute(f_["bank-a"], 1);
  Contribute(f_["bank-b"], 1);
  EXPECT_EQ(f_->WaitForEnd(round).phase(), "promoted");
}

TEST_F(CliCertificateTest, ANewIssuingCaTakesOverAndNobodyNotices) {
  const std::string first = IssuerIn(f_->IdentityOf("bank-a"));
  const TlsIdentity watcher = f_->EnrollStaff("watcher", "auditor");
  const uint64_t round = f_->StartRound();
  Contribute(f_["bank-a"], 1);
  // Beside the running coordinator; the root's key has been put elsewhere.
  const std::string root_key = JoinPath(f_->dir(), "root-ca.key");
  ASSERT_OK(f_->fs()->Rename(JoinPath(cli_.directory(), "offline/root-ca.key"),
                             root_key));
  ASSERT_EQ(cli_.RunOffline({"cert", "renew-issuer", "--root-key", root_key}),
            0)
      << cli_.err();
  EXPECT_EQ(Audited("certificate.issuer"), 0);
  ASSERT_OK(f_->server().Reload());

  const std::string second = Own("issuing-ca", "valid")["serial"];
  EXPECT_NE(second, first);
  EXPECT_EQ(Own("issuing-ca", "former")["serial"], first);
  EXPECT_EQ(Own("root-ca", "valid")["fingerprint"], f_->fingerprint());
  EXPECT_EQ(Audited("certificate.issuer"), 1);
  // The connection of before, and a new one with the certificate of before.
  Contribute(f_["bank-b"], 3);
  EXPECT_EQ(f_->WaitForEnd(round).phase(), "promoted");
  EXPECT_EQ(IssuerIn(f_->IdentityOf("bank-b")), first);
  const auto stub = v1::AdminService::NewStub(f_->ChannelWith(watcher));
  grpc::ClientContext context;
  v1::StatusInfo status;
  EXPECT_OK(FromGrpc(stub->GetStatus(&context, {}, &status)));
  // Who enrols gets it from the new one, and pins the same root.
  f_->Enroll("bank-c");
  EXPECT_EQ(IssuerIn(f_->IdentityOf("bank-c")), second);
  EXPECT_EQ(f_->IdentityOf("bank-c").root_pem,
            f_->IdentityOf("bank-b").root_pem);
  ASSERT_OK(f_["bank-a"].Renew());
  EXPECT_EQ(IssuerIn(f_->IdentityOf("bank-a")), second);

  f_->Restart();
  const auto c = f_->Connect("bank-c");
  const uint64_t next = f_->StartRound();
  Contribute(f_["bank-a"], 1);
  Contribute(f_["bank-b"], 2);
  Contribute(*c, 3);
  EXPECT_EQ(f_->WaitForEnd(next).phase(), "promoted");
  EXPECT_EQ(Audited("certificate.issuer"), 1);
  ExpectStoreIsWhole(*f_);
}

TEST_F(CliCertificateTest, ANewIssuingCaIsFoundWithoutASignal) {
  const std::string first = IssuerIn(f_->IdentityOf("bank-a"));
  ASSERT_EQ(cli_.RunOffline({"cert", "renew-issuer"}), 0) << cli_.err();
  f_.Advance(f_->config().tls.reload_interval + absl::Minutes(1));
  f_->Enroll("bank-c");
  EXPECT_NE(IssuerIn(f_->IdentityOf("bank-c")), first);
  // One that came while it was stopped is in the audit log as well.
  f_->Stop();
  ASSERT_EQ(cli_.RunOffline({"cert", "renew-issuer"}), 0) << cli_.err();
  f_->StartAgain();
  EXPECT_EQ(Audited("certificate.issuer"), 2);
}

TEST_F(CliCertificateTest, AServerCertificateRenewedOfflineIsInTheAuditLog) {
  EXPECT_EQ(Audited("certificate.server"), 1);
  ASSERT_EQ(cli_.RunOffline({"cert", "renew", "--server"}), 0) << cli_.err();
  ASSERT_OK(f_->server().Reload());
  EXPECT_EQ(Audited("certificate.server"), 2);
  // One that came while it was stopped as well, and each once.
  f_->Stop();
  ASSERT_EQ(cli_.RunOffline({"cert", "renew", "--server"}), 0) << cli_.err();
  f_->StartAgain();
  EXPECT_EQ(Audited("certificate.server"), 3);
  f_->Restart();
  EXPECT_EQ(Audited("certificate.server"), 3);
}

TEST_F(CliCertificateTest, BrokenFilesLeaveTheOldIssuingCaInUse) {
  const std::string first = IssuerIn(f_->IdentityOf("bank-a"));
  ASSERT_OK(WriteFileAtomic(f_->fs(), f_->config().tls.issuing_ca,
                            AsBytes("no certificate"), 0600));
  EXPECT_FALSE(f_->server().Reload().ok());
  f_->Enroll("bank-c");
  EXPECT_EQ(IssuerIn(f_->IdentityOf("bank-c")), first);
}

TEST_F(CliCertificateTest, TheServersIsRenewedFromItsFiles) {
  const std::string before = Own("server", "valid")["serial"];
  ASSERT_EQ(cli_.RunOffline({"cert", "renew", "--server"}), 0) << cli_.err();
  EXPECT_THAT(cli_.out(), HasSubstr("SIGHUP"));
  ASSERT_OK(f_->server().Reload());
  EXPECT_NE(Own("server", "valid")["serial"], before);
}

}  // namespace
}  // namespace consilium

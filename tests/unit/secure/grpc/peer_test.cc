#include "consilium/secure/grpc/peer.h"

#include <grpc/grpc_security_constants.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);
constexpr auto kUnauthenticated = absl::StatusCode::kUnauthenticated;

// Its constructor is for subclasses.
struct NoProperties : grpc::AuthPropertyIterator {};

class FakeAuthContext final : public grpc::AuthContext {
 public:
  explicit FakeAuthContext(std::vector<std::string> pems,
                           bool authenticated = true)
      : pems_(std::move(pems)), authenticated_(authenticated) {}

  bool IsPeerAuthenticated() const override { return authenticated_; }
  std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
  std::string GetPeerIdentityPropertyName() const override { return ""; }
  std::vector<grpc::string_ref> FindPropertyValues(
      const std::string& name) const override {
    std::vector<grpc::string_ref> values;
    if (name == GRPC_X509_PEM_CERT_PROPERTY_NAME) {
      values.assign(pems_.begin(), pems_.end());
    }
    return values;
  }
  grpc::AuthPropertyIterator begin() const override { return end(); }
  grpc::AuthPropertyIterator end() const override { return NoProperties(); }
  void AddProperty(const std::string&, const grpc::string_ref&) override {}
  bool SetPeerIdentityPropertyName(const std::string&) override {
    return false;
  }

 private:
  const std::vector<std::string> pems_;
  const bool authenticated_;
};

class PeerAuthenticatorTest : public ::testing::Test {
 protected:
  const TestPki pki_ = TestPki::Create(kNow);
  PeerAuthenticator authenticator_{"cards", /*max_cached=*/2};
};

TEST_F(PeerAuthenticatorTest, ReadsTheCertificateOnceWhileCached) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  const FakeAuthContext context({bank.chain_pem});
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Peer> peer,
                       authenticator_.PeerOf(context, kNow));
  EXPECT_EQ(peer->name, pki_.Name("bank-a"));
  EXPECT_EQ(peer->serial, bank.leaf.serial);
  EXPECT_EQ(peer->fingerprint, bank.leaf.fingerprint);
  EXPECT_EQ(peer->not_after, bank.leaf.not_after);
  EXPECT_THAT(authenticator_.PeerOf(context, kNow), IsOkAndHolds(peer));

  // Two others push it out of a cache of two, and it is read anew.
  const FakeAuthContext b({pki_.Peer("bank-b").chain_pem});
  const FakeAuthContext c({pki_.Peer("bank-c").chain_pem});
  ASSERT_OK(authenticator_.PeerOf(b, kNow));
  ASSERT_OK(authenticator_.PeerOf(context, kNow));  // now the newer one
  ASSERT_OK(authenticator_.PeerOf(c, kNow));
  EXPECT_THAT(authenticator_.PeerOf(context, kNow), IsOkAndHolds(peer));
  ASSERT_OK(authenticator_.PeerOf(b, kNow));
  ASSERT_OK(authenticator_.PeerOf(c, kNow));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Peer> again,
                       authenticator_.PeerOf(context, kNow));
  EXPECT_NE(again, peer);
  EXPECT_EQ(again->serial, peer->serial);
}

TEST_F(PeerAuthenticatorTest, ACertificateExpiresWhileCachedAndConnected) {
  const FakeAuthContext context({pki_.Peer("bank-a").chain_pem});
  ASSERT_OK(authenticator_.PeerOf(context, kNow + kPeerLifetime));
  EXPECT_THAT(
      authenticator_.PeerOf(context, kNow + kPeerLifetime + absl::Seconds(1)),
      StatusIs(kUnauthenticated, HasSubstr("expired at")));
}

TEST_F(PeerAuthenticatorTest, AnythingLessIsNobodyAndIsToldWhatToDo) {
  const std::string pem = pki_.Peer("bank-a").chain_pem;
  for (const FakeAuthContext& context :
       {FakeAuthContext({}), FakeAuthContext({pem}, false),
        FakeAuthContext({pem, pem})}) {
    EXPECT_THAT(authenticator_.PeerOf(context, kNow),
                StatusIs(kUnauthenticated, HasSubstr("enroll")));
  }
  EXPECT_THAT(authenticator_.PeerOf(FakeAuthContext({"no pem"}), kNow),
              StatusIs(kUnauthenticated));
  EXPECT_THAT(
      authenticator_.PeerOf(FakeAuthContext({pki_.Server().chain_pem}), kNow),
      StatusIs(kUnauthenticated, HasSubstr("enrol")));
  const TestPki loans = TestPki::Create(kNow, "loans");
  EXPECT_THAT(authenticator_.PeerOf(
                  FakeAuthContext({loans.Peer("bank-a").chain_pem}), kNow),
              StatusIs(kUnauthenticated, HasSubstr("\"loans\"")));
}

}  // namespace
}  // namespace consilium

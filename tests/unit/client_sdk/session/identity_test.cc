#include "client_sdk/session/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "consilium/base/bytes.h"
#include "consilium/secure/key_file.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium::client::internal {
namespace {

using ::testing::HasSubstr;

class IdentityTest : public ::testing::Test {
 protected:
  void Install(FileSystem* fs, const TlsIdentity& identity) {
    ASSERT_OK(fs->MakeDirs("/id"));
    const IdentityPaths paths("/id");
    ASSERT_OK(WriteFileAtomic(fs, paths.tls.root, AsBytes(identity.root_pem)));
    ASSERT_OK(
        WriteFileAtomic(fs, paths.tls.chain, AsBytes(identity.chain_pem)));
    ASSERT_OK(WriteKeyFile(fs, paths.tls.key, identity.key_pem));
    ASSERT_OK_AND_ASSIGN(const std::string pem, signing_.verify_key().ToPem());
    ASSERT_OK(WriteFileAtomic(fs, paths.signing_key, AsBytes(pem)));
  }
  absl::StatusOr<std::string> Issue(const TlsKey& key,
                                    const std::string& name) {
    CONSILIUM_ASSIGN_OR_RETURN(const std::string csr,
                               CreateCertificateRequest(key, ""));
    return pki_.ca.IssuePeer(csr, pki_.Name(name), pki_.now, kPeerLifetime,
                             *SystemRandom());
  }
  // The two steps of a renewal that the coordinator's answer lies between.
  absl::Status Renew(FileSystem* fs, const TlsKey& key,
                     const std::string& chain) {
    const IdentityPaths paths("/id");
    CONSILIUM_RETURN_IF_ERROR(StageRenewalKey(fs, paths, key));
    CONSILIUM_RETURN_IF_ERROR(
        StageRenewalChain(fs, paths, chain, pki_.Name("bank-a"), pki_.now));
    return FinishRenewal(fs, paths);
  }

  FakeClock clock_;
  const TestPki pki_ = TestPki::Create(clock_.Now());
  const SigningKey signing_ = Must(SigningKey::Generate(*SystemRandom()));
};

TEST_F(IdentityTest, LoadsWhatFitsTogether) {
  FaultFileSystem fs;
  Install(&fs, pki_.Peer("bank-a"));
  ASSERT_OK_AND_ASSIGN(const InstitutionIdentity identity,
                       LoadIdentity(&fs, "/id", clock_.Now()));
  EXPECT_EQ(identity.name, pki_.Name("bank-a"));
  EXPECT_EQ(identity.signing_key, signing_.verify_key());

  EXPECT_THAT(LoadIdentity(&fs, "/elsewhere", clock_.Now()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("enroll")));
  EXPECT_THAT(LoadIdentity(&fs, "/id", clock_.Now() + absl::Hours(24 * 365)),
              StatusIs(absl::StatusCode::kUnauthenticated));
  Install(&fs, pki_.Peer(pki_.Name("root", PeerRole::kOperator), kPeerLifetime,
                         pki_.now));
  EXPECT_THAT(
      LoadIdentity(&fs, "/id", clock_.Now()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("institution")));
}

// A loss of power at any step of a renewal leaves a key and a certificate that
// fit together: the old ones or the new ones.
TEST_F(IdentityTest, ARenewalCutShortLeavesAWorkingIdentity) {
  const TlsIdentity old = pki_.Peer("bank-a");
  const TlsKey key = Must(TlsKey::Generate());
  ASSERT_OK_AND_ASSIGN(const std::string chain, Issue(key, "bank-a"));
  const std::string new_serial = Must(ParseCertificate(chain)).serial;
  int64_t steps = 0;
  {
    FaultFileSystem fs;
    Install(&fs, old);
    const int64_t before = fs.ops();
    ASSERT_OK(Renew(&fs, key, chain));
    steps = fs.ops() - before;
    ASSERT_OK_AND_ASSIGN(const auto identity,
                         LoadIdentity(&fs, "/id", clock_.Now()));
    EXPECT_EQ(identity.leaf.serial, new_serial);
  }
  int renewed = 0, kept = 0;
  for (int64_t k = 1; k <= steps; ++k) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      FaultFileSystem fs;
      Install(&fs, old);
      fs.CrashAt(k);
      EXPECT_FALSE(Renew(&fs, key, chain).ok());
      fs.Crash(seed);
      ASSERT_OK(FinishRenewal(&fs, IdentityPaths("/id")));
      ASSERT_OK_AND_ASSIGN(const auto identity,
                           LoadIdentity(&fs, "/id", clock_.Now()));
      ++(identity.leaf.serial == new_serial ? renewed : kept);
      const IdentityPaths paths("/id");
      EXPECT_FALSE(fs.Exists(paths.next_key));
      EXPECT_FALSE(fs.Exists(paths.next_chain));
    }
  }
  EXPECT_GT(renewed, 0);
  EXPECT_GT(kept, 0);
}

TEST_F(IdentityTest, ARenewedCertificateIsChecked) {
  FaultFileSystem fs;
  Install(&fs, pki_.Peer("bank-a"));
  const TlsKey key = Must(TlsKey::Generate());
  const TlsKey other = Must(TlsKey::Generate());
  const TestPki elsewhere = TestPki::Create(clock_.Now());
  EXPECT_THAT(
      Renew(&fs, key, Must(Issue(key, "bank-b"))),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("bank-b")));
  EXPECT_THAT(Renew(&fs, key, Must(Issue(other, "bank-a"))),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Renew(&fs, key, elsewhere.Peer("bank-a").chain_pem),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(LoadIdentity(&fs, "/id", clock_.Now()), IsOk());
}

}  // namespace
}  // namespace consilium::client::internal

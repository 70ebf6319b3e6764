// A new issuing CA takes the place of the old one: what was issued before stays
// good, and a loss of power at any step leaves the one or the other.

#include "consilium/secure/ca_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Time kNow = absl::FromUnixSeconds(1767225600);
constexpr absl::Duration kDay = absl::Hours(24);
const absl::Time kNearTheEnd = kNow + kIssuingCaLifetime - 30 * kDay;
const IssuingCaFiles kFiles = {"/identity/root-ca.pem",
                               "/identity/issuing-ca.pem",
                               "/identity/issuing-ca.key"};

class CaFilesTest : public testing::Test {
 protected:
  void Lay(FaultFileSystem& fs) {
    ASSERT_OK(fs.MakeDirs("/identity"));
    ASSERT_OK(WriteFileAtomic(&fs, kFiles.root,
                              AsBytes(pki_.authority.root_pem), 0644));
    ASSERT_OK(WriteFileAtomic(&fs, kFiles.certificate,
                              AsBytes(pki_.authority.issuing_pem), 0644));
    ASSERT_OK(pki_.authority.issuing_key.SaveFile(&fs, kFiles.key));
  }
  absl::StatusOr<IssuingCa> Renew(FileSystem& fs, absl::Time now) {
    return RenewIssuingCa(&fs, kFiles, "cards", pki_.authority.root_key, now,
                          *SystemRandom());
  }
  std::string IssueBy(const IssuingCa& ca, absl::Time now) {
    const TlsKey key = Must(TlsKey::Generate());
    return Must(ca.IssuePeer(Must(CreateCertificateRequest(key, "")),
                             pki_.Name("bank-b"), now, kPeerLifetime,
                             *SystemRandom()));
  }

  const TestPki pki_ = TestPki::Create(kNow);
};

TEST_F(CaFilesTest, TheNewOneIssuesAndTheOldOneStaysTrusted) {
  FaultFileSystem fs;
  Lay(fs);
  const std::string before = IssueBy(pki_.ca, kNearTheEnd);
  ASSERT_OK_AND_ASSIGN(const IssuingCa ca, Renew(fs, kNearTheEnd));
  ASSERT_EQ(ca.authorities().size(), 2u);
  EXPECT_EQ(ca.authorities()[0].not_after, kNearTheEnd + kIssuingCaLifetime);
  EXPECT_EQ(ca.authorities()[1].not_after, kNow + kIssuingCaLifetime);
  const std::string after = IssueBy(ca, kNearTheEnd);
  // A chain is the leaf and the one CA that issued it.
  EXPECT_EQ(Must(ParseCertificateChain(after)).size(), 2u);
  for (const std::string& chain : {before, after}) {
    EXPECT_OK(VerifyCertificateChain(chain, pki_.ca.root_pem(),
                                     CertificateUse::kClient,
                                     kNearTheEnd + 29 * kDay));
  }
  // The old one's end ends what it issued, and nothing else.
  EXPECT_FALSE(VerifyCertificateChain(before, pki_.ca.root_pem(),
                                      CertificateUse::kClient,
                                      kNearTheEnd + 31 * kDay)
                   .ok());
  EXPECT_OK(VerifyCertificateChain(after, pki_.ca.root_pem(),
                                   CertificateUse::kClient,
                                   kNearTheEnd + 31 * kDay));
  EXPECT_FALSE(fs.Exists(Cat(kFiles.key, ".next")));
}

TEST_F(CaFilesTest, OneThatHasEndedIsNotKept) {
  FaultFileSystem fs;
  Lay(fs);
  const absl::Time late = kNow + kIssuingCaLifetime + kDay;
  EXPECT_THAT(LoadIssuingCa(&fs, kFiles, "cards", late),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(kFiles.certificate),
                             HasSubstr("cert renew-issuer"))));
  ASSERT_OK_AND_ASSIGN(const IssuingCa ca, Renew(fs, late));
  EXPECT_EQ(ca.authorities().size(), 1u);
  EXPECT_OK(LoadIssuingCa(&fs, kFiles, "cards", late));
}

TEST_F(CaFilesTest, ManyRenewalsLeaveAFileThatIsRead) {
  FaultFileSystem fs;
  Lay(fs);
  for (int i = 0; i < 12; ++i) {
    ASSERT_OK_AND_ASSIGN(const IssuingCa ca, Renew(fs, kNow + i * kDay));
    EXPECT_LE(ca.authorities().size(), 7u);
  }
}

TEST_F(CaFilesTest, OnlyTheRootsKeyMakesOne) {
  FaultFileSystem fs;
  Lay(fs);
  const std::string before =
      Must(ReadWholeFile(&fs, kFiles.certificate, 1 << 16));
  EXPECT_THAT(
      RenewIssuingCa(&fs, kFiles, "cards", pki_.authority.issuing_key, kNow,
                     *SystemRandom()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("root key")));
  EXPECT_THAT(Renew(fs, kNow + kRootCaLifetime + kDay),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("the root CA expired")));
  EXPECT_EQ(Must(ReadWholeFile(&fs, kFiles.certificate, 1 << 16)), before);
  EXPECT_FALSE(fs.Exists(Cat(kFiles.key, ".next")));
}

TEST_F(CaFilesTest, ALossOfPowerAtAnyStepLeavesOneThatIssues) {
  int64_t steps = 0;
  {
    FaultFileSystem fs;
    Lay(fs);
    const int64_t before = fs.ops();
    ASSERT_OK(Renew(fs, kNearTheEnd).status());
    steps = fs.ops() - before;
  }
  ASSERT_GT(steps, 5);
  int renewed = 0;
  for (int64_t step = 1; step <= steps; ++step) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE(Cat("step ", step, ", seed ", seed));
      FaultFileSystem fs;
      Lay(fs);
      fs.CrashAt(step);
      EXPECT_FALSE(Renew(fs, kNearTheEnd).ok());
      fs.Crash(seed);
      ASSERT_OK_AND_ASSIGN(const IssuingCa ca,
                           LoadIssuingCa(&fs, kFiles, "cards", kNearTheEnd));
      EXPECT_OK(VerifyCertificateChain(IssueBy(ca, kNearTheEnd),
                                       pki_.ca.root_pem(),
                                       CertificateUse::kClient, kNearTheEnd));
      renewed += ca.authorities().size() == 2 ? 1 : 0;
      // Nor does it get in the way of the next attempt, cut short again.
      fs.CrashAt(step);
      EXPECT_FALSE(Renew(fs, kNearTheEnd).ok());
      fs.Crash(seed + 1);
      EXPECT_OK(LoadIssuingCa(&fs, kFiles, "cards", kNearTheEnd));
      EXPECT_OK(Renew(fs, kNearTheEnd));
    }
  }
  EXPECT_GT(renewed, 0);
}

TEST_F(CaFilesTest, TwoRenewalsAtOnceAreOne) {
  FaultFileSystem fs;
  Lay(fs);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<FileLock> lock,
                       fs.LockFile(Cat(kFiles.certificate, ".lock")));
  EXPECT_THAT(Renew(fs, kNow), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CaFilesTest, AServerCertificateIsRenewedAfterItsEnd) {
  FaultFileSystem fs;
  Lay(fs);
  const TlsIdentity server = pki_.Server();
  ASSERT_OK(WriteFileAtomic(&fs, "/identity/server.pem",
                            AsBytes(server.chain_pem), 0600));
  TlsKey key = Must(TlsKey::FromPem(server.key_pem));
  ASSERT_OK(key.SaveFile(&fs, "/identity/server.key"));
  const absl::Time late = kNow + kServerLifetime + kDay;
  ASSERT_OK_AND_ASSIGN(const CertificateInfo renewed,
                       RenewServerCertificate(
                           &fs, "/identity/server.pem", "/identity/server.key",
                           pki_.ca, late, 90 * kDay, *SystemRandom()));
  EXPECT_EQ(renewed.not_after, late + 90 * kDay);
  EXPECT_EQ(renewed.dns_names, server.leaf.dns_names);
  EXPECT_OK(LoadTlsIdentity(
      &fs, {kFiles.root, "/identity/server.pem", "/identity/server.key"},
      CertificateUse::kServer, late));
}

}  // namespace
}  // namespace consilium

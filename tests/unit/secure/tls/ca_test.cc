#include "consilium/secure/ca.h"

#include <set>
#include <string>

#include "absl/strings/escaping.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);  // 2026-01-01
constexpr auto kClient = CertificateUse::kClient;
constexpr auto kServer = CertificateUse::kServer;

class CaTest : public ::testing::Test {
 protected:
  const TestPki pki_ = TestPki::Create(kNow);
};

TEST_F(CaTest, AuthoritiesAreTwoLevelsDeep) {
  ASSERT_OK_AND_ASSIGN(const CertificateInfo root,
                       ParseCertificate(pki_.authority.root_pem));
  ASSERT_OK_AND_ASSIGN(const CertificateInfo issuing,
                       ParseCertificate(pki_.authority.issuing_pem));
  EXPECT_TRUE(root.is_ca);
  EXPECT_TRUE(issuing.is_ca);
  EXPECT_EQ(root.issuer_name, root.subject_name);
  EXPECT_EQ(issuing.issuer_name, root.subject_name);
  EXPECT_EQ(root.not_before, kNow - kClockSkew);
  EXPECT_EQ(root.not_after, kNow + kRootCaLifetime);
  EXPECT_EQ(issuing.not_after, kNow + kIssuingCaLifetime);
  EXPECT_THAT(CertificateFingerprint(pki_.authority.root_pem),
              IsOkAndHolds(root.fingerprint));
}

TEST_F(CaTest, APeerCertificateNamesThePeerAndIsForClientsOnly) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  EXPECT_EQ(bank.leaf.subject_uri, "consilium://cards/institution/bank-a");
  EXPECT_THAT(PeerFromCertificatePem(bank.chain_pem),
              IsOkAndHolds(pki_.Name("bank-a")));
  EXPECT_TRUE(bank.leaf.client_auth);
  EXPECT_FALSE(bank.leaf.server_auth);
  EXPECT_FALSE(bank.leaf.is_ca);
  EXPECT_TRUE(bank.leaf.dns_names.empty());
  EXPECT_EQ(bank.leaf.not_before, kNow - kClockSkew);
  EXPECT_EQ(bank.leaf.not_after, kNow + kPeerLifetime);
  EXPECT_EQ(bank.leaf.serial.size(), 32u);
  EXPECT_OK(
      VerifyCertificateChain(bank.chain_pem, bank.root_pem, kClient, kNow));
  EXPECT_THAT(
      VerifyCertificateChain(bank.chain_pem, bank.root_pem, kServer, kNow),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("purpose")));
}

TEST_F(CaTest, AServerCertificateNamesItsHostsAndIsForServersOnly) {
  const TlsIdentity server =
      pki_.Server({{"fl.example.org", "10.1.2.3", "2001:db8::7"}, true});
  EXPECT_THAT(server.leaf.dns_names,
              ElementsAre("fl.example.org", "localhost"));
  EXPECT_THAT(
      server.leaf.ip_addresses,
      UnorderedElementsAre("10.1.2.3", "2001:db8::7", "127.0.0.1", "::1"));
  EXPECT_TRUE(server.leaf.server_auth);
  EXPECT_FALSE(server.leaf.client_auth);
  EXPECT_EQ(server.leaf.not_after, kNow + kServerLifetime);
  const auto verify = [&](std::string_view host) {
    return VerifyServerChain(server.chain_pem, server.root_pem, host, kNow);
  };
  for (const char* host : {"fl.example.org", "FL.example.org", "10.1.2.3",
                           "2001:db8::7", "localhost", "127.0.0.1", "::1"}) {
    EXPECT_OK(verify(host)) << host;
  }
  for (const char* host : {"example.org", "x.fl.example.org", "10.1.2.4",
                           "2001:db8::8", "consilium"}) {
    EXPECT_THAT(verify(host), StatusIs(absl::StatusCode::kUnauthenticated,
                                       HasSubstr("fl.example.org")))
        << host;
  }
  EXPECT_THAT(verify(""), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      VerifyCertificateChain(server.chain_pem, server.root_pem, kClient, kNow),
      StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(CaTest, RenewalKeepsKeyAndNames) {
  const TlsKey key = Must(TlsKey::Generate());
  const std::string first =
      Must(pki_.ca.IssueServer({{"a.example", "10.0.0.1"}, false}, key, kNow,
                               kServerLifetime, *SystemRandom()));
  ASSERT_OK_AND_ASSIGN(const ServerNames names, ServerNamesOf(first));
  const absl::Time later = kNow + absl::Hours(24 * 300);
  const std::string second = Must(
      pki_.ca.IssueServer(names, key, later, kServerLifetime, *SystemRandom()));
  EXPECT_OK(VerifyServerChain(second, pki_.ca.root_pem(), "10.0.0.1", later));
  EXPECT_OK(MakeTlsIdentity(pki_.ca.root_pem(), second, Must(key.ToPem()),
                            kServer, later));
  EXPECT_NE(Must(ParseCertificate(first)).serial,
            Must(ParseCertificate(second)).serial);
}

TEST_F(CaTest, BadHostsAreRefused) {
  const TlsKey key = Must(TlsKey::Generate());
  for (const char* host :
       {"", "a b", "https://a", "a:443", "[::1]", "a..b", "-a.example", "a-",
        "*.*.a", "a.*.b", "*", "a,DNS:b", "a\n"}) {
    EXPECT_THAT(pki_.ca.IssueServer({{host}, false}, key, kNow, kServerLifetime,
                                    *SystemRandom()),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << host;
  }
  EXPECT_THAT(
      pki_.ca.IssueServer({}, key, kNow, kServerLifetime, *SystemRandom()),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(pki_.ca.IssueServer({{"*.example.org"}, false}, key, kNow,
                                kServerLifetime, *SystemRandom()));
}

TEST_F(CaTest, CertificatesEndWithTheirLifetimeAndTheirIssuer) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  const auto verify = [&](absl::Time at) {
    return VerifyCertificateChain(bank.chain_pem, bank.root_pem, kClient, at);
  };
  EXPECT_OK(verify(kNow + kPeerLifetime - absl::Seconds(1)));
  EXPECT_THAT(verify(kNow + kPeerLifetime + absl::Seconds(1)),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("expired at 2026-04-01T00:00:00Z")));
  EXPECT_OK(verify(kNow - kClockSkew));
  EXPECT_THAT(verify(kNow - kClockSkew - absl::Seconds(1)),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("clock")));

  const absl::Time late = kNow + kIssuingCaLifetime - absl::Hours(1);
  const TlsIdentity last = pki_.Peer(pki_.Name("bank-b"), kPeerLifetime, late);
  EXPECT_EQ(last.leaf.not_after, kNow + kIssuingCaLifetime);
  const TlsKey key = Must(TlsKey::Generate());
  EXPECT_THAT(
      pki_.ca.IssuePeer(Must(CreateCertificateRequest(key, "")),
                        pki_.Name("bank-c"), kNow + kIssuingCaLifetime,
                        kPeerLifetime, *SystemRandom()),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expired")));
  EXPECT_THAT(pki_.ca.IssuePeer(Must(CreateCertificateRequest(key, "")),
                                pki_.Name("bank-c"), kNow, absl::ZeroDuration(),
                                *SystemRandom()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CaTest, ANewIssuingCaTakesOver) {
  const absl::Time later = kNow + kIssuingCaLifetime - absl::Hours(24);
  TlsKey key = Must(TlsKey::Generate());
  const std::string pem = Must(IssueIssuingCa("cards", pki_.authority.root_pem,
                                              pki_.authority.root_key, key,
                                              later, *SystemRandom()));
  ASSERT_OK_AND_ASSIGN(const IssuingCa ca,
                       IssuingCa::Create("cards", pki_.authority.root_pem, pem,
                                         std::move(key), later));
  const TlsKey bank = Must(TlsKey::Generate());
  const std::string chain = Must(
      ca.IssuePeer(Must(CreateCertificateRequest(bank, "")),
                   pki_.Name("bank-a"), later, kPeerLifetime, *SystemRandom()));
  EXPECT_OK(VerifyCertificateChain(chain, pki_.authority.root_pem, kClient,
                                   later + absl::Hours(48)));
  EXPECT_THAT(IssueIssuingCa("cards", pki_.authority.root_pem, bank, bank,
                             later, *SystemRandom()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CaTest, AnotherFederationsRootDoesNotCount) {
  const TestPki stranger = TestPki::Create(kNow);  // same name, other keys
  const TlsIdentity bank = stranger.Peer("bank-a");
  EXPECT_THAT(
      VerifyCertificateChain(bank.chain_pem, pki_.ca.root_pem(), kClient, kNow),
      StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(
      IssuingCa::Create(
          "cards", pki_.ca.root_pem(), stranger.ca.issuing_pem(),
          Must(TlsKey::FromPem(Must(stranger.authority.issuing_key.ToPem()))),
          kNow),
      StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(
      IssuingCa::Create("cards", pki_.ca.root_pem(), pki_.ca.issuing_pem(),
                        Must(TlsKey::Generate()), kNow),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

// A leaf has no right to sign, whatever its key can do.
TEST_F(CaTest, ALeafCannotIssue) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  EXPECT_THAT(IssuingCa::Create("cards", pki_.ca.root_pem(), bank.chain_pem,
                                Must(TlsKey::FromPem(bank.key_pem)), kNow),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("not a CA certificate")));
}

TEST_F(CaTest, RequestsProvePossessionOfTheirKey) {
  const TlsKey key = Must(TlsKey::Generate());
  const std::string csr =
      Must(CreateCertificateRequest(key, "consilium://cards/operator/root"));
  EXPECT_OK(VerifyCertificateRequest(csr));
  // Every changed bit breaks the form or the signature.
  const size_t begin = csr.find('\n') + 1;
  const size_t end = csr.find("-----END");
  std::string der;
  ASSERT_TRUE(absl::Base64Unescape(csr.substr(begin, end - begin), &der));
  for (size_t bit = 0; bit < der.size() * 8; ++bit) {
    std::string changed = der;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THAT(VerifyCertificateRequest(Cat(csr.substr(0, begin),
                                             absl::Base64Escape(changed), "\n",
                                             csr.substr(end))),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << bit;
  }
}

TEST_F(CaTest, ARequestIsKnownByItsKey) {
  const TlsKey key = Must(TlsKey::Generate());
  const TlsKey other = Must(TlsKey::Generate());
  const auto of = [](const TlsKey& k, std::string_view hint) {
    return CertificateRequestKey(Must(CreateCertificateRequest(k, hint)));
  };
  const Sha256Digest digest = Must(of(key, "a"));
  EXPECT_EQ(Must(of(key, "another text")), digest);
  EXPECT_NE(Must(of(other, "a")), digest);
  EXPECT_THAT(CertificateRequestKey("no request"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// The key of one request under the proof of another.
TEST_F(CaTest, ARequestForSomebodyElsesKeyIsRefused) {
  const std::string a =
      Must(CreateCertificateRequest(Must(TlsKey::Generate()), ""));
  const std::string b =
      Must(CreateCertificateRequest(Must(TlsKey::Generate()), ""));
  const auto body = [](const std::string& pem) {
    const size_t begin = pem.find('\n') + 1;
    std::string der;
    EXPECT_TRUE(absl::Base64Unescape(
        pem.substr(begin, pem.find("-----END") - begin), &der));
    return der;
  };
  // Same names, same sizes but for the signature: swap the uncompressed point.
  const std::string der_a = body(a), der_b = body(b);
  const std::string marker("\x03\x42\x00\x04", 4);  // BIT STRING of a point
  const size_t at_a = der_a.find(marker), at_b = der_b.find(marker);
  ASSERT_NE(at_a, std::string::npos);
  ASSERT_NE(at_b, std::string::npos);
  std::string forged = der_a;
  forged.replace(at_a + 4, 64, der_b, at_b + 4, 64);
  EXPECT_THAT(pki_.ca.IssuePeer(Cat("-----BEGIN CERTIFICATE REQUEST-----\n",
                                    absl::Base64Escape(forged),
                                    "\n-----END CERTIFICATE REQUEST-----\n"),
                                pki_.Name("bank-a"), kNow, kPeerLifetime,
                                *SystemRandom()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("not signed by its own key")));
}

TEST_F(CaTest, NamesInARequestAreIgnored) {
  const TlsKey key = Must(TlsKey::Generate());
  const std::string csr =
      Must(CreateCertificateRequest(key, "consilium://cards/operator/root"));
  const std::string chain = Must(pki_.ca.IssuePeer(
      csr, pki_.Name("bank-a"), kNow, kPeerLifetime, *SystemRandom()));
  EXPECT_THAT(PeerFromCertificatePem(chain), IsOkAndHolds(pki_.Name("bank-a")));
  EXPECT_EQ(Must(ParseCertificate(chain)).subject_name, "bank-a");
  EXPECT_OK(MakeTlsIdentity(pki_.ca.root_pem(), chain, Must(key.ToPem()),
                            kClient, kNow));
}

TEST_F(CaTest, OtherRequestsAreRefused) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(VerifyCertificateRequest(""), StatusIs(kInvalid));
  EXPECT_THAT(VerifyCertificateRequest(std::string(20'000, 'x')),
              StatusIs(kInvalid, HasSubstr("16384")));
  EXPECT_THAT(VerifyCertificateRequest(pki_.ca.root_pem()), StatusIs(kInvalid));
  // Made with `openssl req`.
  constexpr char kEd25519Request[] = R"(-----BEGIN CERTIFICATE REQUEST-----
MIGLMD8CAQAwDDEKMAgGA1UEAwwBeDAqMAUGAytlcAMhAINffjO9daKXNBJOb4an
MXG2Ax1pl81wKyRBWPT8LTNPoAAwBQYDK2VwA0EA3oTXQgcUYVla5Wr+g98cny+7
mgO+C0E17FPWc5x4T9LpkAXZM2JH/cIAB4lq4qZWmSZITVVpKLcVqstuLERrDg==
-----END CERTIFICATE REQUEST-----
)";
  EXPECT_THAT(VerifyCertificateRequest(kEd25519Request),
              StatusIs(kInvalid, HasSubstr("P-256")));
  const TlsKey key = Must(TlsKey::Generate());
  const std::string csr = Must(CreateCertificateRequest(key, ""));
  EXPECT_THAT(pki_.ca.IssuePeer(
                  csr, PeerName{"loans", PeerRole::kInstitution, "bank-a"},
                  kNow, kPeerLifetime, *SystemRandom()),
              StatusIs(kInvalid, HasSubstr("loans")));
  EXPECT_THAT(pki_.ca.IssuePeer(csr, pki_.Name("Bank A"), kNow, kPeerLifetime,
                                *SystemRandom()),
              StatusIs(kInvalid));
}

TEST_F(CaTest, SerialsDiffer) {
  std::set<std::string> serials;
  for (int i = 0; i < 50; ++i) {
    serials.insert(pki_.Peer("bank-a").leaf.serial);
  }
  EXPECT_EQ(serials.size(), 50u);
}

TEST_F(CaTest, LoadsFromItsDirectory) {
  FaultFileSystem fs;
  ASSERT_OK(fs.MakeDirs("/identity"));
  ASSERT_OK(WriteFileAtomic(&fs, "/identity/root-ca.pem",
                            AsBytes(pki_.authority.root_pem), 0644));
  ASSERT_OK(WriteFileAtomic(&fs, "/identity/issuing-ca.pem",
                            AsBytes(pki_.authority.issuing_pem), 0644));
  ASSERT_OK(
      pki_.authority.issuing_key.SaveFile(&fs, "/identity/issuing-ca.key"));
  EXPECT_OK(IssuingCa::LoadDirectory(&fs, "/identity", "cards", kNow));
  EXPECT_THAT(
      IssuingCa::LoadDirectory(&fs, "/identity", "cards",
                               kNow + kIssuingCaLifetime + absl::Hours(1)),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("/identity")));
  EXPECT_THAT(CreateCertificateAuthority("Not A Name", kNow, *SystemRandom()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

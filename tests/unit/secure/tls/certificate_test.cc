#include "consilium/secure/certificate.h"

#include <openssl/ec.h>
#include <openssl/pem.h>

#include <string>

#include "consilium/base/bytes.h"
#include "consilium/secure/ed25519.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class CertificateTest : public ::testing::Test {
 protected:
  const TestPki pki_ = TestPki::Create(kNow);
};

// Made with `openssl req -x509`; the fingerprint is that of `openssl x509
// -fingerprint -sha256`, the serial that of `-serial`.
TEST_F(CertificateTest, ReadsWhatOpensslWrites) {
  constexpr char kPem[] = R"(-----BEGIN CERTIFICATE-----
MIIBujCCAWCgAwIBAgIUdX2dva50/BfpXfdOJMcfndjuGGIwCgYIKoZIzj0EAwIw
HjEKMAgGA1UECgwBeDEQMA4GA1UEAwwHZm9yZWlnbjAeFw0yNjExMjIwNjA4NTVa
Fw0zNjExMTkwNjA4NTVaMB4xCjAIBgNVBAoMAXgxEDAOBgNVBAMMB2ZvcmVpZ24w
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATafwRK7h8hR/Jq11nma5nRI3oJs8YI
Cqkd7Gya6KQnBsPa/KsMixizP44ZU4UdXhZ/ZlCtRbSQZVksyInd4B4Ko3wwejAd
BgNVHQ4EFgQU2rBu9bEzOvplyiFeXkLX5PLpYAwwHwYDVR0jBBgwFoAU2rBu9bEz
OvplyiFeXkLX5PLpYAwwDwYDVR0TAQH/BAUwAwEB/zAnBgNVHREEIDAehhxjb25z
aWxpdW06Ly9jYXJkcy9vcGVyYXRvci94MAoGCCqGSM49BAMCA0gAMEUCIQDyThAJ
UyaqOmpzmd++4S3eCuVhAgClHUTBM0y1Abip+AIgK+PhJehatJiSi3+LSN3Urkuy
EEWoXYmoIdEf1MRhgTc=
-----END CERTIFICATE-----
)";
  ASSERT_OK_AND_ASSIGN(const CertificateInfo info, ParseCertificate(kPem));
  EXPECT_EQ(info.fingerprint.Hex(),
            "57411d9f31b1b9c467ad5776eab3ac4ff2146b857358a0e6477b7583166bb1b1");
  EXPECT_EQ(info.serial, "757d9dbdae74fc17e95df74e24c71f9dd8ee1862");
  EXPECT_EQ(info.subject_name, "foreign");
  EXPECT_EQ(info.subject_uri, "consilium://cards/operator/x");
  EXPECT_EQ(
      absl::FormatTime(info.not_after, absl::UTCTimeZone()),
      absl::FormatTime(absl::FromUnixSeconds(2110687735), absl::UTCTimeZone()));
}

TEST_F(CertificateTest, ChainsAreReadInOrderAndBounded) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  ASSERT_OK_AND_ASSIGN(const std::vector<CertificateInfo> chain,
                       ParseCertificateChain(bank.chain_pem));
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(chain[0].serial, bank.leaf.serial);
  EXPECT_TRUE(chain[1].is_ca);
  std::string nine;
  for (int i = 0; i < 9; ++i) nine += pki_.ca.root_pem();
  EXPECT_THAT(ParseCertificateChain(nine), StatusIs(kInvalid));
  EXPECT_THAT(ParseCertificate(std::string(70'000, '-')), StatusIs(kInvalid));
  EXPECT_THAT(ParseCertificate(""), StatusIs(kInvalid));
  EXPECT_THAT(ParseCertificate("-----BEGIN CERTIFICATE-----\nAAAA\n"
                               "-----END CERTIFICATE-----\n"),
              StatusIs(kInvalid));
}

TEST_F(CertificateTest, ACertificateWithoutOurNameIsNobody) {
  EXPECT_THAT(PeerFromCertificatePem(pki_.Server().chain_pem),
              StatusIs(kInvalid, HasSubstr("no consilium:// name")));
}

TEST_F(CertificateTest, KeysGoThroughPemAndFiles) {
  FaultFileSystem fs;
  const TlsKey key = Must(TlsKey::Generate());
  ASSERT_OK(key.SaveFile(&fs, "/tls.key"));
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs.Stat("/tls.key"));
  EXPECT_EQ(info.mode, 0600u);
  ASSERT_OK_AND_ASSIGN(const TlsKey loaded, TlsKey::LoadFile(&fs, "/tls.key"));
  EXPECT_EQ(Must(loaded.PublicKeyPem()), Must(key.PublicKeyPem()));
  EXPECT_THAT(TlsKey::FromPem(SecretBytes::CopyOf("x")), StatusIs(kInvalid));
  SeededRandom random;
  const SigningKey other = Must(SigningKey::Generate(random));
  EXPECT_THAT(TlsKey::FromPem(Must(other.ToPem())),
              StatusIs(kInvalid, HasSubstr("P-256")));
}

// OpenSSL would ask the terminal for a passphrase, and a service would hang.
TEST_F(CertificateTest, AnEncryptedKeyIsAnErrorAndNotAQuestion) {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  BIO* const bio = BIO_new(BIO_s_mem());
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_256_cbc(), "secret",
                                          6, nullptr, nullptr),
            1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  const std::string encrypted(data, static_cast<size_t>(size));
  BIO_free(bio);
  EVP_PKEY_free(key);
  EXPECT_THAT(TlsKey::FromPem(SecretBytes::CopyOf(encrypted)),
              StatusIs(kInvalid, HasSubstr("unencrypted")));
}

class TlsIdentityTest : public CertificateTest {
 protected:
  void Write(const TlsIdentity& identity, uint32_t key_mode = 0600) {
    ASSERT_OK(
        WriteFileAtomic(&fs_, files_.root, AsBytes(identity.root_pem), 0644));
    ASSERT_OK(
        WriteFileAtomic(&fs_, files_.chain, AsBytes(identity.chain_pem), 0644));
    ASSERT_OK(WriteFileAtomic(&fs_, files_.key,
                              identity.key_pem.Bytes(SecretAccess("test")),
                              key_mode));
  }
  absl::Status Load(CertificateUse use, absl::Time now = kNow) {
    return LoadTlsIdentity(&fs_, files_, use, now).status();
  }

  FaultFileSystem fs_;
  const TlsIdentityFiles files_{"/root.pem", "/chain.pem", "/tls.key"};
};

TEST_F(TlsIdentityTest, LoadsWhatFitsTogether) {
  Write(pki_.Peer("bank-a"));
  ASSERT_OK_AND_ASSIGN(
      const TlsIdentity identity,
      LoadTlsIdentity(&fs_, files_, CertificateUse::kClient, kNow));
  EXPECT_EQ(identity.leaf.subject_uri, "consilium://cards/institution/bank-a");
}

TEST_F(TlsIdentityTest, RefusesWhatDoesNot) {
  TlsIdentity bank = pki_.Peer("bank-a");
  Write(bank, 0644);
  EXPECT_THAT(Load(CertificateUse::kClient),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("chmod 600 '/tls.key'")));
  Write(bank);
  EXPECT_THAT(Load(CertificateUse::kServer),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr("/chain.pem"), HasSubstr("purpose"))));
  EXPECT_THAT(
      Load(CertificateUse::kClient, kNow + absl::Hours(24 * 91)),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("expired")));
  bank.key_pem = pki_.Peer("bank-a").key_pem.Clone();
  Write(bank);
  EXPECT_THAT(Load(CertificateUse::kClient),
              StatusIs(kInvalid, HasSubstr("not the certificate's")));
  TlsIdentity stranger = TestPki::Create(kNow).Peer("bank-a");
  stranger.root_pem = pki_.ca.root_pem();
  Write(stranger);
  EXPECT_THAT(Load(CertificateUse::kClient),
              StatusIs(absl::StatusCode::kUnauthenticated));
  ASSERT_OK(fs_.Remove("/chain.pem"));
  EXPECT_THAT(Load(CertificateUse::kClient),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace consilium

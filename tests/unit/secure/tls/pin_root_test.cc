#include "consilium/secure/pin_root.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <csignal>
#include <memory>
#include <string>

#include "consilium/secure/sha256.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/net_support.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);
constexpr auto kUnauthenticated = absl::StatusCode::kUnauthenticated;

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

// Plain OpenSSL, no gRPC: so this runs under ThreadSanitizer as well.
class TlsServer {
 public:
  // `chain_pem`: what it shows, leaf first.
  TlsServer(const std::string& chain_pem, const SecretBytes& key_pem,
            int max_version = TLS1_3_VERSION)
      : context_(SSL_CTX_new(TLS_server_method())), server_([this](int fd) {
          // OpenSSL writes with write(), and clients leave at will.
          std::signal(SIGPIPE, SIG_IGN);
          SSL* const ssl = SSL_new(context_.get());
          SSL_set_fd(ssl, fd);
          if (SSL_accept(ssl) == 1) {
            char byte;
            SSL_read(ssl, &byte, 1);  // until the client leaves
          }
          SSL_free(ssl);
        }) {
    // Connections come after this; the constructor is the only writer.
    SSL_CTX_set_max_proto_version(context_.get(), max_version);
    BIO* const chain = BIO_new_mem_buf(chain_pem.data(), -1);
    X509* const leaf = PEM_read_bio_X509(chain, nullptr, nullptr, nullptr);
    CONSILIUM_CHECK(SSL_CTX_use_certificate(context_.get(), leaf) == 1);
    X509_free(leaf);
    while (X509* next = PEM_read_bio_X509(chain, nullptr, nullptr, nullptr)) {
      CONSILIUM_CHECK(SSL_CTX_add_extra_chain_cert(context_.get(), next) == 1);
    }
    BIO_free(chain);
    const std::string_view text = key_pem.Text(SecretAccess("test server"));
    BIO* const key =
        BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
    EVP_PKEY* const pkey =
        PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
    CONSILIUM_CHECK(SSL_CTX_use_PrivateKey(context_.get(), pkey) == 1);
    EVP_PKEY_free(pkey);
    BIO_free(key);
  }

  uint16_t port() const { return server_.port(); }

 private:
  std::unique_ptr<SSL_CTX, FreeContext> context_;
  LoopbackServer server_;
};

class PinRootTest : public ::testing::Test {
 protected:
  std::string EnrollmentChain() const {
    return identity_.chain_pem + identity_.root_pem;
  }

  PinRootOptions Options(uint16_t port) const {
    PinRootOptions options;
    options.server = HostPort{"localhost", port};
    options.fingerprint = Must(CertificateFingerprint(pki_.authority.root_pem));
    options.now = kNow;
    return options;
  }

  const TestPki pki_ = TestPki::Create(kNow);
  const TlsIdentity identity_ = pki_.Server();
};

TEST_F(PinRootTest, ReturnsTheRootWithThePinnedFingerprint) {
  const TlsServer server(EnrollmentChain(), identity_.key_pem);
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              IsOkAndHolds(pki_.authority.root_pem));
  PinRootOptions by_address = Options(server.port());
  by_address.server.host = "127.0.0.1";
  EXPECT_OK(FetchAndPinRoot(by_address));
}

TEST_F(PinRootTest, AnotherFingerprintIsRefusedAndBothAreShown) {
  const TlsServer server(EnrollmentChain(), identity_.key_pem);
  PinRootOptions options = Options(server.port());
  const std::string right = options.fingerprint.Hex();
  options.fingerprint = Sha256("another root");
  EXPECT_THAT(
      FetchAndPinRoot(options),
      StatusIs(kUnauthenticated,
               AllOf(HasSubstr(right), HasSubstr(options.fingerprint.Hex()),
                     HasSubstr("--ca-fingerprint"))));
}

// Whoever stands between can show the right root, which is public, beside a
// leaf of his own.
TEST_F(PinRootTest, TheRightRootBesideAStrangersLeafIsRefused) {
  const TestPki stranger = TestPki::Create(kNow);
  const TlsIdentity theirs = stranger.Server();
  const TlsServer server(theirs.chain_pem + pki_.authority.root_pem,
                         theirs.key_pem);
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              StatusIs(kUnauthenticated, HasSubstr("does not verify")));
}

TEST_F(PinRootTest, AMembersCertificateDoesNotMakeAServer) {
  const TlsIdentity bank = pki_.Peer("bank-a");
  const TlsServer server(bank.chain_pem + bank.root_pem, bank.key_pem);
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              StatusIs(kUnauthenticated, HasSubstr("purpose")));
}

TEST_F(PinRootTest, AnotherHostOrTimeIsRefused) {
  const TlsIdentity elsewhere = pki_.Server({{"fl.example.org"}, false});
  const TlsServer server(elsewhere.chain_pem + elsewhere.root_pem,
                         elsewhere.key_pem);
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              StatusIs(kUnauthenticated, AllOf(HasSubstr("localhost"),
                                               HasSubstr("fl.example.org"))));
  const TlsServer good(EnrollmentChain(), identity_.key_pem);
  PinRootOptions late = Options(good.port());
  late.now = kNow + absl::Hours(24 * 399);
  EXPECT_THAT(FetchAndPinRoot(late),
              StatusIs(kUnauthenticated, HasSubstr("expired")));
}

// Pinning a leaf or an issuing CA would break at their next renewal.
TEST_F(PinRootTest, OnlyARootCanBePinned) {
  const TlsServer server(EnrollmentChain(), identity_.key_pem);
  PinRootOptions options = Options(server.port());
  options.fingerprint = identity_.leaf.fingerprint;
  EXPECT_THAT(FetchAndPinRoot(options), StatusIs(kUnauthenticated));
  options.fingerprint =
      Must(CertificateFingerprint(pki_.authority.issuing_pem));
  EXPECT_THAT(FetchAndPinRoot(options), StatusIs(kUnauthenticated));
}

TEST_F(PinRootTest, OldTlsIsRefused) {
  const TlsServer server(EnrollmentChain(), identity_.key_pem, TLS1_2_VERSION);
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("TLS 1.3 handshake failed")));
}

TEST_F(PinRootTest, OtherServersAndNoServerAreTyped) {
  const LoopbackServer http(
      [](int fd) { SendText(fd, "HTTP/1.1 400 Bad Request\r\n\r\n"); });
  EXPECT_THAT(FetchAndPinRoot(Options(http.port())),
              StatusIs(absl::StatusCode::kUnavailable));
  const LoopbackServer closer([](int) {});
  EXPECT_THAT(FetchAndPinRoot(Options(closer.port())),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(
      FetchAndPinRoot(Options(ClosedPort())),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot connect")));
}

TEST_F(PinRootTest, ASilentServerEndsWithTheDeadline) {
  const LoopbackServer silent([](int fd) { ReadHttpHead(fd); });
  PinRootOptions options = Options(silent.port());
  options.timeout = absl::Milliseconds(50);
  EXPECT_THAT(
      FetchAndPinRoot(options),
      StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("firewall")));
}

TEST_F(PinRootTest, WorksThroughAProxy) {
  const TlsServer server(EnrollmentChain(), identity_.key_pem);
  ConnectProxy proxy(server.port());
  PinRootOptions options = Options(1);
  // A name that only the proxy can find.
  options.server = HostPort{"coordinator.example", 7443};
  options.proxy = proxy.address("user:secret");
  EXPECT_THAT(FetchAndPinRoot(options), IsOkAndHolds(pki_.authority.root_pem));
  EXPECT_THAT(
      proxy.heads(),
      ElementsAre(
          AllOf(HasSubstr("CONNECT coordinator.example:7443 HTTP/1.1\r\n"),
                HasSubstr("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"))));
}

TEST_F(PinRootTest, AProxyThatRefusesIsNamed) {
  ConnectProxy proxy(0, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
  PinRootOptions options = Options(7443);
  options.proxy = proxy.address("user:secret");
  const absl::Status status = FetchAndPinRoot(options).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                               AllOf(HasSubstr("407"), HasSubstr("proxy"))));
  EXPECT_THAT(std::string(status.message()),
              ::testing::Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace consilium

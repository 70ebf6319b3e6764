#include <string>

#include "consilium/base/clock.h"
#include "consilium/base/strings.h"
#include "consilium/secure/pin_root.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/grpc/whoami.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class EnrollmentTest : public ::testing::Test {
 protected:
  PinRootOptions Options(uint16_t port) const {
    PinRootOptions options;
    options.server = HostPort{"localhost", port};
    options.fingerprint = Must(CertificateFingerprint(pki_.ca.root_pem()));
    options.now = pki_.now;
    return options;
  }

  const TestPki pki_ = TestPki::Create(SystemClock()->Now());
};

TEST_F(EnrollmentTest, AFingerprintIsEnoughToTalkToTheEnrolmentListener) {
  TestServer server(pki_, pki_.Server(), /*enrollment=*/true);
  ASSERT_OK_AND_ASSIGN(const std::string root,
                       FetchAndPinRoot(Options(server.port())));
  EXPECT_EQ(root, pki_.ca.root_pem());
  TestClient client(server.port(), MakeEnrollmentChannelCredentials(root));
  const Answer answer = client.Ask();
  // The call arrives, and has no name.
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("enroll"));
}

TEST_F(EnrollmentTest, AReloadedIdentityStillShowsTheRoot) {
  TestServer server(pki_, pki_.Server(), /*enrollment=*/true);
  server.Install(pki_.Server());
  ASSERT_OK(server.identity().Reload());
  EXPECT_OK(FetchAndPinRoot(Options(server.port())));
}

TEST_F(EnrollmentTest, TheListenerForMembersShowsNoRoot) {
  TestServer server(pki_, pki_.Server());
  EXPECT_THAT(FetchAndPinRoot(Options(server.port())),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("--ca-fingerprint")));
}

// A certificate shown to the enrolment listener is not asked for, so it must
// not count there either.
TEST_F(EnrollmentTest, AMemberIsAnonymousOnTheEnrolmentListener) {
  TestServer server(pki_, pki_.Server(), /*enrollment=*/true);
  TestClient client(server.port(), MakeClientCredentials(pki_.Peer("bank-a")));
  EXPECT_EQ(client.Ask().status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(EnrollmentTest, ThePinAndTheChannelUseOneProxy) {
  TestServer server(pki_, pki_.Server(), /*enrollment=*/true);
  ConnectProxy proxy(server.port());
  PinRootOptions options = Options(server.port());
  options.server.host = "coordinator.example";
  options.proxy = proxy.address();
  ASSERT_OK_AND_ASSIGN(const std::string root, FetchAndPinRoot(options));
  ChannelOptions channel;
  channel.proxy = proxy.address();
  TestClient client(server.port(), MakeEnrollmentChannelCredentials(root),
                    channel, "coordinator.example");
  EXPECT_EQ(client.Ask().status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  ASSERT_EQ(proxy.heads().size(), 2u);
  EXPECT_EQ(proxy.heads()[0].substr(0, proxy.heads()[0].find("\r\n")),
            proxy.heads()[1].substr(0, proxy.heads()[1].find("\r\n")));
}

// With a password that it could not read, gRPC would go past the proxy.
TEST_F(EnrollmentTest, ThePinAndTheChannelShowTheSameCredentials) {
  TestServer server(pki_, pki_.Server(), /*enrollment=*/true);
  for (const char* user_info : {"u:p%23w", "u:p%40w", "u:p@w", "u:p%25w", "u",
                                "u:p%2F%3F:%22%5B", "u:p w", "u:%c3%bc"}) {
    SCOPED_TRACE(user_info);
    ConnectProxy proxy(server.port());
    ASSERT_OK_AND_ASSIGN(
        const ProxyAddress address,
        ProxyAddress::Parse(Cat("http://", user_info, "@",
                                proxy.address().address.ToString())));
    PinRootOptions options = Options(server.port());
    options.server.host = "coordinator.example";
    options.proxy = address;
    ASSERT_OK_AND_ASSIGN(const std::string root, FetchAndPinRoot(options));
    ChannelOptions channel;
    channel.proxy = address;
    TestClient client(server.port(), MakeEnrollmentChannelCredentials(root),
                      channel, "coordinator.example");
    EXPECT_EQ(client.Ask().status.error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
    ASSERT_EQ(proxy.heads().size(), 2u);
    const std::string line =
        Cat("\r\nProxy-Authorization: ", address.Authorization(), "\r\n");
    EXPECT_THAT(proxy.heads(), Each(HasSubstr(line)));
  }
}

}  // namespace
}  // namespace consilium

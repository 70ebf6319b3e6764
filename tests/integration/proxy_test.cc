// Institutions behind an HTTP proxy, proxies that refuse, and clients that
// offer an old TLS.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/client/enroll.h"
#include "tests/integration/checks.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A name that only the proxy can reach.
constexpr char kOutside[] = "coordinator.example";

class ProxyTest : public testing::Test {
 protected:
  client::EnrollOptions EnrollThrough(const ProxyAddress& proxy,
                                      const std::string& token,
                                      const std::string& folder = "bank-a") {
    client::EnrollOptions options;
    options.coordinator = Cat(kOutside, ":8444");
    options.server_name = "localhost";
    options.token = token;
    options.ca_fingerprint = federation_.fingerprint();
    options.directory = JoinPath(federation_.dir(), folder);
    options.proxy = Setting(proxy);
    options.retry_for = absl::ZeroDuration();
    return options;
  }
  client::ClientOptions Through(const ProxyAddress& proxy) {
    client::ClientOptions options = federation_.OptionsFor("bank-a");
    options.coordinator = Cat(kOutside, ":8443");
    options.server_name = "localhost";
    options.proxy = Setting(proxy);
    return options;
  }
  static std::string Setting(const ProxyAddress& proxy) {
    return Cat("http://", proxy.user_info, proxy.user_info.empty() ? "" : "@",
               proxy.address.ToString());
  }

  TestFederation federation_;
};

TEST_F(ProxyTest, EnrolsAndContributesThroughConnect) {
  ConnectProxy enrolment(federation_.enrollment_port());
  ConnectProxy service(federation_.port());
  ASSERT_OK(client::Enroll(EnrollThrough(enrolment.address("site:secret"),
                                         federation_.Token("bank-a")))
                .status());
  auto client =
      client::Client::Connect(Through(service.address("site:secret")));
  ASSERT_OK(client.status());
  const uint64_t round = federation_.StartRound({{"quorum", "1"}});
  const Delta a{"bank-a", 1, 10};
  SubmitTask(federation_, **client, a);
  ExpectExactMean(federation_, round, {a});
  EXPECT_EQ(federation_.CurrentParameters(**client).size(),
            static_cast<size_t>(federation_.layout().total_elements()));
  ExpectStoreIsWhole(federation_);

  // Everything went that way: enrolment's two connections, then one for all.
  EXPECT_THAT(enrolment.heads(),
              Each(AllOf(StartsWith("CONNECT coordinator.example:8444 HTTP/1."),
                         HasSubstr("Proxy-Authorization: Basic c2l0ZTpzZWNyZXQ="
                                   "\r\n"))));
  EXPECT_EQ(enrolment.heads().size(), 2u);
  EXPECT_THAT(service.heads(),
              Each(AllOf(StartsWith("CONNECT coordinator.example:8443 HTTP/1."),
                         HasSubstr("Proxy-Authorization: Basic c2l0ZTpzZWNyZXQ="
                                   "\r\n"))));
  EXPECT_EQ(service.heads().size(), 1u);
}

TEST_F(ProxyTest, ARefusalSaysWhoRefusedAndWhy) {
  const std::string token = federation_.Token("bank-a");
  const std::pair<int, std::string> refusals[] = {
      {407,
       "HTTP/1.1 407 Proxy Authentication Required\r\n"
       "Proxy-Authenticate: Basic realm=\"site\"\r\n\r\n"},
      {403, "HTTP/1.1 403 Forbidden\r\n\r\n"},
      {502, "HTTP/1.1 502 Bad Gateway\r\n\r\n"}};
  const auto says = [](int code, const ConnectProxy& proxy) {
    return StatusIs(StatusCode::kUnavailable,
                    AllOf(HasSubstr(Cat(code)),
                          HasSubstr(proxy.address().address.ToString()),
                          Not(HasSubstr("secret"))));
  };
  for (const auto& [code, answer] : refusals) {
    SCOPED_TRACE(code);
    ConnectProxy proxy(federation_.enrollment_port(), answer);
    EXPECT_THAT(
        client::Enroll(EnrollThrough(proxy.address("site:secret"), token))
            .status(),
        says(code, proxy));
  }
  // The token was not spent on any of them.
  federation_.EnrollWith("bank-a", token);
  for (const auto& [code, answer] : refusals) {
    SCOPED_TRACE(code);
    ConnectProxy proxy(federation_.port(), answer);
    client::ClientOptions options = Through(proxy.address("site:secret"));
    options.retry.give_up_after = absl::Milliseconds(20);
    std::vector<std::string> events;
    options.observer = [&events](const client::Event& event) {
      events.push_back(event.text);
    };
    const absl::Status status = client::Client::Connect(options).status();
    EXPECT_THAT(status, says(code, proxy));
    EXPECT_THAT(status, StatusIs(StatusCode::kUnavailable,
                                 HasSubstr("retry.give_up_after")));
    // Who waits for longer reads it in the log.
    EXPECT_THAT(events, Not(testing::IsEmpty()));
    EXPECT_THAT(events, Each(HasSubstr(Cat(code))));
  }
  EXPECT_OK(client::Client::Connect(federation_.OptionsFor("bank-a")).status());
  ExpectStoreIsWhole(federation_);
}

TEST_F(ProxyTest, ADeadProxyIsNamed) {
  federation_.Enroll("bank-a");
  const ProxyAddress dead{{"127.0.0.1", ClosedPort()}, ""};
  client::ClientOptions options = Through(dead);
  options.retry.give_up_after = absl::Milliseconds(20);
  EXPECT_THAT(
      client::Client::Connect(options).status(),
      StatusIs(StatusCode::kUnavailable, HasSubstr(dead.address.ToString())));
  EXPECT_THAT(
      client::Enroll(EnrollThrough(dead, federation_.Token("bank-b"), "bank-b"))
          .status(),
      StatusIs(StatusCode::kUnavailable, HasSubstr(dead.address.ToString())));
}

struct Finished {
  int exit_code = -1;
  std::string output;
};

Finished SClient(uint16_t port, const std::string& options) {
  const std::string command =
      Cat("openssl s_client -brief -alpn h2 -connect 127.0.0.1:", port, " ",
          options, " </dev/null 2>&1");
  Finished run;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return run;
  std::array<char, 4096> buffer;
  while (const size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) {
    run.output.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  return run;
}

TEST(OldTlsTest, BothPortsSpeakTls13Only) {
  TestFederation federation;
  federation.Enroll("bank-a");
  const std::string folder = JoinPath(federation.dir(), "bank-a");
  const std::string member = Cat(
      " -cert ", JoinPath(folder, "client.pem"), " -cert_chain ",
      JoinPath(folder, "client.pem"), " -key ", JoinPath(folder, "client.key"));
  for (const uint16_t port :
       {federation.port(), federation.enrollment_port()}) {
    SCOPED_TRACE(port == federation.port() ? "service" : "enrolment");
    const Finished modern = SClient(port, Cat("-tls1_3", member));
    if (modern.exit_code == 127) GTEST_SKIP() << "no openssl command here";
    EXPECT_EQ(modern.exit_code, 0) << modern.output;
    EXPECT_THAT(modern.output, AllOf(HasSubstr("CONNECTION ESTABLISHED"),
                                     HasSubstr("Protocol version: TLSv1.3")));
    for (const char* version : {"-tls1_2", "-tls1_1", "-no_tls1_3"}) {
      const Finished old =
          SClient(port, Cat(version, member, " -cipher ALL:@SECLEVEL=0"));
      EXPECT_NE(old.exit_code, 0) << version << "\n" << old.output;
      EXPECT_THAT(old.output, Not(HasSubstr("CONNECTION ESTABLISHED")))
          << version;
    }
  }
  ExpectStoreIsWhole(federation);
}

}  // namespace
}  // namespace consilium

#include "coordinator/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What comes back for `request`, until the server closes. `hang_up`: or until
// the headers are there, where the server would wait for another request.
std::string Exchange(int port, const std::string& request,
                     bool hang_up = false) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 &&
      ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(n));
      if (hang_up && answer.find("\r\n\r\n") != std::string::npos) break;
    }
  }
  ::close(fd);
  return answer;
}

std::string Get(int port, const std::string& path) {
  return Exchange(port, Cat("GET ", path,
                            " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                            "\r\n"));
}

class MetricsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MetricsHandlers handlers;
    handlers.metrics = [this]() -> std::string {
      if (throws_) throw std::runtime_error("secret detail");
      return "consilium_round 12\n";
    };
    handlers.ready = [this] {
      return ready_ ? absl::OkStatus()
                    : absl::UnavailableError("recovering round 7");
    };
    ASSERT_OK_AND_ASSIGN(server_,
                         MetricsServer::Start("127.0.0.1:0", handlers));
  }
  std::atomic<bool> ready_ = true;
  std::atomic<bool> throws_ = false;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, ServesMetricsAsText) {
  const std::string answer = Get(server_->port(), "/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nconsilium_round 12\n"));
}

TEST_F(MetricsServerTest, HealthAndReadinessDiffer) {
  EXPECT_THAT(Get(server_->port(), "/readyz"), StartsWith("HTTP/1.1 200"));
  ready_ = false;
  const std::string answer = Get(server_->port(), "/readyz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(answer, EndsWith("recovering round 7\n"));
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, NothingElseIsServed) {
  EXPECT_THAT(Get(server_->port(), "/"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get(server_->port(), "/../etc/passwd"),
              StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(
      Exchange(server_->port(),
               "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000"
               "\r\nConnection: close\r\n\r\n"),
      StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Exchange(server_->port(), "nonsense\r\n\r\n", true),
              StartsWith("HTTP/1.1 400"));
}

TEST_F(MetricsServerTest, AFailingHandlerIsAnErrorAndNotTheEnd) {
  throws_ = true;
  const std::string answer = Get(server_->port(), "/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 500"));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr("secret")));
  throws_ = false;
  EXPECT_THAT(Get(server_->port(), "/metrics"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, APortInUseIsNamed) {
  const std::string address = Cat("127.0.0.1:", server_->port());
  EXPECT_THAT(MetricsServer::Start(address, {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

TEST_F(MetricsServerTest, StoppingFreesThePort) {
  const int port = server_->port();
  server_.reset();
  EXPECT_EQ(Get(port, "/healthz"), "");
  ASSERT_OK(MetricsServer::Start(Cat("127.0.0.1:", port), {}));
}

TEST(MetricsServerAddressTest, MistakesAreNamed) {
  for (const char* address :
       {"", "localhost", ":80", "h:", "h:99999", "h:-1"}) {
    EXPECT_THAT(MetricsServer::Start(address, {}),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << address;
  }
}

}  // namespace
}  // namespace consilium

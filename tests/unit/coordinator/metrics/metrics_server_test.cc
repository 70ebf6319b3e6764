#include "coordinator/metrics/metrics_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "consilium/base/strings.h"
#include "coordinator/metrics/process_stats.h"
#include "coordinator/rpc/sockets.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

bool Send(const Fd& fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// What comes until the server closes.
std::string Receive(const Fd& fd) {
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd.get(), buffer, sizeof(buffer), 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  return answer;
}

bool IsClosed(const Fd& fd) { return Receive(fd).empty(); }

Fd Dial(int port) { return Fd(DialLoopback(static_cast<uint16_t>(port))); }

std::string Exchange(int port, const std::string& request) {
  const Fd fd = Dial(port);
  Send(fd, request);
  return Receive(fd);
}

std::string Get(int port, const std::string& path) {
  return Exchange(port, Cat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n"));
}

MetricsServerOptions At(std::string address) {
  MetricsServerOptions options;
  options.address = std::move(address);
  return options;
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
      if (slow_) {
        waits_.Notify();
        go_on_.WaitForNotification();
      }
      return ready_ ? absl::OkStatus()
                    : absl::UnavailableError("recovering round 7");
    };
    MetricsServerOptions options = At("127.0.0.1:0");
    options.max_connections = 8;
    options.max_request_bytes = 4096;
    options.clock = &clock_;
    ASSERT_OK_AND_ASSIGN(server_, MetricsServer::Start(options, handlers));
  }
  std::vector<Fd> Idle(int count) {
    std::vector<Fd> out;
    for (int i = 0; i < count; ++i) out.push_back(Dial(server_->port()));
    return out;
  }

  FakeClock clock_;  // stands still
  std::atomic<bool> ready_ = true;
  std::atomic<bool> throws_ = false;
  std::atomic<bool> slow_ = false;
  absl::Notification waits_;
  absl::Notification go_on_;
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
               "\r\n\r\n"),
      StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Exchange(server_->port(), "nonsense\r\n\r\n"),
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
  EXPECT_THAT(MetricsServer::Start(At(address), {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

TEST_F(MetricsServerTest, StoppingFreesThePort) {
  const int port = server_->port();
  server_.reset();
  ASSERT_OK(MetricsServer::Start(At(Cat("127.0.0.1:", port)), {}));
}

TEST_F(MetricsServerTest, HeadIsGetWithoutTheContent) {
  const std::string answer =
      Exchange(server_->port(), "HEAD /healthz HTTP/1.1\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(MetricsServerTest, ARequestWithABodyIsRefusedAndClosed) {
  for (const char* header : {"Content-Length: 5", "content-LENGTH:17",
                             "Transfer-Encoding: chunked"}) {
    EXPECT_THAT(
        Exchange(server_->port(), Cat("GET /healthz HTTP/1.1\r\nHost: x\r\n",
                                      header, "\r\n\r\nhello")),
        StartsWith("HTTP/1.1 413"))
        << header;
  }
  EXPECT_THAT(Exchange(server_->port(),
                       "GET /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, ARequestThatIsTooLongIsRefusedByName) {
  const std::string line = "GET /healthz HTTP/1.1\r\nX: ";
  const std::string fits = line + std::string(4096 - line.size() - 4, 'x');
  EXPECT_THAT(Exchange(server_->port(), fits + "\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
  const std::string answer = Exchange(server_->port(), fits + "x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(answer, HasSubstr("limits.max_metrics_request_bytes = 4096"));
}

TEST_F(MetricsServerTest, AFloodOfHeaderBytesIsCutOffAndTakesNoMemory) {
  const int64_t before = ReadProcessStats().peak_resident_bytes;
  const std::string piece(1 << 20, 'x');
  const std::string lines = [] {
    std::string text;
    while (text.size() < (1 << 20)) text += "X-Header: x\r\n";
    return text;
  }();
  for (const std::string& flood : {piece, lines}) {
    const Fd fd = Dial(server_->port());
    ASSERT_TRUE(Send(fd, "GET /metrics HTTP/1.1\r\n"));
    int64_t taken = 0;
    while (taken < (int64_t{256} << 20) && Send(fd, flood)) taken += 1 << 20;
    // What the sockets of both sides hold.
    EXPECT_LT(taken, int64_t{32} << 20);
  }
  EXPECT_LT(ReadProcessStats().peak_resident_bytes - before, int64_t{16} << 20);
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, WhoSaysNothingMakesRoomForWhoAsks) {
  const std::vector<Fd> idle = Idle(200);
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  // All but the newest of them hold no descriptor any more.
  for (size_t i = 0; i + 8 < idle.size(); ++i) EXPECT_TRUE(IsClosed(idle[i]));
}

TEST_F(MetricsServerTest, ABeginningWithoutAnEndMakesRoomToo) {
  std::vector<Fd> slow = Idle(8);
  for (const Fd& fd : slow) ASSERT_TRUE(Send(fd, "GET /metrics HTTP/1.1\r\nX"));
  EXPECT_THAT(Get(server_->port(), "/readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(IsClosed(slow[0]));
}

TEST_F(MetricsServerTest, AConnectionIsClosedAfterTheTimeout) {
  const Fd fd = Dial(server_->port());
  ASSERT_TRUE(Send(fd, "GET /metrics HTTP/1.1\r\nX: "));
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  clock_.Advance(absl::Seconds(10));
  // The thread looks at its clock when something happens.
  const Fd other = Dial(server_->port());
  EXPECT_TRUE(IsClosed(fd));
}

TEST_F(MetricsServerTest, AHandlerThatWaitsKeepsNobodyElseWaiting) {
  slow_ = true;
  const Fd waiting = Dial(server_->port());
  ASSERT_TRUE(Send(waiting, "GET /readyz HTTP/1.1\r\n\r\n"));
  waits_.WaitForNotification();
  slow_ = false;
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Get(server_->port(), "/metrics"), StartsWith("HTTP/1.1 200"));
  // Nor does anybody else's coming end it.
  const std::vector<Fd> idle = Idle(50);
  EXPECT_THAT(Get(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  go_on_.Notify();
  EXPECT_THAT(Receive(waiting), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, StoppingWaitsForNobodyWhoIsSlow) {
  std::vector<Fd> slow = Idle(8);
  for (const Fd& fd : slow) ASSERT_TRUE(Send(fd, "GET /metrics HTTP/1.1\r\nX"));
  std::atomic<bool> closed = false;
  std::thread drip([&] {
    while (!closed && Send(slow.back(), "x")) std::this_thread::yield();
  });
  // The clock stands still: were it to wait for a timeout, it would not end.
  server_.reset();
  closed = true;
  drip.join();
  for (const Fd& fd : slow) EXPECT_TRUE(IsClosed(fd));
}

TEST(MetricsServerAddressTest, MistakesAreNamed) {
  for (const char* address :
       {"", "localhost", ":80", "h:", "h:99999", "h:-1"}) {
    EXPECT_THAT(MetricsServer::Start(At(address), {}),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << address;
  }
}

}  // namespace
}  // namespace consilium

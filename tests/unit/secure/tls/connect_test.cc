#include "secure/tls/connect.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

SocketAddress Loopback(uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  in.sin_port = htons(port);
  SocketAddress address;
  std::memcpy(&address.storage, &in, sizeof(in));
  address.size = sizeof(in);
  return address;
}

// Whoever connects hears nothing: its queue is full.
class SilentPort {
 public:
  SilentPort() {
    SocketAddress any = Loopback(0);
    auto* const generic = reinterpret_cast<sockaddr*>(&any.storage);
    listener_ = Socket();
    CONSILIUM_CHECK(bind(listener_, generic, any.size) == 0);
    CONSILIUM_CHECK(listen(listener_, 0) == 0);
    CONSILIUM_CHECK(getsockname(listener_, generic, &any.size) == 0);
    address_ = any;
    for (int i = 0; i < 4; ++i) {
      queued_.push_back(Socket());
      connect(queued_.back(), generic, any.size);
    }
  }
  ~SilentPort() {
    for (const int fd : queued_) close(fd);
    close(listener_);
  }
  const SocketAddress& address() const { return address_; }

 private:
  static int Socket() {
    return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  }
  int listener_ = -1;
  SocketAddress address_;
  std::vector<int> queued_;
};

// As of a host whose IPv6 address leads nowhere.
TEST(ConnectTest, AnAddressThatDoesNotAnswerLeavesTimeForTheNext) {
  const SilentPort silent;
  const LoopbackServer server([](int fd) { SendText(fd, "hello"); });
  ASSERT_OK_AND_ASSIGN(
      TcpConnection connection,
      TcpConnection::OpenFirst(
          std::vector{silent.address(), Loopback(server.port())}, "it:1",
          Deadline(absl::Seconds(1))));
  std::byte next[1];
  EXPECT_OK(connection.Receive(next, Deadline(absl::Seconds(20))).status());
}

TEST(ConnectTest, ARefusalLeadsToTheNextAtOnce) {
  const LoopbackServer server([](int) {});
  EXPECT_OK(TcpConnection::OpenFirst(
                std::vector{Loopback(ClosedPort()), Loopback(server.port())},
                "it:1", Deadline(absl::Seconds(20)))
                .status());
}

TEST(ConnectTest, TheLastErrorIsTold) {
  const SilentPort silent;
  const Deadline deadline(absl::Milliseconds(50));
  const std::vector timeout_last{Loopback(ClosedPort()), silent.address()};
  EXPECT_THAT(TcpConnection::OpenFirst(timeout_last, "it:1", deadline),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("cannot connect to it:1")));
  const std::vector refused{Loopback(ClosedPort())};
  EXPECT_THAT(
      TcpConnection::OpenFirst(refused, "it:1", Deadline(absl::Seconds(20))),
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr("cannot connect to it:1: Connection refused")));
}

}  // namespace
}  // namespace consilium

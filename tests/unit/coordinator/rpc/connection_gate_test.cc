#include "coordinator/rpc/connection_gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "coordinator/rpc/rate_limit.h"
#include "coordinator/rpc/sockets.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

// What lies behind a gate: connections in the order in which they came.
class Behind {
 public:
  void Take(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    const MutexLock lock(&mu_);
    came_.emplace_back(fd);
    changed_.SignalAll();
  }
  Fd Next() {
    const MutexLock lock(&mu_);
    while (came_.empty()) changed_.Wait(&mu_);
    Fd fd = std::move(came_.front());
    came_.pop_front();
    return fd;
  }
  bool empty() {
    const MutexLock lock(&mu_);
    return came_.empty();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::deque<Fd> came_ ABSL_GUARDED_BY(mu_);
};

class ConnectionGateTest : public testing::Test {
 protected:
  static ConnectionGate::Options Usual() {
    ConnectionGate::Options o;
    o.address = "127.0.0.1:0";
    o.address_key = "listen.door";
    o.max_connections_per_address_key = "limits.per_address";
    o.max_bytes_key = "limits.bytes";
    o.max_age_key = "limits.age";
    return o;
  }

  void Open(ConnectionGate::Options o) {
    o.clock = &clock_;
    o.report = [this](std::string_view text) {
      const MutexLock lock(&mu_);
      reports_.emplace_back(text);
    };
    auto gate = ConnectionGate::Open(std::move(o));
    ASSERT_TRUE(gate.ok()) << gate.status();
    gate_ = *std::move(gate);
    gate_->Start([this](int fd) { behind_.Take(fd); });
  }

  Fd Dial() const {
    return Fd(DialLoopback(static_cast<uint16_t>(gate_->port())));
  }
  // The gate's thread looks at its clock when something happens.
  void Wake() {
    const Fd fd = Dial();
    const Fd inner = behind_.Next();
  }

  std::vector<std::string> reports() {
    const MutexLock lock(&mu_);
    return reports_;
  }

  FakeClock clock_;
  Behind behind_;
  Mutex mu_;
  std::vector<std::string> reports_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<ConnectionGate> gate_;  // last: it calls what is above
};

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

// Sends as much as the other side takes.
bool Send(const Fd& fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Up to `size` bytes; fewer when the other side closes.
std::string Receive(const Fd& fd, size_t size) {
  std::string text(size, '\0');
  size_t got = 0;
  while (got < size) {
    const ssize_t n = recv(fd.get(), text.data() + got, size - got, 0);
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  text.resize(got);
  return text;
}

bool IsClosed(const Fd& fd) {
  char next;
  return recv(fd.get(), &next, 1, 0) <= 0;
}

std::string OwnName(const Fd& fd) {
  sockaddr_in own{};
  socklen_t size = sizeof(own);
  EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
  return Cat("ipv4:127.0.0.1:", ntohs(own.sin_port));
}

std::string PeerName(const Fd& fd) {
  sockaddr_in peer{};
  socklen_t size = sizeof(peer);
  EXPECT_EQ(getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &size),
            0);
  return Cat("ipv4:127.0.0.1:", ntohs(peer.sin_port));
}

TEST_F(ConnectionGateTest, BytesGoBothWays) {
  Open(Usual());
  const Fd outer = Dial();
  const std::string question = Pattern(16 << 10);
  ASSERT_TRUE(Send(outer, question));
  const Fd inner = behind_.Next();
  EXPECT_EQ(Receive(inner, question.size()), question);
  const std::string answer = Pattern(1 << 20);
  std::thread writer([&] { EXPECT_TRUE(Send(inner, answer)); });
  EXPECT_EQ(Receive(outer, answer.size()), answer);
  writer.join();
}

TEST_F(ConnectionGateTest, ClosesWhoSendsTooMuch) {
  ConnectionGate::Options o = Usual();
  o.max_bytes = 1000;
  Open(std::move(o));
  const Fd outer = Dial();
  ASSERT_TRUE(Send(outer, Pattern(1000)));
  const Fd inner = behind_.Next();
  EXPECT_EQ(Receive(inner, 1000), Pattern(1000));
  ASSERT_TRUE(Send(inner, "still here"));
  EXPECT_EQ(Receive(outer, 10), "still here");
  ASSERT_TRUE(Send(outer, "x"));
  EXPECT_TRUE(IsClosed(outer));
  EXPECT_TRUE(IsClosed(inner)) << "the byte too many went through";
  EXPECT_EQ(gate_->counts().too_long, 1);
  ASSERT_EQ(reports().size(), 1u);
  EXPECT_EQ(reports()[0],
            "listen.door: closed a connection of 127.0.0.1: it sent more than "
            "limits.bytes = 1000 bytes");
}

TEST_F(ConnectionGateTest, OneAddressHasSoManyConnections) {
  ConnectionGate::Options o = Usual();
  o.max_connections_per_address = 2;
  Open(std::move(o));
  Fd first = Dial();
  const Fd first_inner = behind_.Next();
  const Fd second = Dial();
  const Fd second_inner = behind_.Next();
  const Fd third = Dial();
  EXPECT_TRUE(IsClosed(third));
  EXPECT_EQ(gate_->counts().too_many, 1);
  EXPECT_EQ(reports().at(0),
            "listen.door: closed a connection of 127.0.0.1: "
            "limits.per_address is 2, and it has that many open");
  ASSERT_TRUE(Send(second, "on"));
  EXPECT_EQ(Receive(second_inner, 2), "on");

  // A place is free once the gate has seen both ends close, which the close of
  // the other side shows.
  shutdown(first_inner.get(), SHUT_RDWR);
  EXPECT_TRUE(IsClosed(first));
  { const Fd gone = std::move(first); }
  while (gate_->counts().open == 2) std::this_thread::yield();
  const Fd fourth = Dial();
  const Fd fourth_inner = behind_.Next();
  EXPECT_EQ(gate_->counts().too_many, 1);
}

TEST_F(ConnectionGateTest, FurtherConnectionsWaitForAPlace) {
  ConnectionGate::Options o = Usual();
  o.max_connections = 2;
  Open(std::move(o));
  Fd first = Dial();
  Fd first_inner = behind_.Next();
  const Fd second = Dial();
  const Fd second_inner = behind_.Next();
  const Fd third = Dial();
  ASSERT_TRUE(Send(third, "patience"));
  // What the gate does now it does without the third.
  ASSERT_TRUE(Send(second, "on"));
  EXPECT_EQ(Receive(second_inner, 2), "on");
  EXPECT_TRUE(behind_.empty());
  EXPECT_EQ(gate_->counts().accepted, 2);

  { const Fd gone = std::move(first); }
  { const Fd gone = std::move(first_inner); }
  const Fd third_inner = behind_.Next();
  EXPECT_EQ(Receive(third_inner, 8), "patience");
  EXPECT_EQ(gate_->counts().too_many, 0);
}

TEST_F(ConnectionGateTest, AConnectionLastsSoLong) {
  ConnectionGate::Options o = Usual();
  o.max_age = absl::Seconds(20);
  Open(std::move(o));
  const Fd outer = Dial();
  const Fd inner = behind_.Next();
  clock_.Advance(absl::Seconds(19));
  Wake();
  ASSERT_TRUE(Send(inner, "yet"));
  EXPECT_EQ(Receive(outer, 3), "yet");
  EXPECT_EQ(gate_->counts().too_old, 0);
  clock_.Advance(absl::Seconds(1));
  Wake();
  EXPECT_TRUE(IsClosed(outer));
  EXPECT_TRUE(IsClosed(inner));
  EXPECT_EQ(gate_->counts().too_old, 1);
  EXPECT_EQ(reports().at(0),
            "listen.door: closed a connection of 127.0.0.1: it lasted longer "
            "than limits.age = 20s");
}

TEST_F(ConnectionGateTest, ReportsAReasonOnceInAWhile) {
  ConnectionGate::Options o = Usual();
  o.max_bytes = 1;
  o.report_every = absl::Minutes(1);
  Open(std::move(o));
  const auto hit = [this] {
    const Fd outer = Dial();
    ASSERT_TRUE(Send(outer, "xx"));
    EXPECT_TRUE(IsClosed(outer));
    const Fd inner = behind_.Next();
  };
  for (int i = 0; i < 4; ++i) hit();
  EXPECT_EQ(gate_->counts().too_long, 4);
  EXPECT_EQ(reports().size(), 1u);
  clock_.Advance(absl::Minutes(1));
  hit();
  ASSERT_EQ(reports().size(), 2u);
  EXPECT_TRUE(reports()[1].ends_with("(and 3 others for this reason)"))
      << reports()[1];
}

TEST_F(ConnectionGateTest, KnowsWhoIsBehindAConnection) {
  Open(Usual());
  const Fd outer = Dial();
  const Fd inner = behind_.Next();
  EXPECT_EQ(gate_->PeerOf(PeerName(inner)), OwnName(outer));
  EXPECT_EQ(gate_->PeerOf("ipv4:127.0.0.1:1"), "ipv4:127.0.0.1:1");
  EXPECT_EQ(gate_->PeerOf("unix:"), "unix:");
}

TEST_F(ConnectionGateTest, StopsAccepting) {
  Open(Usual());
  const Fd outer = Dial();
  const Fd inner = behind_.Next();
  gate_->StopAccepting();
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(gate_->port()));
  const Fd late(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(connect(late.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)),
            0);
  ASSERT_TRUE(Send(outer, "on"));
  EXPECT_EQ(Receive(inner, 2), "on");
  gate_->StopAccepting();
}

TEST_F(ConnectionGateTest, AnAnswerArrivesWholeFromWhoReadsNoMore) {
  Open(Usual());
  const Fd outer = Dial();
  const Fd inner = behind_.Next();
  const std::string answer = Pattern(1 << 20);
  std::thread sender([&] {
    EXPECT_TRUE(Send(inner, answer));
    shutdown(inner.get(), SHUT_WR);
  });
  ASSERT_TRUE(Send(outer, "nobody reads this"));
  EXPECT_EQ(Receive(outer, answer.size()), answer);
  EXPECT_TRUE(IsClosed(outer));
  ASSERT_TRUE(Send(outer, "nor this"));
  sender.join();
}

TEST_F(ConnectionGateTest, WhoHasSentAllMayStillBeAnswered) {
  Open(Usual());
  const Fd outer = Dial();
  ASSERT_TRUE(Send(outer, "all"));
  shutdown(outer.get(), SHUT_WR);
  const Fd inner = behind_.Next();
  EXPECT_EQ(Receive(inner, 100), "all");
  ASSERT_TRUE(Send(inner, "answer"));
  EXPECT_EQ(Receive(outer, 6), "answer");
}

TEST_F(ConnectionGateTest, ListensOnEveryAddressOfAHost) {
  for (const char* address : {"localhost:0", "0.0.0.0:0"}) {
    SCOPED_TRACE(address);
    ConnectionGate::Options o = Usual();
    o.address = address;
    Open(std::move(o));
    const Fd outer = Dial();
    const Fd inner = behind_.Next();
    EXPECT_EQ(AddressOfPeer(gate_->PeerOf(PeerName(inner))), "127.0.0.1");
  }
}

TEST_F(ConnectionGateTest, RefusesAnAddressItCannotHave) {
  ConnectionGate::Options o = Usual();
  o.address = "127.0.0.1";
  o.clock = &clock_;
  auto gate = ConnectionGate::Open(o);
  EXPECT_EQ(gate.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(gate.status().message().find("listen.door"), std::string::npos);

  Open(Usual());
  o.address = Cat("127.0.0.1:", gate_->port());
  gate = ConnectionGate::Open(o);
  EXPECT_EQ(gate.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(gate.status().message().find(o.address), std::string::npos);
  EXPECT_NE(gate.status().message().find("listen.door"), std::string::npos);
}

}  // namespace
}  // namespace consilium

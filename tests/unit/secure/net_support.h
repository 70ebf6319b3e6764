// Small servers on loopback for the tests of this folder.
#ifndef CONSILIUM_TESTS_UNIT_SECURE_NET_SUPPORT_H_
#define CONSILIUM_TESTS_UNIT_SECURE_NET_SUPPORT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/secure/proxy.h"

namespace consilium {

// Accepts on 127.0.0.1, port chosen by the system, and gives each connection
// to `serve` in a thread of its own. `serve` does not close the socket.
class LoopbackServer {
 public:
  using Serve = std::function<void(int fd)>;

  explicit LoopbackServer(Serve serve) : serve_(std::move(serve)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CONSILIUM_CHECK(listener_ >= 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    CONSILIUM_CHECK(bind(listener_, generic, size) == 0);
    CONSILIUM_CHECK(listen(listener_, 16) == 0);
    CONSILIUM_CHECK(getsockname(listener_, generic, &size) == 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { AcceptAll(); });
  }

  ~LoopbackServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const MutexLock lock(&mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& worker : workers_) worker.join();
    for (const int fd : open_) close(fd);
    close(listener_);
  }

  uint16_t port() const { return port_; }
  HostPort address() const { return HostPort{"127.0.0.1", port_}; }

 private:
  void AcceptAll() {
    while (true) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const MutexLock lock(&mutex_);
      open_.push_back(fd);
      workers_.emplace_back([this, fd] {
        serve_(fd);
        shutdown(fd, SHUT_RDWR);
      });
    }
  }

  const Serve serve_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread acceptor_;
  Mutex mutex_;
  std::vector<int> open_;           // guarded by mutex_ until acceptor_ ends
  std::list<std::thread> workers_;  // likewise
};

// A port on which nobody listens.
inline uint16_t ClosedPort() {
  return LoopbackServer([](int) {}).port();
}

inline int DialLoopback(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  CONSILIUM_CHECK(
      connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  return fd;
}

inline std::string ReadHttpHead(int fd) {
  std::string head;
  char next;
  while (head.find("\r\n\r\n") == std::string::npos &&
         recv(fd, &next, 1, 0) == 1) {
    head.push_back(next);
  }
  return head;
}

inline void SendText(int fd, std::string_view text) {
  CONSILIUM_CHECK(send(fd, text.data(), text.size(), MSG_NOSIGNAL) ==
                  static_cast<ssize_t>(text.size()));
}

// Copies both ways until one side closes.
inline void Shuttle(int a, int b) {
  std::array<char, 16384> buffer;
  const std::array<int, 2> fds = {a, b};
  while (true) {
    std::array<pollfd, 2> waiting = {pollfd{a, POLLIN, 0},
                                     pollfd{b, POLLIN, 0}};
    if (poll(waiting.data(), waiting.size(), -1) <= 0) return;
    for (size_t i = 0; i < 2; ++i) {
      if (waiting[i].revents == 0) continue;
      const ssize_t got = recv(fds[i], buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      if (send(fds[1 - i], buffer.data(), static_cast<size_t>(got),
               MSG_NOSIGNAL) != got) {
        return;
      }
    }
  }
}

// An HTTP proxy that takes CONNECT and leads every tunnel to one port,
// whatever host was asked for.
class ConnectProxy {
 public:
  explicit ConnectProxy(uint16_t to,
                        std::string answer = "HTTP/1.1 200 Yes\r\n\r\n")
      : server_([this, to, answer](int fd) {
          {
            const std::string head = ReadHttpHead(fd);
            const MutexLock lock(&mutex_);
            heads_.push_back(head);
          }
          SendText(fd, answer);
          if (answer.find(" 200 ") == std::string::npos) return;
          const int upstream = DialLoopback(to);
          Shuttle(fd, upstream);
          close(upstream);
        }) {}

  ProxyAddress address(std::string user_info = "") const {
    return ProxyAddress{server_.address(), std::move(user_info)};
  }
  // The requests seen so far.
  std::vector<std::string> heads() {
    const MutexLock lock(&mutex_);
    return heads_;
  }

 private:
  Mutex mutex_;
  std::vector<std::string> heads_ ABSL_GUARDED_BY(mutex_);
  LoopbackServer server_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_SECURE_NET_SUPPORT_H_

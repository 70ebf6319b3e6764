// Keeps a port for who comes back to it.
#ifndef CONSILIUM_TESTS_SUPPORT_HELD_PORT_H_
#define CONSILIUM_TESTS_SUPPORT_HELD_PORT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace consilium {

// Holds a port of 127.0.0.1 while it lives: nobody else is given it, and who
// connects is refused, since nothing listens. Holds nothing where the port is
// in use.
class HeldPort {
 public:
  explicit HeldPort(int port)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    held_ = port > 0 && bind(fd_, reinterpret_cast<sockaddr*>(&address),
                             sizeof address) == 0;
  }
  ~HeldPort() {
    if (fd_ >= 0) close(fd_);
  }
  HeldPort(HeldPort&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), held_(other.held_) {}
  HeldPort& operator=(HeldPort&&) = delete;

  bool held() const { return held_; }

 private:
  int fd_;
  bool held_ = false;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_HELD_PORT_H_

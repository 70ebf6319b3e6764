// Listening sockets, and connections of a process with itself.

#ifndef CONSILIUM_COORDINATOR_RPC_SOCKETS_H_
#define CONSILIUM_COORDINATOR_RPC_SOCKETS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/secure/proxy.h"

namespace consilium {

// Owns a descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Listeners {
  std::vector<Fd> fds;  // that do not block
  int port = 0;
};

// One for each address of the host, all on one port; port 0: of the system's
// choice. "0.0.0.0" is every address of both families, as it is to gRPC.
// Errors: UNAVAILABLE.
absl::StatusOr<Listeners> ListenOnAll(const HostPort& to);

// A connection that waits, non-blocking, and who made it, as gRPC names a peer:
// "ipv4:192.0.2.7:49152", "ipv6:[2001:db8::7]:49152". Empty, with errno, when
// there is none.
Fd AcceptFrom(int listener, std::string* peer);

// Both ends of a connection over loopback. Unlike those of socketpair() they
// have addresses, by which gRPC tells who calls.
struct LoopbackPair {
  Fd ours;
  Fd theirs;
  std::string name;  // of `ours`, as `theirs` sees it

  // Errors: UNAVAILABLE.
  static absl::StatusOr<LoopbackPair> Make();
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_SOCKETS_H_

#include "coordinator/rpc/sockets.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr int kBacklog = 128;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

sockaddr* Generic(sockaddr_storage& a) {
  return reinterpret_cast<sockaddr*>(&a);
}

int PortOf(const sockaddr_storage& a) {
  return ntohs(a.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(a).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(a).sin_port);
}

// As gRPC writes it.
std::string NameOf(const sockaddr_storage& a) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (a.ss_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(a).sin6_addr,
              text.data(), text.size());
    return Cat("ipv6:[", text.data(), "]:", PortOf(a));
  }
  inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(a).sin_addr,
            text.data(), text.size());
  return Cat("ipv4:", text.data(), ":", PortOf(a));
}

absl::StatusOr<sockaddr_storage> OwnAddress(int fd) {
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  if (getsockname(fd, Generic(own), &size) != 0) {
    return absl::UnavailableError(
        Cat("getsockname: ", std::generic_category().message(errno)));
  }
  return own;
}

// Whoever speaks in turns would wait for a late acknowledgement each time.
void SendAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

absl::StatusOr<Fd> ListenOn(int family, const sockaddr* address,
                            socklen_t size) {
  Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  const int off = 0;
  if (fd) {
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6) {
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
  }
  if (!fd || bind(fd.get(), address, size) != 0 ||
      listen(fd.get(), kBacklog) != 0) {
    return absl::UnavailableError(std::generic_category().message(errno));
  }
  return fd;
}

}  // namespace

Fd AcceptFrom(int listener, std::string* peer) {
  sockaddr_storage from{};
  socklen_t size = sizeof(from);
  Fd got(accept4(listener, Generic(from), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (got) {
    *peer = NameOf(from);
    SendAtOnce(got.get());
  }
  return got;
}

absl::StatusOr<Listeners> ListenOnAll(const HostPort& to) {
  Listeners out;
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(to.port);
  if (to.host == "0.0.0.0" || to.host == "::") {
    // As gRPC does on the port for institutions: both families by one socket.
    absl::StatusOr<Fd> both = ListenOn(
        AF_INET6, reinterpret_cast<const sockaddr*>(&any), sizeof(any));
    if (both.ok()) {
      CONSILIUM_ASSIGN_OR_RETURN(const sockaddr_storage own,
                                 OwnAddress(both->get()));
      out.port = PortOf(own);
      out.fds.push_back(*std::move(both));
      return out;
    }
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int lookup =
      getaddrinfo(to.host.c_str(), Cat(to.port).c_str(), &hints, &found);
  if (lookup != 0) {
    return absl::UnavailableError(std::string(gai_strerror(lookup)));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  absl::Status last = absl::UnavailableError("no address");
  out.port = to.port;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    sockaddr_storage at{};
    std::copy_n(reinterpret_cast<const char*>(a->ai_addr), a->ai_addrlen,
                reinterpret_cast<char*>(&at));
    if (at.ss_family == AF_INET6) {
      reinterpret_cast<sockaddr_in6&>(at).sin6_port =
          htons(static_cast<uint16_t>(out.port));
    } else {
      reinterpret_cast<sockaddr_in&>(at).sin_port =
          htons(static_cast<uint16_t>(out.port));
    }
    absl::StatusOr<Fd> fd = ListenOn(a->ai_family, Generic(at), a->ai_addrlen);
    if (!fd.ok()) {
      last = fd.status();
      continue;
    }
    CONSILIUM_ASSIGN_OR_RETURN(const sockaddr_storage own,
                               OwnAddress(fd->get()));
    out.port = PortOf(own);
    out.fds.push_back(*std::move(fd));
  }
  if (out.fds.empty()) return last;
  return out;
}

absl::StatusOr<LoopbackPair> LoopbackPair::Make() {
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CONSILIUM_ASSIGN_OR_RETURN(
      const Fd listener,
      ListenOn(AF_INET, reinterpret_cast<const sockaddr*>(&loopback),
               sizeof(loopback)));
  CONSILIUM_ASSIGN_OR_RETURN(sockaddr_storage at, OwnAddress(listener.get()));
  LoopbackPair pair;
  pair.ours =
      Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!pair.ours ||
      (connect(pair.ours.get(), Generic(at), sizeof(loopback)) != 0 &&
       errno != EINPROGRESS)) {
    return absl::UnavailableError(
        Cat("loopback: ", std::generic_category().message(errno)));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const sockaddr_storage own,
                             OwnAddress(pair.ours.get()));
  pair.name = NameOf(own);
  SendAtOnce(pair.ours.get());
  // Anybody on this machine may have come first.
  for (int tries = 0; tries < kBacklog; ++tries) {
    pollfd waiting{listener.get(), POLLIN, 0};
    if (poll(&waiting, 1, 1000) <= 0) break;
    std::string from;
    Fd got = AcceptFrom(listener.get(), &from);
    if (got && from == pair.name) {
      pair.theirs = std::move(got);
      return pair;
    }
  }
  return absl::UnavailableError("loopback: no connection to ourselves");
}

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace consilium

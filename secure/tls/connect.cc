#include "secure/tls/connect.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

// No proxy needs more than this to say yes or no.
constexpr size_t kMaxProxyAnswerBytes = 16 * 1024;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

absl::Status Unreachable(std::string_view what, int error) {
  return absl::UnavailableError(
      Cat(what, ": ", std::generic_category().message(error)));
}

}  // namespace

// Wakes a poll() when its token is cancelled.
class Deadline::Alarm {
 public:
  explicit Alarm(const CancelToken& cancel)
      : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        registration_(cancel.OnCancel([this] { eventfd_write(fd_, 1); })) {}
  ~Alarm() {
    registration_.Release();
    if (fd_ >= 0) close(fd_);
  }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
  CancelRegistration registration_;
};

Deadline::Deadline(absl::Duration timeout, const CancelToken& cancel)
    : at_(std::chrono::steady_clock::now() +
          absl::ToChronoMilliseconds(timeout)),
      cancel_(cancel),
      alarm_(std::make_shared<const Alarm>(cancel)) {}

int Deadline::RemainingMillis() const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                        at_ - std::chrono::steady_clock::now())
                        .count();
  return static_cast<int>(
      std::clamp<int64_t>(left, 0, std::numeric_limits<int>::max()));
}

Deadline Deadline::Share(int shares) const {
  Deadline share = *this;
  share.at_ = std::chrono::steady_clock::now() +
              std::chrono::milliseconds(RemainingMillis() / shares);
  return share;
}

absl::Status Deadline::WaitFor(int fd, short events) const {
  std::array<pollfd, 2> entries = {pollfd{fd, events, 0},
                                   pollfd{alarm_->fd(), POLLIN, 0}};
  while (true) {
    CONSILIUM_RETURN_IF_ERROR(cancel_.status());
    const int ready = poll(entries.data(), entries.size(), RemainingMillis());
    if (ready == 0) {
      return absl::DeadlineExceededError(
          "the server did not answer in time; is the address right, and does "
          "a firewall stand between?");
    }
    if (ready < 0 && errno != EINTR) {
      return Unreachable("cannot wait for the server", errno);
    }
    if (ready > 0 && entries[0].revents != 0) return absl::OkStatus();
  }
}

TcpConnection::TcpConnection(TcpConnection&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

TcpConnection& TcpConnection::operator=(TcpConnection&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

TcpConnection::~TcpConnection() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<TcpConnection> TcpConnection::Open(
    const HostPort& server, const std::optional<ProxyAddress>& proxy,
    const Deadline& deadline) {
  if (!proxy.has_value()) return Dial(server, deadline);
  absl::StatusOr<TcpConnection> connection = Dial(proxy->address, deadline);
  if (!connection.ok()) {
    return Annotate(connection.status(), Cat("proxy ", proxy->Url()));
  }
  const absl::Status tunnel = connection->Tunnel(server, *proxy, deadline);
  if (!tunnel.ok()) {
    return Annotate(tunnel, Cat("proxy ", proxy->Url()));
  }
  return connection;
}

absl::StatusOr<TcpConnection> TcpConnection::Dial(const HostPort& server,
                                                  const Deadline& deadline) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int lookup = getaddrinfo(server.host.c_str(), Cat(server.port).c_str(),
                                 &hints, &found);
  if (lookup != 0) {
    return absl::UnavailableError(Cat("cannot find host ",
                                      Quoted(server.host, 256), ": ",
                                      std::string_view(gai_strerror(lookup))));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = list.get(); a != nullptr; a = a->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    std::memcpy(&address.storage, a->ai_addr, a->ai_addrlen);
    address.size = a->ai_addrlen;
  }
  return OpenFirst(addresses, server.ToString(), deadline);
}

absl::StatusOr<TcpConnection> TcpConnection::OpenFirst(
    std::span<const SocketAddress> addresses, std::string_view name,
    const Deadline& deadline) {
  absl::Status last = absl::UnavailableError("there is no address");
  for (size_t i = 0; i < addresses.size(); ++i) {
    TcpConnection connection(socket(addresses[i].storage.ss_family,
                                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                    0));
    if (connection.fd_ < 0) {
      last = Unreachable("cannot make a socket", errno);
      continue;
    }
    last = connection.Connect(
        addresses[i], deadline.Share(static_cast<int>(addresses.size() - i)));
    if (last.ok()) return connection;
  }
  return Annotate(last, Cat("cannot connect to ", name));
}

absl::Status TcpConnection::Connect(const SocketAddress& to,
                                    const Deadline& deadline) {
  const auto* const generic = reinterpret_cast<const sockaddr*>(&to.storage);
  if (connect(fd_, generic, to.size) == 0) return absl::OkStatus();
  int error = errno;
  if (error == EINPROGRESS) {
    CONSILIUM_RETURN_IF_ERROR(deadline.WaitFor(fd_, POLLOUT));
    socklen_t size = sizeof(error);
    if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
    }
  }
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(std::generic_category().message(error));
}

absl::Status TcpConnection::SendAll(std::span<const std::byte> bytes,
                                    const Deadline& deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      CONSILIUM_RETURN_IF_ERROR(deadline.WaitFor(fd_, POLLOUT));
    } else if (errno != EINTR) {
      return Unreachable("the connection broke", errno);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> TcpConnection::Receive(std::span<std::byte> out,
                                              const Deadline& deadline) {
  while (true) {
    const ssize_t got = recv(fd_, out.data(), out.size(), 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) {
      return absl::UnavailableError("the other end closed the connection");
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      CONSILIUM_RETURN_IF_ERROR(deadline.WaitFor(fd_, POLLIN));
    } else if (errno != EINTR) {
      return Unreachable("the connection broke", errno);
    }
  }
}

absl::Status TcpConnection::Tunnel(const HostPort& server,
                                   const ProxyAddress& proxy,
                                   const Deadline& deadline) {
  const std::string target = server.ToString();
  std::string request =
      Cat("CONNECT ", target, " HTTP/1.1\r\nHost: ", target, "\r\n");
  if (!proxy.user_info.empty()) {
    CatInto(request, "Proxy-Authorization: ", proxy.Authorization(), "\r\n");
  }
  request += "\r\n";
  CONSILIUM_RETURN_IF_ERROR(SendAll(AsBytes(request), deadline));

  // One byte at a time: what follows the answer is not for us to read.
  std::string answer;
  while (answer.find("\r\n\r\n") == std::string::npos) {
    if (answer.size() == kMaxProxyAnswerBytes) {
      return absl::UnavailableError("its answer to CONNECT does not end");
    }
    std::byte next[1];
    CONSILIUM_RETURN_IF_ERROR(Receive(next, deadline).status());
    answer.push_back(static_cast<char>(next[0]));
  }
  const std::string line = answer.substr(0, answer.find("\r\n"));
  const size_t space = line.find(' ');
  if (line.compare(0, 7, "HTTP/1.") != 0 || space == std::string::npos ||
      line.size() <= space + 1 || line[space + 1] != '2') {
    return absl::UnavailableError(
        Cat("answers ", Quoted(line, 128), " to CONNECT ", target));
  }
  return absl::OkStatus();
}

}  // namespace consilium

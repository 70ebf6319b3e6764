// A TCP connection with a deadline, straight or through an HTTP proxy.
#ifndef CONSILIUM_SECURE_TLS_CONNECT_H_
#define CONSILIUM_SECURE_TLS_CONNECT_H_

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/secure/proxy.h"

namespace consilium {

// How long to wait for a socket. Counts from construction, by a clock that
// does not jump, and ends early when cancelled.
class Deadline {
 public:
  explicit Deadline(absl::Duration timeout, const CancelToken& cancel = {});
  // One of `shares` equal parts of what is left, from now.
  Deadline Share(int shares) const;
  // Until `fd` has one of `events` of poll().
  // Errors: DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE.
  absl::Status WaitFor(int fd, short events) const;

 private:
  class Alarm;
  int RemainingMillis() const;  // 0 when it has passed

  std::chrono::steady_clock::time_point at_;
  CancelToken cancel_;
  std::shared_ptr<const Alarm> alarm_;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// A connected socket. One thread at a time.
class TcpConnection {
 public:
  // Name lookup is bounded by the system's resolver, all else by `deadline`.
  // Errors: UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED.
  static absl::StatusOr<TcpConnection> Open(
      const HostPort& server, const std::optional<ProxyAddress>& proxy,
      const Deadline& deadline);
  // To the first address that answers. Each gets its share of the time, so
  // that one to which packets vanish does not hide the next.
  // `name` is for messages. Errors: as Open().
  static absl::StatusOr<TcpConnection> OpenFirst(
      std::span<const SocketAddress> addresses, std::string_view name,
      const Deadline& deadline);

  TcpConnection(TcpConnection&& other) noexcept;
  TcpConnection& operator=(TcpConnection&& other) noexcept;
  ~TcpConnection();

  absl::Status SendAll(std::span<const std::byte> bytes,
                       const Deadline& deadline);
  // At least one byte; UNAVAILABLE when the peer has closed.
  absl::StatusOr<size_t> Receive(std::span<std::byte> out,
                                 const Deadline& deadline);

 private:
  explicit TcpConnection(int fd) : fd_(fd) {}
  static absl::StatusOr<TcpConnection> Dial(const HostPort& server,
                                            const Deadline& deadline);
  absl::Status Connect(const SocketAddress& to, const Deadline& deadline);
  absl::Status Tunnel(const HostPort& server, const ProxyAddress& proxy,
                      const Deadline& deadline);
  int fd_ = -1;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_TLS_CONNECT_H_

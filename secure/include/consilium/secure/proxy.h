// Addresses, and which HTTP proxy leads to them.
#ifndef CONSILIUM_SECURE_PROXY_H_
#define CONSILIUM_SECURE_PROXY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace consilium {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;

  // "host:port", "1.2.3.4:5", "[::1]:5".
  // Errors: INVALID_ARGUMENT  no port, or not such a form.
  static absl::StatusOr<HostPort> Parse(std::string_view text);
  // To listen on: port 0 leaves the choice to the system.
  static absl::StatusOr<HostPort> ParseListening(std::string_view text);
  std::string ToString() const;  // brackets around IPv6
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// An HTTP proxy that takes CONNECT.
struct ProxyAddress {
  HostPort address;
  // "user:password" as they are, not percent-encoded; "" when there are none.
  std::string user_info;

  // "http://[user:password@]host:port[/]" or "host:port". User and password
  // are percent-decoded.
  // Errors: INVALID_ARGUMENT  another scheme or form (the text leaves out any
  //                           password).
  static absl::StatusOr<ProxyAddress> Parse(std::string_view url);
  // The value of Proxy-Authorization, "" without user_info. Holds the password.
  std::string Authorization() const;
  std::string Url() const;  // without user_info
};

// Environment lookup, so that tests need not change the process.
using Environment =
    std::function<std::optional<std::string>(const std::string& name)>;
Environment ProcessEnvironment();

// The proxy for a connection to `host`, one rule for enrolment and for gRPC:
//   setting "none"       no proxy, whatever the environment says
//   setting = a URL      that proxy
//   setting ""           grpc_proxy, https_proxy, HTTPS_PROXY or http_proxy of
//                        the environment, unless the host is loopback
// In the last two cases the first of no_grpc_proxy, no_proxy and NO_PROXY that
// is set may except the host: suffixes of host names separated by commas, or
// "*" for every host. gRPC applies that list itself and cannot be told not to.
// Errors: INVALID_ARGUMENT  the URL does not parse; the text says where it
//                           came from.
absl::StatusOr<std::optional<ProxyAddress>> ChooseProxy(
    std::string_view setting, std::string_view host,
    const Environment& environment);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_PROXY_H_

#include "consilium/secure/proxy.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::string_view kHttp = "http://";

std::optional<std::string> FirstSet(const Environment& environment,
                                    std::initializer_list<const char*> names,
                                    std::string* which) {
  for (const char* name : names) {
    std::optional<std::string> value = environment(name);
    if (value.has_value() && !value->empty()) {
      if (which != nullptr) *which = name;
      return value;
    }
  }
  return std::nullopt;
}

std::string_view Trim(std::string_view text) {
  return StdView(absl::StripAsciiWhitespace(AbslView(text)));
}

bool IsLoopback(std::string_view host) {
  if (absl::EqualsIgnoreCase(AbslView(host), "localhost")) return true;
  const std::string text(host);
  in_addr v4{};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6{};
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

bool IsExcepted(std::string_view list, std::string_view host) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view entry = Trim(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (entry == "*") return true;
    if (!entry.empty() &&
        absl::EndsWithIgnoreCase(AbslView(host), AbslView(entry))) {
      return true;
    }
  }
  return false;
}

bool IsUrlHostCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
         c == '.' || c == '_' || c == ':';
}

// No error repeats what was given: it holds a password.
absl::StatusOr<std::string> DecodeUserInfo(std::string_view text) {
  std::string decoded;
  while (!text.empty()) {
    if (text.front() != '%') {
      decoded.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    const std::string_view digits = text.substr(1, 2);
    if (digits.size() != 2 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") !=
            std::string_view::npos) {
      return absl::InvalidArgumentError(
          "proxy user or password has a % without two hexadecimal digits; "
          "write % itself as %25");
    }
    decoded += absl::HexStringToBytes(AbslView(digits));
    text.remove_prefix(3);
  }
  const auto control = [](unsigned char c) { return absl::ascii_iscntrl(c); };
  if (std::ranges::any_of(decoded, control)) {
    return absl::InvalidArgumentError(
        "proxy user or password has a control character");
  }
  return decoded;
}

}  // namespace

absl::StatusOr<HostPort> HostPort::Parse(std::string_view text) {
  CONSILIUM_ASSIGN_OR_RETURN(HostPort result, ParseListening(text));
  if (result.port == 0) {
    return absl::InvalidArgumentError(Cat("address ", Quoted(text, 256),
                                          " has port 0, to which nobody can "
                                          "connect"));
  }
  return result;
}

absl::StatusOr<HostPort> HostPort::ParseListening(std::string_view text) {
  const auto bad = [text] {
    return absl::InvalidArgumentError(
        Cat("address ", Quoted(text, 256),
            " is not host:port (an IPv6 address stands in brackets)"));
  };
  HostPort result;
  std::string_view port;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find("]:");
    if (close == std::string_view::npos) return bad();
    result.host = std::string(text.substr(1, close - 1));
    port = text.substr(close + 2);
  } else {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return bad();
    result.host = std::string(text.substr(0, colon));
    port = text.substr(colon + 1);
  }
  uint32_t number = 0;
  const bool digits =
      !port.empty() && port.size() <= 5 &&
      port.find_first_not_of("0123456789") == std::string_view::npos;
  if (result.host.empty() || !digits ||
      !absl::SimpleAtoi(AbslView(port), &number) || number > 65535 ||
      result.host.find_first_of(" \t\r\n/@[]") != std::string::npos) {
    return bad();
  }
  result.port = static_cast<uint16_t>(number);
  return result;
}

std::string HostPort::ToString() const {
  if (host.find(':') != std::string::npos) return Cat("[", host, "]:", port);
  return Cat(host, ":", port);
}

absl::StatusOr<ProxyAddress> ProxyAddress::Parse(std::string_view url) {
  std::string_view rest = url;
  if (absl::StartsWithIgnoreCase(AbslView(rest), AbslView(kHttp))) {
    rest.remove_prefix(kHttp.size());
  } else if (rest.find("://") != std::string_view::npos) {
    return absl::InvalidArgumentError(
        Cat("proxy scheme ", Quoted(rest.substr(0, rest.find("://"))),
            " is not supported; give http://[user:password@]host:port (the "
            "connection through the proxy is TLS all the same)"));
  }
  ProxyAddress proxy;
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    CONSILIUM_ASSIGN_OR_RETURN(proxy.user_info,
                               DecodeUserInfo(rest.substr(0, at)));
    rest.remove_prefix(at + 1);
  }
  if (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
  absl::StatusOr<HostPort> address = HostPort::Parse(rest);
  if (!address.ok()) return Annotate(address.status(), "proxy");
  proxy.address = *std::move(address);
  // gRPC goes straight to the server when it cannot read a proxy's URL.
  if (!std::ranges::all_of(proxy.address.host, IsUrlHostCharacter)) {
    return absl::InvalidArgumentError(
        Cat("proxy host ", Quoted(proxy.address.host, 256),
            " has other characters than letters, digits and -._:"));
  }
  return proxy;
}

std::string ProxyAddress::Authorization() const {
  if (user_info.empty()) return "";
  return Cat("Basic ", absl::Base64Escape(AbslView(user_info)));
}

std::string ProxyAddress::Url() const { return Cat(kHttp, address.ToString()); }

Environment ProcessEnvironment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
}

absl::StatusOr<std::optional<ProxyAddress>> ChooseProxy(
    std::string_view setting, std::string_view host,
    const Environment& environment) {
  if (setting == "none") return std::nullopt;
  std::string source = "proxy setting";
  std::optional<std::string> url;
  if (!setting.empty()) {
    url = std::string(setting);
  } else if (!IsLoopback(host)) {
    url = FirstSet(environment,
                   {"grpc_proxy", "https_proxy", "HTTPS_PROXY", "http_proxy"},
                   &source);
  }
  if (!url.has_value()) return std::nullopt;
  const std::optional<std::string> exceptions =
      FirstSet(environment, {"no_grpc_proxy", "no_proxy", "NO_PROXY"}, nullptr);
  if (exceptions.has_value() && IsExcepted(*exceptions, host)) {
    return std::nullopt;
  }
  absl::StatusOr<ProxyAddress> proxy = ProxyAddress::Parse(*url);
  if (!proxy.ok()) return Annotate(proxy.status(), source);
  return std::optional<ProxyAddress>(*std::move(proxy));
}

}  // namespace consilium

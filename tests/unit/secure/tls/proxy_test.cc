#include "consilium/secure/proxy.h"

#include <map>
#include <string>
#include <utility>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Environment Of(std::map<std::string, std::string> values) {
  return [values](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

// "" when none, else the address; "error" when that does not parse.
std::string Choice(std::string_view setting, std::string_view host,
                   const Environment& environment) {
  const absl::StatusOr<std::optional<ProxyAddress>> proxy =
      ChooseProxy(setting, host, environment);
  if (!proxy.ok()) return "error";
  return proxy->has_value() ? (*proxy)->address.ToString() : "";
}

TEST(HostPortTest, ParsesNamesAndAddresses) {
  EXPECT_THAT(HostPort::Parse("a.example:7443"),
              IsOkAndHolds(HostPort{"a.example", 7443}));
  EXPECT_THAT(HostPort::Parse("[2001:db8::1]:1"),
              IsOkAndHolds(HostPort{"2001:db8::1", 1}));
  EXPECT_EQ((HostPort{"2001:db8::1", 1}).ToString(), "[2001:db8::1]:1");
  EXPECT_EQ((HostPort{"a", 65535}).ToString(), "a:65535");
  for (const char* bad :
       {"", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:1x", "::1:1", "[::1]",
        "[::1", "a b:1", "a/b:1", "a:+1", "a: 1", "https://a:1"}) {
    EXPECT_THAT(HostPort::Parse(bad), StatusIs(kInvalid)) << bad;
  }
}

TEST(ProxyAddressTest, ParsesUrls) {
  ASSERT_OK_AND_ASSIGN(const ProxyAddress proxy,
                       ProxyAddress::Parse("http://u:p%40@p.example:3128/"));
  EXPECT_EQ(proxy.address, (HostPort{"p.example", 3128}));
  EXPECT_EQ(proxy.user_info, "u:p@");
  EXPECT_EQ(proxy.Authorization(), "Basic dTpwQA==");
  EXPECT_EQ(proxy.Url(), "http://p.example:3128");
  EXPECT_OK(ProxyAddress::Parse("p.example:3128"));
  EXPECT_THAT(ProxyAddress::Parse("socks5://p:1"),
              StatusIs(kInvalid, HasSubstr("socks5")));
  EXPECT_THAT(ProxyAddress::Parse("http://p.example"), StatusIs(kInvalid));
  const absl::Status secret =
      ProxyAddress::Parse("http://user:hunter2@p.example").status();
  EXPECT_THAT(std::string(secret.message()), Not(HasSubstr("hunter2")));
}

TEST(ProxyAddressTest, UserAndPasswordArePercentDecoded) {
  const std::pair<const char*, const char*> cases[] = {
      {"u:p%23w", "u:p#w"},       {"u%3A:%25", "u::%"}, {"u:p@w", "u:p@w"},
      {"u:%c3%BC", "u:\xc3\xbc"}, {"u:a+b", "u:a+b"},   {"", ""},
  };
  for (const auto& [text, decoded] : cases) {
    ASSERT_OK_AND_ASSIGN(
        const ProxyAddress proxy,
        ProxyAddress::Parse(Cat("http://", text, "@p.example:3128")));
    EXPECT_EQ(proxy.user_info, decoded);
    EXPECT_EQ(proxy.address, (HostPort{"p.example", 3128}));
  }
  for (const char* bad : {"hunter2%", "hunter2%4", "hunter2%zz", "hunter2%0a",
                          "hunter2%+1", "hunter2%00"}) {
    const absl::Status status =
        ProxyAddress::Parse(Cat("http://u:", bad, "@p.example:3128")).status();
    EXPECT_THAT(status, StatusIs(kInvalid)) << bad;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("hunter2")));
  }
}

// gRPC connects to the server itself when it cannot read the proxy's URL.
TEST(ProxyAddressTest, HostsThatNoUrlHoldsAreRefused) {
  for (const char* bad :
       {"http://p%40x:1", "http://p#x:1", "http://p?x:1", "http://p\\x:1",
        "http://[fe80::1%eth0]:1", "http://p\"x:1", "p\xc3\xbcx:1"}) {
    EXPECT_THAT(ProxyAddress::Parse(bad), StatusIs(kInvalid)) << bad;
  }
  EXPECT_OK(ProxyAddress::Parse("http://[2001:db8::1]:3128"));
}

TEST(ChooseProxyTest, FollowsSettingThenEnvironment) {
  const Environment both =
      Of({{"https_proxy", "http://env:1"}, {"http_proxy", "http://other:1"}});
  EXPECT_EQ(Choice("", "a.example", both), "env:1");
  EXPECT_EQ(Choice("http://set:2", "a.example", both), "set:2");
  EXPECT_EQ(Choice("none", "a.example", both), "");
  EXPECT_EQ(Choice("", "a.example", Of({{"HTTPS_PROXY", "up:1"}})), "up:1");
  EXPECT_EQ(Choice("", "a.example", Of({{"http_proxy", "plain:1"}})),
            "plain:1");
  EXPECT_EQ(Choice("", "a.example", Of({{"https_proxy", ""}})), "");
  EXPECT_EQ(Choice("", "a.example", Of({})), "");
}

TEST(ChooseProxyTest, LoopbackNeedsAnExplicitSetting) {
  const Environment env = Of({{"https_proxy", "http://env:1"}});
  for (const char* host : {"localhost", "127.0.0.1", "127.8.8.8", "::1"}) {
    EXPECT_EQ(Choice("", host, env), "") << host;
    EXPECT_EQ(Choice("set:2", host, env), "set:2") << host;
  }
  EXPECT_EQ(Choice("", "128.0.0.1", env), "env:1");
}

TEST(ChooseProxyTest, ExceptionsAreSuffixes) {
  const auto with = [](const char* list) {
    return Of({{"https_proxy", "http://env:1"}, {"no_proxy", list}});
  };
  EXPECT_EQ(Choice("", "fl.example.org", with(".example.org")), "");
  EXPECT_EQ(Choice("", "fl.example.org", with("x.org, EXAMPLE.org")), "");
  EXPECT_EQ(Choice("", "fl.example.org", with("*")), "");
  EXPECT_EQ(Choice("", "fl.example.org", with("example.com,,")), "env:1");
  EXPECT_EQ(Choice("set:2", "fl.example.org", with("example.org")), "");
  EXPECT_EQ(Choice("", "fl.example.org",
                   Of({{"https_proxy", "env:1"},
                       {"no_grpc_proxy", "example.com"},
                       {"no_proxy", "example.org"}})),
            "env:1");
}

TEST(ChooseProxyTest, ErrorsNameTheirSource) {
  EXPECT_THAT(ChooseProxy("", "a.example", Of({{"https_proxy", "ftp://x:1"}})),
              StatusIs(kInvalid, HasSubstr("https_proxy")));
  EXPECT_THAT(ChooseProxy("ftp://x:1", "a.example", Of({})),
              StatusIs(kInvalid, HasSubstr("proxy setting")));
}

}  // namespace
}  // namespace consilium

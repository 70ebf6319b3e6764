#include "coordinator/rpc/rate_limit.h"

#include <utility>

#include "consilium/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::HasSubstr;

RateLimit::Options Limits(int64_t all, int64_t each) {
  RateLimit::Options options;
  options.what = "knocks";
  options.per_minute = all;
  options.per_minute_key = "limits.all";
  options.per_minute_and_address = each;
  options.per_minute_and_address_key = "limits.each";
  return options;
}

testing::Matcher<absl::Status> Refused(const std::string& text) {
  return StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(text));
}

TEST(RateLimitTest, AMinutesWorthAtOnceThenATrickle) {
  RateLimit limit(Limits(0, 6));
  absl::Duration now = absl::Hours(5);
  for (int i = 0; i < 6; ++i) EXPECT_OK(limit.Admit("a", now));
  EXPECT_THAT(limit.Admit("a", now),
              Refused("too many knocks from a: limits.each is 6; try again in "
                      "10s"));
  now += absl::Seconds(4);
  EXPECT_THAT(limit.Admit("a", now), Refused("try again in 6s"));
  now += absl::Seconds(6);
  EXPECT_OK(limit.Admit("a", now));
  EXPECT_THAT(limit.Admit("a", now), Refused("try again in 10s"));
  now += absl::Hours(1);
  for (int i = 0; i < 6; ++i) EXPECT_OK(limit.Admit("a", now));
  EXPECT_THAT(limit.Admit("a", now), Refused("limits.each is 6"));
}

TEST(RateLimitTest, ThePeriodMayBeLonger) {
  RateLimit::Options options = Limits(0, 6);
  options.period = absl::Hours(1);
  RateLimit limit(std::move(options));
  absl::Duration now = absl::Hours(5);
  for (int i = 0; i < 6; ++i) EXPECT_OK(limit.Admit("a", now));
  EXPECT_THAT(limit.Admit("a", now), Refused("try again in 600s"));
  now += absl::Minutes(9);
  EXPECT_THAT(limit.Admit("a", now), Refused("try again in 60s"));
  now += absl::Minutes(1);
  EXPECT_OK(limit.Admit("a", now));
  EXPECT_FALSE(limit.Admit("a", now).ok());
}

TEST(RateLimitTest, OneAddressDoesNotSpendWhatOthersNeed) {
  RateLimit limit(Limits(5, 3));
  const absl::Duration now = absl::Seconds(1);
  for (int i = 0; i < 3; ++i) EXPECT_OK(limit.Admit("a", now));
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(limit.Admit("a", now).ok());
  EXPECT_OK(limit.Admit("b", now));
  EXPECT_OK(limit.Admit("c", now));
  EXPECT_THAT(limit.Admit("d", now),
              Refused("too many knocks: limits.all is 5; try again in 12s"));
}

TEST(RateLimitTest, ZeroIsNoLimit) {
  RateLimit limit(Limits(0, 0));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_OK(limit.Admit("a", absl::ZeroDuration()));
  }
}

TEST(RateLimitTest, AClockThatStandsStillGivesNothing) {
  RateLimit limit(Limits(0, 1));
  EXPECT_OK(limit.Admit("a", absl::Seconds(10)));
  EXPECT_FALSE(limit.Admit("a", absl::Seconds(10)).ok());
  EXPECT_FALSE(limit.Admit("a", absl::Seconds(1)).ok());
}

TEST(RateLimitTest, RemembersABoundedNumberOfAddresses) {
  RateLimit::Options options = Limits(0, 1);
  options.max_addresses = 8;
  RateLimit limit(options);
  absl::Duration now = absl::Seconds(1);
  int admitted = 0;
  for (int i = 0; i < 1000; ++i) {
    admitted += limit.Admit(Cat("10.0.0.", i), now).ok() ? 1 : 0;
  }
  // The ninth on share one.
  EXPECT_EQ(admitted, 9);
  EXPECT_LE(limit.addresses(), 9u);
  now += absl::Minutes(1);
  EXPECT_OK(limit.Admit("10.0.9.9", now));
  EXPECT_LE(limit.addresses(), 9u);
}

TEST(RateLimitTest, AddressesOfPeers) {
  EXPECT_EQ(AddressOfPeer("ipv4:192.0.2.7:49152"), "192.0.2.7");
  EXPECT_EQ(AddressOfPeer("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:80"),
            "2001:db8:1:2::/64");
  EXPECT_EQ(AddressOfPeer("ipv6:[2001:db8:1:2::9]:81"), "2001:db8:1:2::/64");
  EXPECT_EQ(AddressOfPeer("ipv6:[fe80::1%25eth0]:81"), "fe80::/64");
  EXPECT_EQ(AddressOfPeer("ipv6:[::ffff:192.0.2.7]:81"), "192.0.2.7");
  EXPECT_EQ(AddressOfPeer("unix:/run/socket"), "unix:/run/socket");
  EXPECT_EQ(AddressOfPeer("ipv6:garbage"), "garbage");
  EXPECT_EQ(AddressOfPeer(""), "");
}

}  // namespace
}  // namespace consilium

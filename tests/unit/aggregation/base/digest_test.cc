#include "consilium/base/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <unordered_set>

#include "absl/container/flat_hash_set.h"
#include "consilium/base/bytes.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(DigestTest, HexGoesBothWays) {
  const std::string hex = "00ff" + std::string(56, '1') + "beef";
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest, Sha256Digest::FromHex(hex));
  EXPECT_EQ(digest.Hex(), hex);
  EXPECT_THAT(Sha256Digest::FromBytes(digest.bytes), IsOkAndHolds(digest));
  EXPECT_EQ(Sha256Digest{}.Hex(), std::string(64, '0'));
}

TEST(DigestTest, OtherLengthsAreRefused) {
  EXPECT_THAT(Sha256Digest::FromHex(std::string(63, '0')), StatusIs(kInvalid));
  EXPECT_THAT(Sha256Digest::FromHex(std::string(66, '0')), StatusIs(kInvalid));
  EXPECT_THAT(Sha256Digest::FromHex(std::string(64, 'x')), StatusIs(kInvalid));
  EXPECT_THAT(Sha256Digest::FromBytes(AsBytes("short")), StatusIs(kInvalid));
}

TEST(DigestTest, OrderedByBytesAndHashable) {
  Sha256Digest low;
  Sha256Digest high;
  low.bytes[31] = std::byte{0xff};
  high.bytes[0] = std::byte{0x80};
  EXPECT_LT(low, high);
  EXPECT_NE(low, high);
  EXPECT_EQ((std::unordered_set<Sha256Digest>{low, high, low}).size(), 2u);
  EXPECT_EQ((absl::flat_hash_set<Sha256Digest>{low, high, low}).size(), 2u);
}

}  // namespace
}  // namespace consilium

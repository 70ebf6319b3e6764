#include "consilium/base/split_mix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace consilium {
namespace {

using ::testing::UnorderedElementsAre;

// The first numbers that the authors' reference code gives for seed 1234567.
TEST(SplitMixRandomTest, FollowsTheReference) {
  SplitMixRandom random(1234567);
  EXPECT_EQ(random.Next(), 6457827717110365317u);
  EXPECT_EQ(random.Next(), 3203168211198807973u);
  EXPECT_EQ(random.Next(), 9817491932198370423u);
}

TEST(SplitMixRandomTest, FillIsLittleEndian) {
  SplitMixRandom random(1234567);
  std::array<std::byte, 11> out;
  random.Fill(out);
  uint64_t first = 0;
  for (size_t i = 8; i-- > 0;) {
    first = first << 8 | std::to_integer<uint64_t>(out[i]);
  }
  EXPECT_EQ(first, 6457827717110365317u);
  EXPECT_EQ(std::to_integer<uint64_t>(out[8]), 3203168211198807973u & 0xff);
}

TEST(ShuffleTest, KeepsTheItemsAndFollowsTheSeed) {
  std::vector<int> a = {1, 2, 3, 4, 5}, b = a, c = a;
  SplitMixRandom first(1), again(1), other(2);
  Shuffle(first, std::span(a));
  Shuffle(again, std::span(b));
  Shuffle(other, std::span(c));
  EXPECT_THAT(a, UnorderedElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

}  // namespace
}  // namespace consilium

#include "consilium/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "consilium/base/bytes.h"
#include "tests/support/seeded_random.h"

namespace consilium {
namespace {

// Gives out the words it was told, in order.
class Script final : public RandomSource {
 public:
  explicit Script(std::vector<uint64_t> words) : words_(std::move(words)) {}
  void Fill(std::span<std::byte> out) override {
    ASSERT_EQ(out.size(), 8u);
    ASSERT_LT(next_, words_.size());
    StoreLittleEndian(words_[next_++], out.data());
  }

 private:
  std::vector<uint64_t> words_;
  size_t next_ = 0;
};

TEST(RandomTest, BelowRejectsTheValuesThatWouldBias) {
  // 2^64 mod 10 = 6, so 0..5 are drawn again.
  Script script({0, 5, 6, 13});
  EXPECT_EQ(RandomBelow(script, 10), 6u);
  EXPECT_EQ(RandomBelow(script, 10), 3u);
}

TEST(RandomTest, BelowIsUniform) {
  SeededRandom random(3);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70000; ++i) ++counts[RandomBelow(random, 7)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(RandomBelow(random, 1), 0u);
}

TEST(RandomTest, UnitStaysBelowOne) {
  Script script({0, ~uint64_t{0}, uint64_t{1} << 63});
  EXPECT_EQ(RandomUnit(script), 0.0);
  EXPECT_EQ(RandomUnit(script), 1.0 - 0x1p-53);
  EXPECT_EQ(RandomUnit(script), 0.5);
}

TEST(RandomTest, HexHasTwoDigitsPerByte) {
  SeededRandom random(3);
  SeededRandom same(3);
  const std::string text = RandomHex(random, 11);
  EXPECT_EQ(text.size(), 22u);
  EXPECT_EQ(text, RandomHex(same, 11));
  EXPECT_NE(text, RandomHex(same, 11));
}

}  // namespace
}  // namespace consilium

#include "consilium/aggregation/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/kernels/scalar.h"
#include "hwy/targets.h"

namespace consilium::kernels {
namespace {

constexpr size_t kSizes[] = {0,   1,   3,   7,    15,   16,   17,   64,
                             127, 128, 129, 1001, 8191, 8193, 16500};
constexpr size_t kContributors[] = {0, 1, 2, 3, 8, 11, 12, 13, 16, 23};
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs `test` once per instruction set of this CPU.
void ForEachTarget(const std::function<void()>& test) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(hwy::TargetName(target));
    EXPECT_EQ(ActiveTarget(), hwy::TargetName(target));
    test();
  }
  hwy::SetSupportedTargetsForTest(0);
}

template <typename T>
std::string Bits(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

// Numbers of all magnitudes, subnormal ones too.
std::vector<float> Numbers(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> mantissa(-2, 2);
  std::uniform_int_distribution<int> exponent(-140, 20);
  std::vector<float> out(n);
  for (float& v : out) v = std::ldexp(mantissa(random), exponent(random));
  return out;
}

struct Contributions {
  Contributions(size_t count, size_t n) {
    for (size_t c = 0; c < count; ++c) {
      values.push_back(Numbers(n + 1, static_cast<uint32_t>(100 + c)));
      weights.push_back(std::ldexp(1.0, 40) / static_cast<double>(3 + 2 * c));
    }
    // Odd ones start in the middle of a vector.
    for (size_t c = 0; c < count; ++c) {
      blocks.push_back(values[c].data() + c % 2);
    }
  }
  std::vector<std::vector<float>> values;
  std::vector<const float*> blocks;
  std::vector<double> weights;
};

TEST(FoldKernelsTest, EveryTargetHasTheBitsOfTheScalarTwin) {
  ForEachTarget([] {
    for (const size_t n : kSizes) {
      for (const size_t count : kContributors) {
        const Contributions in(count, n);
        const std::vector<float> base = Numbers(n, 7);

        std::vector<double> acc(n, 0.125), acc_twin = acc;
        WeightedAccumulate(acc, in.blocks, in.weights);
        scalar::WeightedAccumulate(acc_twin, in.blocks, in.weights);
        ASSERT_EQ(Bits(acc), Bits(acc_twin)) << n << " x " << count;

        std::vector<float> out(n), out_twin(n);
        Finish(base, acc, 3e12, out);
        scalar::Finish(base, acc, 3e12, out_twin);
        ASSERT_EQ(Bits(out), Bits(out_twin)) << n << " x " << count;

        std::vector<float> fold = base, fold_twin = base;
        EXPECT_TRUE(FoldBlock(fold, in.blocks, in.weights, 3e12));
        EXPECT_TRUE(scalar::FoldBlock(fold_twin, in.blocks, in.weights, 3e12));
        ASSERT_EQ(Bits(fold), Bits(fold_twin)) << n << " x " << count;
      }
    }
  });
}

TEST(FoldKernelsTest, OnePassHasTheBitsOfOneContributionAtATime) {
  ForEachTarget([] {
    const size_t n = 1001;
    const Contributions in(11, n);
    const std::vector<float> base = Numbers(n, 7);
    std::vector<double> acc(n);
    for (size_t c = 0; c < 11; ++c) {
      WeightedAccumulate(acc, std::span(in.blocks).subspan(c, 1),
                         std::span(in.weights).subspan(c, 1));
    }
    std::vector<float> out(n);
    Finish(base, acc, 1e12, out);
    std::vector<float> fold = base;
    ASSERT_TRUE(FoldBlock(fold, in.blocks, in.weights, 1e12));
    EXPECT_EQ(Bits(fold), Bits(out));
  });
}

TEST(FoldKernelsTest, SaysWhenAResultIsNotFinite) {
  ForEachTarget([] {
    for (const size_t n : {size_t{1}, size_t{64}, size_t{1001}}) {
      for (const float bad : {kInf, -kInf, kNan, 3e38f}) {
        for (const size_t at : {size_t{0}, n / 2, n - 1}) {
          for (const size_t count : {size_t{2}, size_t{12}}) {
            std::vector<float> x(n, 1.0f);
            x[at] = bad;
            const std::vector<const float*> blocks(count, x.data());
            const std::vector<double> weights(count, 1.0);
            std::vector<float> values(n, 3e38f);
            // 3e38 + 3e38 is no float, 3e38 + 1 is.
            EXPECT_FALSE(
                FoldBlock(values, blocks, weights, static_cast<double>(count)));
          }
        }
      }
    }
  });
}

TEST(FoldKernelsTest, AWeightedMeanOfEqualUpdatesIsThatUpdate) {
  std::vector<float> x(100);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) / 8;
  const std::vector<const float*> blocks = {x.data(), x.data(), x.data()};
  const std::vector<double> weights = {1, 2, 5};
  std::vector<float> values(100, 1.0f);
  ASSERT_TRUE(FoldBlock(values, blocks, weights, 8));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(values[i], 1 + x[i]);
}

TEST(ScanStatsTest, EveryTargetHasTheBitsOfTheScalarTwin) {
  ForEachTarget([] {
    for (const size_t n :
         {size_t{0}, size_t{1}, size_t{3}, size_t{15}, size_t{16}, size_t{64},
          size_t{1001}, size_t{4096}, size_t{4097}, size_t{9000}}) {
      std::vector<float> x = Numbers(n + 1, 3);
      x.erase(x.begin());
      for (int round = 0; round < 2; ++round) {
        const Stats stats = ScanStats(x);
        const Stats twin = scalar::ScanStats(x);
        EXPECT_EQ(std::bit_cast<uint64_t>(stats.sum_squares),
                  std::bit_cast<uint64_t>(twin.sum_squares))
            << n;
        EXPECT_EQ(stats.abs_max, twin.abs_max) << n;
        EXPECT_EQ(stats.non_finite, twin.non_finite) << n;
        // Again with a few that do not count.
        for (size_t i = 0; i < n; i += 5) x[i] = i % 2 == 0 ? kNan : -kInf;
      }
    }
  });
}

TEST(ScanStatsTest, CountsSquaresAndFindsTheLargest) {
  const std::vector<float> x = {3, -4, kNan, kInf, 0, -kInf};
  const Stats stats = ScanStats(x);
  EXPECT_EQ(stats.sum_squares, 25);
  EXPECT_EQ(stats.abs_max, 4);
  EXPECT_EQ(stats.non_finite, 3u);
}

TEST(GramTest, EveryTargetHasTheBitsOfTheScalarTwin) {
  ForEachTarget([] {
    for (const size_t count : {size_t{1}, size_t{2}, size_t{3}, size_t{4},
                               size_t{5}, size_t{8}, size_t{11}}) {
      for (const size_t length : {size_t{0}, size_t{1}, size_t{7}, size_t{8},
                                  size_t{511}, size_t{512}, size_t{1500}}) {
        std::vector<std::vector<float>> values;
        std::vector<const float*> rows;
        for (size_t i = 0; i < count; ++i) {
          values.push_back(Numbers(length + 1, static_cast<uint32_t>(i)));
        }
        for (const auto& row : values) rows.push_back(row.data() + 1);
        std::vector<double> out(count * count, 7), twin(count * count, 9);
        Gram(rows, length, out);
        scalar::Gram(rows, length, twin);
        EXPECT_EQ(Bits(out), Bits(twin)) << count << " rows of " << length;
      }
    }
  });
}

TEST(ElementwiseTest, EveryTargetHasTheBitsOfTheScalarTwin) {
  ForEachTarget([] {
    for (const size_t n : kSizes) {
      const std::vector<float> a = Numbers(n, 1), b = Numbers(n, 2);
      std::vector<float> y = a, y_twin = a, d(n), d_twin(n);
      AddScaled(y, b, 1.0 / 3);
      scalar::AddScaled(y_twin, b, 1.0 / 3);
      EXPECT_EQ(Bits(y), Bits(y_twin)) << n;
      Subtract(a, b, d);
      scalar::Subtract(a, b, d_twin);
      EXPECT_EQ(Bits(d), Bits(d_twin)) << n;
    }
  });
}

TEST(Crc32cTest, KnownValues) {
  ForEachTarget([] {
    const std::string_view text = "123456789";
    EXPECT_EQ(Crc32c(std::as_bytes(std::span(text))), 0xE3069283u);
    // RFC 3720, B.4.
    const std::vector<std::byte> zeros(32), ones(32, std::byte{0xFF});
    EXPECT_EQ(Crc32c(zeros), 0x8A9136AAu);
    EXPECT_EQ(Crc32c(ones), 0x62A8AB43u);
    EXPECT_EQ(Crc32c({}), 0u);
  });
}

TEST(Crc32cTest, EveryTargetAndEveryCutAgree) {
  const std::vector<float> numbers = Numbers(20000, 5);
  const auto all = std::as_bytes(std::span(numbers));
  ForEachTarget([&] {
    // Around the block of three streams of 2048 bytes.
    for (const size_t n :
         {0u, 1u, 7u, 8u, 9u, 2048u, 6143u, 6144u, 6145u, 12288u, 70001u}) {
      const auto bytes = all.subspan(1, n);
      const uint32_t crc = scalar::Crc32c(bytes);
      EXPECT_EQ(Crc32c(bytes), crc) << n;
      EXPECT_EQ(Crc32c(bytes.subspan(n / 3), Crc32c(bytes.first(n / 3))), crc);
    }
  });
}

}  // namespace
}  // namespace consilium::kernels

#include "consilium/aggregation/widen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename T>
float Widened(DType dtype, T bits) {
  float out = -1;
  EXPECT_OK(WidenToFloat(dtype, std::as_bytes(std::span(&bits, 1)),
                         std::span(&out, 1)));
  return out;
}

// Values of the formats' definitions, and of NumPy and ml_dtypes.
TEST(WidenTest, HalfPrecision) {
  const auto half = [](int bits) {
    return Widened(DType::kF16, static_cast<uint16_t>(bits));
  };
  EXPECT_EQ(half(0x3C00), 1);
  EXPECT_EQ(half(0xC000), -2);
  EXPECT_EQ(half(0x7BFF), 65504);
  EXPECT_EQ(half(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(half(0x0400), std::ldexp(1.0f, -14));
  EXPECT_EQ(half(0x7C00), kInf);
  EXPECT_EQ(half(0xFC00), -kInf);
  EXPECT_TRUE(std::isnan(half(0x7E00)));
  EXPECT_TRUE(std::signbit(half(0x8000)));
}

TEST(WidenTest, BrainFloat) {
  EXPECT_EQ(Widened(DType::kBF16, uint16_t{0x3F80}), 1);
  EXPECT_EQ(Widened(DType::kBF16, uint16_t{0xC049}), -3.140625f);
}

TEST(WidenTest, EightBits) {
  const auto e5m2 = [](int bits) {
    return Widened(DType::kF8E5M2, static_cast<uint8_t>(bits));
  };
  const auto e4m3 = [](int bits) {
    return Widened(DType::kF8E4M3, static_cast<uint8_t>(bits));
  };
  EXPECT_EQ(e5m2(0x3C), 1);
  EXPECT_EQ(e5m2(0x7B), 57344);
  EXPECT_EQ(e5m2(0x01), std::ldexp(1.0f, -16));
  EXPECT_EQ(e5m2(0x7C), kInf);
  EXPECT_TRUE(std::isnan(e5m2(0x7D)));
  EXPECT_EQ(e4m3(0x38), 1);
  EXPECT_EQ(e4m3(0x7E), 448);
  EXPECT_EQ(e4m3(0xFE), -448);
  EXPECT_EQ(e4m3(0x01), std::ldexp(1.0f, -9));
  EXPECT_TRUE(std::isnan(e4m3(0x7F)));
  EXPECT_TRUE(std::isnan(e4m3(0xFF)));
  EXPECT_EQ(Widened(DType::kI8, int8_t{-128}), -128);
  EXPECT_EQ(Widened(DType::kU8, uint8_t{255}), 255);
}

TEST(WidenTest, DoublesAreRounded) {
  EXPECT_EQ(Widened(DType::kF64, 1.0 + std::ldexp(1.0, -25)), 1.0f);
  EXPECT_EQ(Widened(DType::kF64, 1e300), kInf);
}

TEST(WidenTest, OthersAreRefused) {
  std::vector<float> out(1);
  const std::vector<std::byte> bytes(8);
  EXPECT_THAT(WidenToFloat(DType::kI64, bytes, out),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(WidenToFloat(DType::kF32, bytes, out),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

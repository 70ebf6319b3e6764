#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "consilium/aggregation/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "aggregation/kernels/scan_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which sets the target that this header reads.
#include "hwy/highway.h"

#include "aggregation/kernels/narrow-inl.h"

// Once, though this file is compiled for each target.
#ifndef CONSILIUM_AGGREGATION_KERNELS_SCAN_KERNELS_RAW_STATS_
#define CONSILIUM_AGGREGATION_KERNELS_SCAN_KERNELS_RAW_STATS_
namespace consilium::kernels {
struct RawStats {
  double sums[kStatsLanes] = {};
  int32_t abs_max_bits = 0;
  uint64_t non_finite = 0;
};
}  // namespace consilium::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace consilium::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most as many lanes as there are sums, so that vectors tile them exactly.
using D = hn::CappedTag<double, kStatsLanes / 2>;
using F = hn::Rebind<float, D>;
using I = hn::RebindToSigned<F>;
using VD = hn::Vec<D>;

constexpr int32_t kMagnitude = 0x7FFFFFFF;
constexpr int32_t kLargestFinite = 0x7F7FFFFF;

// Elements scanned at a time; they are still in L1 when narrow vectors come
// back for the next of the kStatsLanes sums.
constexpr size_t kTile = 4096;
static_assert(kTile % kStatsLanes == 0);

// The magnitudes of a vector as integers, 0 where not finite; counts those.
HWY_INLINE hn::Vec<I> FiniteBits(const float* p, hn::Vec<I>& not_finite) {
  const I i;
  const auto bits =
      hn::And(hn::BitCast(i, hn::LoadU(F(), p)), hn::Set(i, kMagnitude));
  const auto bad = hn::Gt(bits, hn::Set(i, kLargestFinite));
  not_finite = hn::Sub(not_finite, hn::VecFromMask(i, bad));
  return hn::IfThenZeroElse(bad, bits);
}

HWY_INLINE VD Square(hn::Vec<I> bits) {
  const VD wide = hn::PromoteTo(D(), hn::BitCast(F(), bits));
  return hn::Mul(wide, wide);
}

// `n` is a multiple of kStatsLanes and at most kTile.
HWY_INLINE void ScanTile(const float* HWY_RESTRICT x, size_t n, RawStats* raw) {
  const D d;
  const I i32;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(i32);
  auto not_finite = hn::Zero(i32);
  for (size_t sum = 0; sum < kStatsLanes; sum += 2 * lanes) {
    VD s0 = hn::LoadU(d, raw->sums + sum);
    VD s1 = hn::LoadU(d, raw->sums + sum + lanes);
    for (size_t i = sum; i < n; i += kStatsLanes) {
      const auto b0 = FiniteBits(x + i, not_finite);
      const auto b1 = FiniteBits(x + i + lanes, not_finite);
      s0 = hn::Add(s0, Square(b0));
      s1 = hn::Add(s1, Square(b1));
      largest = hn::Max(largest, hn::Max(b0, b1));
    }
    hn::StoreU(s0, d, raw->sums + sum);
    hn::StoreU(s1, d, raw->sums + sum + lanes);
  }
  raw->abs_max_bits =
      std::max(raw->abs_max_bits, hn::GetLane(hn::MaxOfLanes(i32, largest)));
  raw->non_finite +=
      static_cast<uint64_t>(hn::GetLane(hn::SumOfLanes(i32, not_finite)));
}

void ScanStats(const float* x, size_t n, RawStats* raw) {
  const size_t whole = n - n % kStatsLanes;
  for (size_t at = 0; at < whole; at += kTile) {
    ScanTile(x + at, std::min(kTile, whole - at), raw);
  }
  for (size_t i = whole; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    bits &= kMagnitude;
    if (bits > kLargestFinite) {
      ++raw->non_finite;
      continue;
    }
    const double v = x[i];
    raw->sums[i % kStatsLanes] += v * v;
    raw->abs_max_bits = std::max(raw->abs_max_bits, bits);
  }
}

void AddScaled(float* HWY_RESTRICT y, const float* HWY_RESTRICT x, size_t n,
               double scale) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> f;
  const auto s = hn::Set(d, scale);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto add = hn::Mul(s, hn::PromoteTo(d, hn::LoadU(f, x + i)));
    const auto sum = hn::Add(hn::PromoteTo(d, hn::LoadU(f, y + i)), add);
    hn::StoreU(Narrow(f, sum), f, y + i);
  }
  for (; i < n; ++i) {
    y[i] = static_cast<float>(static_cast<double>(y[i]) +
                              scale * static_cast<double>(x[i]));
  }
}

void Subtract(const float* a, const float* b, float* out, size_t n) {
  const hn::ScalableTag<float> f;
  size_t i = 0;
  for (; i + hn::Lanes(f) <= n; i += hn::Lanes(f)) {
    hn::StoreU(hn::Sub(hn::LoadU(f, a + i), hn::LoadU(f, b + i)), f, out + i);
  }
  for (; i < n; ++i) out[i] = a[i] - b[i];
}

}  // namespace consilium::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consilium::kernels {
namespace {

HWY_EXPORT(ScanStats);
HWY_EXPORT(AddScaled);
HWY_EXPORT(Subtract);

}  // namespace

Stats ScanStats(std::span<const float> x) {
  RawStats raw;
  HWY_DYNAMIC_DISPATCH(ScanStats)(x.data(), x.size(), &raw);
  for (size_t half = kStatsLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) raw.sums[j] += raw.sums[j + half];
  }
  Stats stats;
  stats.sum_squares = raw.sums[0];
  std::memcpy(&stats.abs_max, &raw.abs_max_bits, sizeof(stats.abs_max));
  stats.non_finite = raw.non_finite;
  return stats;
}

void AddScaled(std::span<float> y, std::span<const float> x, double scale) {
  HWY_DYNAMIC_DISPATCH(AddScaled)(y.data(), x.data(), y.size(), scale);
}

void Subtract(std::span<const float> a, std::span<const float> b,
              std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(Subtract)(a.data(), b.data(), out.data(), out.size());
}

}  // namespace consilium::kernels
#endif

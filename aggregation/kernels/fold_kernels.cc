#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "consilium/aggregation/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "aggregation/kernels/fold_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which sets the target that this header reads.
#include "hwy/highway.h"

#include "aggregation/kernels/narrow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace consilium::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<double>;
using F = hn::Rebind<float, D>;
using I = hn::RebindToSigned<F>;
using VD = hn::Vec<D>;

// Contributors per pass: as many streams as the prefetchers follow. With more
// of them, sums of kTile elements go through L1 between passes.
constexpr size_t kGroup = 8;
constexpr size_t kTile = 1024;
// Vectors summed at once. Fewer leave the adds, which wait for one another,
// and the memory idle; more run out of registers.
constexpr size_t kUnroll = 8;

constexpr int32_t kMagnitude = 0x7FFFFFFF;
constexpr int32_t kLargestFinite = 0x7F7FFFFF;

HWY_INLINE VD Widen(const float* p) {
  return hn::PromoteTo(D(), hn::LoadU(F(), p));
}

HWY_INLINE int32_t MagnitudeBits(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & kMagnitude;
}

// Largest magnitude seen among results; NaN and infinity lie above all finite
// numbers when compared as integers.
struct Magnitude {
  // Written out: a default would be compiled for the baseline CPU.
  HWY_INLINE Magnitude() : vector(hn::Zero(I())), scalar(0) {}

  HWY_INLINE bool Finite() const {
    const auto over = hn::Gt(vector, hn::Set(I(), kLargestFinite));
    return scalar <= kLargestFinite && hn::AllFalse(I(), over);
  }

  hn::Vec<I> vector;
  int32_t scalar;
};

HWY_INLINE void FinishVector(VD sum, VD denominator, const float* base,
                             float* out, Magnitude* magnitude) {
  const auto result =
      Narrow(F(), hn::Add(Widen(base), hn::Div(sum, denominator)));
  const auto bits = hn::BitCast(I(), result);
  magnitude->vector = hn::Max(magnitude->vector,
                              hn::And(bits, hn::Set(I(), kMagnitude)));
  hn::StoreU(result, F(), out);
}

HWY_INLINE void FinishOne(double sum, double denominator, const float* base,
                          float* out, Magnitude* magnitude) {
  *out = static_cast<float>(static_cast<double>(*base) + sum / denominator);
  magnitude->scalar = std::max(magnitude->scalar, MagnitudeBits(*out));
}

// Adds kUnroll vectors of each contributor at `offset` to the sums.
HWY_INLINE void AddContributors(const float* const* x, const double* w,
                                size_t contributors, size_t offset, VD& a0,
                                VD& a1, VD& a2, VD& a3, VD& a4, VD& a5, VD& a6,
                                VD& a7) {
  const D d;
  const size_t n = hn::Lanes(d);
  for (size_t c = 0; c < contributors; ++c) {
    const float* HWY_RESTRICT p = x[c] + offset;
    const VD weight = hn::Set(d, w[c]);
    a0 = hn::Add(a0, hn::Mul(weight, Widen(p)));
    a1 = hn::Add(a1, hn::Mul(weight, Widen(p + n)));
    a2 = hn::Add(a2, hn::Mul(weight, Widen(p + 2 * n)));
    a3 = hn::Add(a3, hn::Mul(weight, Widen(p + 3 * n)));
    a4 = hn::Add(a4, hn::Mul(weight, Widen(p + 4 * n)));
    a5 = hn::Add(a5, hn::Mul(weight, Widen(p + 5 * n)));
    a6 = hn::Add(a6, hn::Mul(weight, Widen(p + 6 * n)));
    a7 = hn::Add(a7, hn::Mul(weight, Widen(p + 7 * n)));
  }
}

HWY_INLINE double AddContributorsOne(double sum, const float* const* x,
                                     const double* w, size_t contributors,
                                     size_t offset) {
  for (size_t c = 0; c < contributors; ++c) {
    sum += w[c] * static_cast<double>(x[c][offset]);
  }
  return sum;
}

// acc[i] += sum of w[c] * x[c][offset + i] over i < n.
HWY_INLINE void AccumulateTile(double* HWY_RESTRICT acc, const float* const* x,
                               const double* w, size_t contributors,
                               size_t offset, size_t n) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + kUnroll * lanes <= n; i += kUnroll * lanes) {
    double* const s = acc + i;
    VD a0 = hn::LoadU(d, s);
    VD a1 = hn::LoadU(d, s + lanes);
    VD a2 = hn::LoadU(d, s + 2 * lanes);
    VD a3 = hn::LoadU(d, s + 3 * lanes);
    VD a4 = hn::LoadU(d, s + 4 * lanes);
    VD a5 = hn::LoadU(d, s + 5 * lanes);
    VD a6 = hn::LoadU(d, s + 6 * lanes);
    VD a7 = hn::LoadU(d, s + 7 * lanes);
    AddContributors(x, w, contributors, offset + i, a0, a1, a2, a3, a4, a5, a6,
                    a7);
    hn::StoreU(a0, d, s);
    hn::StoreU(a1, d, s + lanes);
    hn::StoreU(a2, d, s + 2 * lanes);
    hn::StoreU(a3, d, s + 3 * lanes);
    hn::StoreU(a4, d, s + 4 * lanes);
    hn::StoreU(a5, d, s + 5 * lanes);
    hn::StoreU(a6, d, s + 6 * lanes);
    hn::StoreU(a7, d, s + 7 * lanes);
  }
  for (; i < n; ++i) {
    acc[i] = AddContributorsOne(acc[i], x, w, contributors, offset + i);
  }
}

void WeightedAccumulate(double* HWY_RESTRICT acc, size_t n,
                        const float* const* x, const double* w,
                        size_t contributors) {
  for (size_t at = 0; at < n; at += kTile) {
    const size_t tile = std::min(kTile, n - at);
    for (size_t c = 0; c < contributors; c += kGroup) {
      AccumulateTile(acc + at, x + c, w + c,
                     std::min(kGroup, contributors - c), at, tile);
    }
  }
}

HWY_INLINE void FinishRun(const float* base, const double* acc, size_t n,
                          double denominator, float* out,
                          Magnitude* magnitude) {
  const D d;
  const VD divisor = hn::Set(d, denominator);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    FinishVector(hn::LoadU(d, acc + i), divisor, base + i, out + i, magnitude);
  }
  for (; i < n; ++i) {
    FinishOne(acc[i], denominator, base + i, out + i, magnitude);
  }
}

void Finish(const float* base, const double* acc, size_t n, double denominator,
            float* out) {
  Magnitude magnitude;
  FinishRun(base, acc, n, denominator, out, &magnitude);
}

// For at most kGroup contributors: sums never leave the registers.
HWY_INLINE void FoldDirect(float* values, size_t n, const float* const* x,
                           const double* w, size_t contributors,
                           double denominator, Magnitude* magnitude) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const VD divisor = hn::Set(d, denominator);
  size_t i = 0;
  for (; i + kUnroll * lanes <= n; i += kUnroll * lanes) {
    VD a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
    VD a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    AddContributors(x, w, contributors, i, a0, a1, a2, a3, a4, a5, a6, a7);
    const auto finish = [&](VD sum, float* v) HWY_ATTR {
      FinishVector(sum, divisor, v, v, magnitude);
    };
    float* const v = values + i;
    finish(a0, v);
    finish(a1, v + lanes);
    finish(a2, v + 2 * lanes);
    finish(a3, v + 3 * lanes);
    finish(a4, v + 4 * lanes);
    finish(a5, v + 5 * lanes);
    finish(a6, v + 6 * lanes);
    finish(a7, v + 7 * lanes);
  }
  for (; i < n; ++i) {
    const double sum = AddContributorsOne(0.0, x, w, contributors, i);
    FinishOne(sum, denominator, values + i, values + i, magnitude);
  }
}

bool FoldBlock(float* values, size_t n, const float* const* x, const double* w,
               size_t contributors, double denominator) {
  Magnitude magnitude;
  if (contributors <= kGroup) {
    FoldDirect(values, n, x, w, contributors, denominator, &magnitude);
    return magnitude.Finite();
  }
  alignas(64) double acc[kTile];
  for (size_t at = 0; at < n; at += kTile) {
    const size_t tile = std::min(kTile, n - at);
    std::fill_n(acc, tile, 0.0);
    for (size_t c = 0; c < contributors; c += kGroup) {
      AccumulateTile(acc, x + c, w + c, std::min(kGroup, contributors - c), at,
                     tile);
    }
    FinishRun(values + at, acc, tile, denominator, values + at, &magnitude);
  }
  return magnitude.Finite();
}

const char* TargetOfThisCode() { return hwy::TargetName(HWY_TARGET); }

}  // namespace consilium::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consilium::kernels {

HWY_EXPORT(WeightedAccumulate);
HWY_EXPORT(Finish);
HWY_EXPORT(FoldBlock);
HWY_EXPORT(TargetOfThisCode);

void WeightedAccumulate(std::span<double> acc,
                        std::span<const float* const> xs,
                        std::span<const double> ws) {
  HWY_DYNAMIC_DISPATCH(WeightedAccumulate)
  (acc.data(), acc.size(), xs.data(), ws.data(), xs.size());
}

void Finish(std::span<const float> base, std::span<const double> acc,
            double denominator, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(Finish)
  (base.data(), acc.data(), out.size(), denominator, out.data());
}

bool FoldBlock(std::span<float> values, std::span<const float* const> xs,
               std::span<const double> ws, double denominator) {
  return HWY_DYNAMIC_DISPATCH(FoldBlock)(values.data(), values.size(),
                                         xs.data(), ws.data(), xs.size(),
                                         denominator);
}

std::string_view ActiveTarget() {
  return HWY_DYNAMIC_DISPATCH(TargetOfThisCode)();
}

}  // namespace consilium::kernels
#endif

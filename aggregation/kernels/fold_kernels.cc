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

// The order in which memory is walked decides the speed. Prefetchers follow
// streams by the instruction that reads them, so one loop takes kRun elements
// of one contribution, then of the next, with the sums in L1. Keeping sums in
// registers instead and reading every contribution a few vectors at a time is
// half as fast.
constexpr size_t kRun = 128;
// Beyond kDirect streams they lose track; then kGroup contributions at a time
// are walked for a tile, whose sums stay in L2.
constexpr size_t kDirect = 12;
constexpr size_t kGroup = 8;
constexpr size_t kTile = 8192;
static_assert(kTile % kRun == 0);

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
  magnitude->vector =
      hn::Max(magnitude->vector, hn::And(bits, hn::Set(I(), kMagnitude)));
  hn::StoreU(result, F(), out);
}

HWY_INLINE void FinishOne(double sum, double denominator, const float* base,
                          float* out, Magnitude* magnitude) {
  *out = static_cast<float>(static_cast<double>(*base) + sum / denominator);
  magnitude->scalar = std::max(magnitude->scalar, MagnitudeBits(*out));
}

// acc[i] = (from_zero ? 0 : acc[i]) + w * x[i].
template <bool from_zero>
HWY_INLINE void AddRun(double* HWY_RESTRICT acc, const float* HWY_RESTRICT x,
                       double w, size_t n) {
  const D d;
  const VD weight = hn::Set(d, w);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const VD before = from_zero ? hn::Zero(d) : hn::LoadU(d, acc + i);
    hn::StoreU(hn::Add(before, hn::Mul(weight, Widen(x + i))), d, acc + i);
  }
  for (; i < n; ++i) {
    acc[i] = (from_zero ? 0.0 : acc[i]) + w * static_cast<double>(x[i]);
  }
}

// acc[i] += sum of w[c] * x[c][offset + i] over i < n, for a tile.
HWY_INLINE void AccumulateTile(double* HWY_RESTRICT acc, const float* const* x,
                               const double* w, size_t contributors,
                               size_t offset, size_t n) {
  for (size_t group = 0; group < contributors; group += kGroup) {
    const size_t end = std::min(group + kGroup, contributors);
    for (size_t at = 0; at < n; at += kRun) {
      const size_t run = std::min(kRun, n - at);
      for (size_t c = group; c < end; ++c) {
        AddRun<false>(acc + at, x[c] + offset + at, w[c], run);
      }
    }
  }
}

void WeightedAccumulate(double* HWY_RESTRICT acc, size_t n,
                        const float* const* x, const double* w,
                        size_t contributors) {
  for (size_t at = 0; at < n; at += kTile) {
    AccumulateTile(acc + at, x, w, contributors, at, std::min(kTile, n - at));
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

// For 1 to kDirect contributors.
HWY_INLINE void FoldDirect(float* values, size_t n, const float* const* x,
                           const double* w, size_t contributors,
                           double denominator, Magnitude* magnitude) {
  alignas(64) double acc[kRun];
  for (size_t at = 0; at < n; at += kRun) {
    const size_t run = std::min(kRun, n - at);
    AddRun<true>(acc, x[0] + at, w[0], run);
    for (size_t c = 1; c < contributors; ++c) {
      AddRun<false>(acc, x[c] + at, w[c], run);
    }
    FinishRun(values + at, acc, run, denominator, values + at, magnitude);
  }
}

bool FoldBlock(float* values, size_t n, const float* const* x, const double* w,
               size_t contributors, double denominator) {
  Magnitude magnitude;
  if (contributors >= 1 && contributors <= kDirect) {
    FoldDirect(values, n, x, w, contributors, denominator, &magnitude);
    return magnitude.Finite();
  }
  alignas(64) double acc[kTile];
  for (size_t at = 0; at < n; at += kTile) {
    const size_t tile = std::min(kTile, n - at);
    std::fill_n(acc, tile, 0.0);
    AccumulateTile(acc, x, w, contributors, at, tile);
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

void WeightedAccumulate(std::span<double> acc, std::span<const float* const> xs,
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

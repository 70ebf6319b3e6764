#include <algorithm>
#include <cstddef>
#include <span>

#include "consilium/aggregation/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "aggregation/kernels/gram_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which sets the target that this header reads.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace consilium::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<double, kGramLanes>;
using F = hn::Rebind<float, D>;
using VD = hn::Vec<D>;

// Rows on each side of a block: as many sums as fit the registers.
constexpr size_t kSide = hn::MaxLanes(D()) >= 8 ? 4 : 2;

// sums[i][j][lane] of `rows_i` x `rows_j` rows over one chunk. A product of two
// floats is exact in double, so that fused or not gives the same bits.
template <size_t rows_i, size_t rows_j>
HWY_INLINE void ChunkSums(const float* const* a, const float* const* b,
                          size_t first, size_t n,
                          double sums[kSide][kSide][kGramLanes]) {
  const D d;
  const F f;
  const size_t lanes = hn::Lanes(d);
  const size_t whole = n - n % kGramLanes;
  // Narrow vectors come back for the lanes that are left; all is in L1.
  for (size_t part = 0; part < kGramLanes; part += lanes) {
    VD acc[rows_i][rows_j];
    for (size_t i = 0; i < rows_i; ++i) {
      for (size_t j = 0; j < rows_j; ++j) acc[i][j] = hn::Zero(d);
    }
    for (size_t t = part; t < whole; t += kGramLanes) {
      VD x[rows_i];
      for (size_t i = 0; i < rows_i; ++i) {
        x[i] = hn::PromoteTo(d, hn::LoadU(f, a[i] + first + t));
      }
      for (size_t j = 0; j < rows_j; ++j) {
        const VD y = hn::PromoteTo(d, hn::LoadU(f, b[j] + first + t));
        for (size_t i = 0; i < rows_i; ++i) {
          acc[i][j] = hn::MulAdd(x[i], y, acc[i][j]);
        }
      }
    }
    for (size_t i = 0; i < rows_i; ++i) {
      for (size_t j = 0; j < rows_j; ++j) {
        hn::StoreU(acc[i][j], d, sums[i][j] + part);
      }
    }
  }
  for (size_t t = whole; t < n; ++t) {
    for (size_t i = 0; i < rows_i; ++i) {
      for (size_t j = 0; j < rows_j; ++j) {
        sums[i][j][t % kGramLanes] += static_cast<double>(a[i][first + t]) *
                                      static_cast<double>(b[j][first + t]);
      }
    }
  }
}

HWY_INLINE double Pairwise(double* sums) {
  for (size_t half = kGramLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <size_t rows_i, size_t rows_j>
HWY_INLINE void AddBlock(const float* const* rows, size_t count, size_t i0,
                         size_t j0, size_t first, size_t n, double* out) {
  double sums[kSide][kSide][kGramLanes];
  ChunkSums<rows_i, rows_j>(rows + i0, rows + j0, first, n, sums);
  for (size_t i = 0; i < rows_i; ++i) {
    for (size_t j = 0; j < rows_j; ++j) {
      // The block on the diagonal has both halves.
      if (j0 + j <= i0 + i) {
        out[(i0 + i) * count + j0 + j] += Pairwise(sums[i][j]);
      }
    }
  }
}

// The lower triangle.
void GramLower(const float* const* rows, size_t count, size_t length,
               double* out) {
  for (size_t first = 0; first < length; first += kGramChunk) {
    const size_t n = std::min(kGramChunk, length - first);
    for (size_t i = 0; i < count; i += kSide) {
      const bool whole_i = i + kSide <= count;
      size_t j = 0;
      for (; whole_i && j <= i; j += kSide) {
        AddBlock<kSide, kSide>(rows, count, i, j, first, n, out);
      }
      if (whole_i) continue;
      for (size_t row = i; row < count; ++row) {
        for (j = 0; j <= row; ++j) {
          AddBlock<1, 1>(rows, count, row, j, first, n, out);
        }
      }
    }
  }
}

}  // namespace consilium::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consilium::kernels {
namespace {

HWY_EXPORT(GramLower);

}  // namespace

void Gram(std::span<const float* const> rows, size_t length,
          std::span<double> out) {
  const size_t count = rows.size();
  std::fill(out.begin(), out.end(), 0.0);
  HWY_DYNAMIC_DISPATCH(GramLower)(rows.data(), count, length, out.data());
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < i; ++j) out[j * count + i] = out[i * count + j];
  }
}

}  // namespace consilium::kernels
#endif

#ifndef CONSILIUM_AGGREGATION_KERNELS_H_
#define CONSILIUM_AGGREGATION_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// Arithmetic on blocks of memory. Chosen at run time for the CPU; every
// choice, and the scalar twin in aggregation/kernels/scalar.h, gives the same
// bits. No function allocates or keeps state, so all are thread-safe. Spans
// may have any length and any alignment that their type allows.
namespace consilium::kernels {

// acc[i] += ws[0] * xs[0][i], then += ws[1] * xs[1][i], ... : products and
// sums rounded one by one, in this order. Each xs[c] holds acc.size() floats.
void WeightedAccumulate(std::span<double> acc, std::span<const float* const> xs,
                        std::span<const double> ws);

// out[i] = float(double(base[i]) + acc[i] / denominator). `out` may be `base`.
void Finish(std::span<const float> base, std::span<const double> acc,
            double denominator, std::span<float> out);

// WeightedAccumulate from zero and Finish in one pass and in place:
//   values[i] = float(double(values[i]) + sum_c(ws[c] * xs[c][i]) /
//   denominator)
// with the same bits as the two calls. Returns whether all results are finite.
bool FoldBlock(std::span<float> values, std::span<const float* const> xs,
               std::span<const double> ws, double denominator);

struct Stats {
  double sum_squares = 0;   // over finite elements; see kStatsLanes
  float abs_max = 0;        // over finite elements
  uint64_t non_finite = 0;  // NaN and infinities
};

// The sum of squares is kept in this many double accumulators, element i in
// accumulator i mod kStatsLanes, which are then added pairwise (j and j + 8,
// j and j + 4, ...). The order is part of the function: same bits everywhere.
inline constexpr size_t kStatsLanes = 16;
Stats ScanStats(std::span<const float> x);

// out[i * rows.size() + j] = sum over t < length of rows[i][t] * rows[j][t], in
// double: the Gram matrix of the rows. Elements go by chunks of kGramChunk, in
// them element t to accumulator t mod kGramLanes; those are added pairwise (as
// above), and the chunks one by one. The order is part of the function.
// Each row holds `length` floats, `out` rows.size()^2 doubles.
inline constexpr size_t kGramLanes = 8;
inline constexpr size_t kGramChunk = 512;
void Gram(std::span<const float* const> rows, size_t length,
          std::span<double> out);

// y[i] = float(double(y[i]) + scale * double(x[i])).
void AddScaled(std::span<float> y, std::span<const float> x, double scale);

// out[i] = a[i] - b[i], in float. `out` may be `a` or `b`.
void Subtract(std::span<const float> a, std::span<const float> b,
              std::span<float> out);

// CRC-32C (Castagnoli) as in RFC 3720: Crc32c("123456789") == 0xE3069283.
// Pass the last result as `crc` to go on.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);

// The instruction set in use, for logs and benchmarks: "AVX3", "SSE4", ...
std::string_view ActiveTarget();

}  // namespace consilium::kernels

#endif  // CONSILIUM_AGGREGATION_KERNELS_H_

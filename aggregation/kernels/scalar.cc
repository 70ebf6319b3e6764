#include "aggregation/kernels/scalar.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace consilium::kernels::scalar {

void WeightedAccumulate(std::span<double> acc, std::span<const float* const> xs,
                        std::span<const double> ws) {
  for (size_t c = 0; c < xs.size(); ++c) {
    for (size_t i = 0; i < acc.size(); ++i) {
      acc[i] += ws[c] * static_cast<double>(xs[c][i]);
    }
  }
}

void Finish(std::span<const float> base, std::span<const double> acc,
            double denominator, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] =
        static_cast<float>(static_cast<double>(base[i]) + acc[i] / denominator);
  }
}

bool FoldBlock(std::span<float> values, std::span<const float* const> xs,
               std::span<const double> ws, double denominator) {
  bool finite = true;
  for (size_t i = 0; i < values.size(); ++i) {
    double acc = 0;
    for (size_t c = 0; c < xs.size(); ++c) {
      acc += ws[c] * static_cast<double>(xs[c][i]);
    }
    values[i] =
        static_cast<float>(static_cast<double>(values[i]) + acc / denominator);
    finite = finite && std::isfinite(values[i]);
  }
  return finite;
}

Stats ScanStats(std::span<const float> x) {
  Stats stats;
  std::array<double, kStatsLanes> lanes{};
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) {
      ++stats.non_finite;
      continue;
    }
    const double v = x[i];
    lanes[i % kStatsLanes] += v * v;
    stats.abs_max = std::fmax(stats.abs_max, std::fabs(x[i]));
  }
  for (size_t half = kStatsLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  stats.sum_squares = lanes[0];
  return stats;
}

void Gram(std::span<const float* const> rows, size_t length,
          std::span<double> out) {
  const size_t count = rows.size();
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < count; ++j) {
      double sum = 0;
      for (size_t first = 0; first < length; first += kGramChunk) {
        double lanes[kGramLanes] = {};
        const size_t n = std::min(kGramChunk, length - first);
        for (size_t t = 0; t < n; ++t) {
          lanes[t % kGramLanes] += static_cast<double>(rows[i][first + t]) *
                                   static_cast<double>(rows[j][first + t]);
        }
        for (size_t half = kGramLanes / 2; half > 0; half /= 2) {
          for (size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
        }
        sum += lanes[0];
      }
      out[i * count + j] = sum;
    }
  }
}

void AddScaled(std::span<float> y, std::span<const float> x, double scale) {
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = static_cast<float>(static_cast<double>(y[i]) +
                              scale * static_cast<double>(x[i]));
  }
}

void Subtract(std::span<const float> a, std::span<const float> b,
              std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = a[i] - b[i];
}

namespace {

// Bit-reflected CRC of one byte, polynomial 0x1EDC6F41 reversed.
constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    }
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc) {
  crc = ~crc;
  for (const std::byte b : bytes) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint32_t>(b)) & 0xFF];
  }
  return ~crc;
}

}  // namespace consilium::kernels::scalar

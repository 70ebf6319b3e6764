#ifndef CONSILIUM_AGGREGATION_KERNELS_SCALAR_H_
#define CONSILIUM_AGGREGATION_KERNELS_SCALAR_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "consilium/aggregation/kernels.h"

// The scalar twins: the plainest code that computes what kernels.h says. Tests
// compare every target, and the CUDA kernels, with these. Needs nothing but
// the standard library.
namespace consilium::kernels::scalar {

void WeightedAccumulate(std::span<double> acc, std::span<const float* const> xs,
                        std::span<const double> ws);
void Finish(std::span<const float> base, std::span<const double> acc,
            double denominator, std::span<float> out);
bool FoldBlock(std::span<float> values, std::span<const float* const> xs,
               std::span<const double> ws, double denominator);
Stats ScanStats(std::span<const float> x);
void Gram(std::span<const float* const> rows, size_t length,
          std::span<double> out);
void AddScaled(std::span<float> y, std::span<const float> x, double scale);
void Subtract(std::span<const float> a, std::span<const float> b,
              std::span<float> out);
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace consilium::kernels::scalar

#endif  // CONSILIUM_AGGREGATION_KERNELS_SCALAR_H_

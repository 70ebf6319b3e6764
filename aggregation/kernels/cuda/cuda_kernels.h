// The fold on a GPU: the same sums in the same order as the CPU kernels, so the
// same bits. Plain C++; no type of CUDA appears here.
#ifndef CONSILIUM_AGGREGATION_KERNELS_CUDA_CUDA_KERNELS_H_
#define CONSILIUM_AGGREGATION_KERNELS_CUDA_CUDA_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace consilium::cuda {

// Empty on success, else CUDA's description of what failed.
struct Error {
  const char* text = nullptr;
  bool ok() const { return text == nullptr; }
};

// GPUs that this process can use; 0 without a driver.
int DeviceCount();

// out[i] = float(double(base[i]) + (sum_c weights[c] * xs[c][i]) / total), each
// product and sum rounded once in double, contributors in the order given: what
// the CPU's fold kernels compute. All pointers are host memory; `n` elements
// each; at most 4096 contributors. Copies in, runs, copies out; blocks.
Error FoldBlock(const float* base, const float* const* xs,
                const double* weights, size_t contributors, double total,
                size_t n, float* out);

struct ScanResult {
  float abs_max = 0;  // of the finite elements
  uint64_t non_finite = 0;
};
// Both are free of order, so they equal the CPU's. (Its sum of squares is a
// serial sum in fixed lanes; a GPU has no fast way to those bits.)
Error Scan(const float* x, size_t n, ScanResult* out);

}  // namespace consilium::cuda

#endif  // CONSILIUM_AGGREGATION_KERNELS_CUDA_CUDA_KERNELS_H_

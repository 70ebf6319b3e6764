#include <cuda_runtime.h>

#include <cstring>

#include "cuda_kernels.h"

namespace consilium::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMagnitude = 0x7FFFFFFFu;
constexpr unsigned kLargestFinite = 0x7F7FFFFFu;

// Device memory that goes with its scope.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : status_(cudaMalloc(&data_, bytes)) {}
  ~Buffer() {
    if (status_ == cudaSuccess) cudaFree(data_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  cudaError_t status() const { return status_; }
  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  cudaError_t status_;
};

Error ErrorOf(cudaError_t status) {
  return Error{status == cudaSuccess ? nullptr : cudaGetErrorString(status)};
}

__global__ void FoldKernel(const float* base, const float* xs,
                           const double* weights, size_t contributors,
                           double total, size_t n, float* out) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += stride) {
    double sum = 0;
    for (size_t c = 0; c < contributors; ++c) {
      sum = __dadd_rn(
          sum, __dmul_rn(weights[c], static_cast<double>(xs[c * n + i])));
    }
    out[i] = static_cast<float>(
        __dadd_rn(static_cast<double>(base[i]), __ddiv_rn(sum, total)));
  }
}

__global__ void ScanKernel(const float* x, size_t n, unsigned* abs_max_bits,
                           unsigned long long* non_finite) {
  unsigned largest = 0;
  unsigned long long bad = 0;
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += stride) {
    // Magnitudes of floats order as their bits do.
    const unsigned bits = __float_as_uint(x[i]) & kMagnitude;
    if (bits > kLargestFinite) {
      ++bad;
    } else if (bits > largest) {
      largest = bits;
    }
  }
  atomicMax(abs_max_bits, largest);
  if (bad > 0) atomicAdd(non_finite, bad);
}

unsigned Blocks(size_t n) {
  const size_t blocks = (n + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 4096 ? blocks : 4096);
}

}  // namespace

int DeviceCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Error FoldBlock(const float* base, const float* const* xs,
                const double* weights, size_t contributors, double total,
                size_t n, float* out) {
  if (n == 0) return Error{};
  if (contributors == 0 || contributors > 4096) {
    return Error{"a fold takes 1 to 4096 contributors"};
  }
  const size_t bytes = n * sizeof(float);
  Buffer device_base(bytes);
  Buffer device_xs(bytes * contributors);
  Buffer device_weights(contributors * sizeof(double));
  Buffer device_out(bytes);
  for (const Buffer* buffer :
       {&device_base, &device_xs, &device_weights, &device_out}) {
    if (buffer->status() != cudaSuccess) return ErrorOf(buffer->status());
  }
  cudaError_t status =
      cudaMemcpy(device_base.as<float>(), base, bytes, cudaMemcpyHostToDevice);
  for (size_t c = 0; c < contributors && status == cudaSuccess; ++c) {
    status = cudaMemcpy(device_xs.as<float>() + c * n, xs[c], bytes,
                        cudaMemcpyHostToDevice);
  }
  if (status == cudaSuccess) {
    status = cudaMemcpy(device_weights.as<double>(), weights,
                        contributors * sizeof(double), cudaMemcpyHostToDevice);
  }
  if (status != cudaSuccess) return ErrorOf(status);
  FoldKernel<<<Blocks(n), kThreads>>>(device_base.as<float>(),
                                      device_xs.as<float>(),
                                      device_weights.as<double>(), contributors,
                                      total, n, device_out.as<float>());
  status = cudaGetLastError();
  if (status == cudaSuccess) {
    status =
        cudaMemcpy(out, device_out.as<float>(), bytes, cudaMemcpyDeviceToHost);
  }
  return ErrorOf(status);
}

Error Scan(const float* x, size_t n, ScanResult* out) {
  *out = ScanResult();
  if (n == 0) return Error{};
  Buffer device_x(n * sizeof(float));
  Buffer device_max(sizeof(unsigned));
  Buffer device_bad(sizeof(unsigned long long));
  for (const Buffer* buffer : {&device_x, &device_max, &device_bad}) {
    if (buffer->status() != cudaSuccess) return ErrorOf(buffer->status());
  }
  cudaError_t status = cudaMemcpy(device_x.as<float>(), x, n * sizeof(float),
                                  cudaMemcpyHostToDevice);
  if (status == cudaSuccess) {
    status = cudaMemset(device_max.as<unsigned>(), 0, sizeof(unsigned));
  }
  if (status == cudaSuccess) {
    status = cudaMemset(device_bad.as<unsigned long long>(), 0,
                        sizeof(unsigned long long));
  }
  if (status != cudaSuccess) return ErrorOf(status);
  ScanKernel<<<Blocks(n), kThreads>>>(device_x.as<float>(), n,
                                      device_max.as<unsigned>(),
                                      device_bad.as<unsigned long long>());
  status = cudaGetLastError();
  unsigned bits = 0;
  unsigned long long bad = 0;
  if (status == cudaSuccess) {
    status = cudaMemcpy(&bits, device_max.as<unsigned>(), sizeof bits,
                        cudaMemcpyDeviceToHost);
  }
  if (status == cudaSuccess) {
    status = cudaMemcpy(&bad, device_bad.as<unsigned long long>(), sizeof bad,
                        cudaMemcpyDeviceToHost);
  }
  std::memcpy(&out->abs_max, &bits, sizeof bits);
  out->non_finite = bad;
  return ErrorOf(status);
}

}  // namespace consilium::cuda

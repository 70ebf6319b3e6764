// Compares the GPU kernels with scalar code, bit for bit, on seeded inputs and
// sizes around a block. Exits 77 where there is no GPU.

#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cuda_kernels.h"

namespace {

int Fail(const char* what, size_t n, const char* why) {
  std::printf("FAILED: %s, n = %zu: %s\n", what, n, why);
  return 1;
}

int CheckFold(size_t contributors, size_t n, std::mt19937_64& random) {
  std::normal_distribution<float> values(0, 1);
  std::vector<std::vector<float>> xs(contributors, std::vector<float>(n));
  std::vector<const float*> pointers;
  std::vector<double> weights;
  double total = 0;
  for (size_t c = 0; c < contributors; ++c) {
    for (float& x : xs[c]) x = values(random);
    pointers.push_back(xs[c].data());
    weights.push_back(static_cast<double>(random() >> 24));
    total += weights.back();
  }
  std::vector<float> base(n), want(n), got(n);
  for (float& x : base) x = values(random);
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (size_t c = 0; c < contributors; ++c) {
      sum += weights[c] * static_cast<double>(xs[c][i]);
    }
    want[i] = static_cast<float>(static_cast<double>(base[i]) + sum / total);
  }
  const auto error =
      consilium::cuda::FoldBlock(base.data(), pointers.data(), weights.data(),
                                 contributors, total, n, got.data());
  if (!error.ok()) return Fail("fold", n, error.text);
  if (std::memcmp(want.data(), got.data(), n * sizeof(float)) != 0) {
    return Fail("fold", n, "other bits than the scalar code");
  }
  return 0;
}

int CheckScan(size_t n, std::mt19937_64& random) {
  std::normal_distribution<float> values(0, 10);
  std::vector<float> x(n);
  for (float& v : x) v = values(random);
  uint64_t bad = 0;
  if (n > 2) {
    x[n / 2] = std::numeric_limits<float>::quiet_NaN();
    x[n - 1] = -std::numeric_limits<float>::infinity();
    bad = 2;
  }
  float largest = 0;
  for (const float v : x) {
    const float magnitude = v < 0 ? -v : v;
    if (magnitude <= std::numeric_limits<float>::max() && magnitude > largest) {
      largest = magnitude;
    }
  }
  consilium::cuda::ScanResult got;
  const auto error = consilium::cuda::Scan(x.data(), n, &got);
  if (!error.ok()) return Fail("scan", n, error.text);
  if (got.abs_max != largest || got.non_finite != bad) {
    return Fail("scan", n, "other result than the scalar code");
  }
  return 0;
}

}  // namespace

int main() {
  if (consilium::cuda::DeviceCount() == 0) {
    std::printf("no GPU here: the CUDA kernels were compiled, not run\n");
    return 77;
  }
  constexpr uint64_t kSeed = 1;
  std::mt19937_64 random(kSeed);
  int failures = 0;
  for (const size_t n : {size_t{0}, size_t{1}, size_t{255}, size_t{256},
                         size_t{257}, size_t{100003}, size_t{4194304}}) {
    for (const size_t contributors : {1, 3, 8}) {
      failures += CheckFold(contributors, n, random);
    }
    failures += CheckScan(n, random);
  }
  std::printf("%d failures (seed %llu)\n", failures,
              static_cast<unsigned long long>(kSeed));
  return failures == 0 ? 0 : 1;
}

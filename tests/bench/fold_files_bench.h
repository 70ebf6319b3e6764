// The fold through files, as the coordinator runs it.
#ifndef CONSILIUM_TESTS_BENCH_FOLD_FILES_BENCH_H_
#define CONSILIUM_TESTS_BENCH_FOLD_FILES_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/bench/bench_json.h"

namespace consilium {

struct FoldBenchOptions {
  int64_t mib = 64;  // of each contribution
  int64_t contributors = 8;
  int repeats = 9;
  std::string dir;
  std::string json;
};

inline constexpr double kGiga = 1e9;

// One contribution's worth of small numbers; different for each `seed`.
std::vector<float> BenchNumbers(size_t n, uint32_t seed);

// Adds the rows of contributions in files: sealed against 1 / (1 / AES-GCM +
// 1 / kernel), plain against the kernel. `kernel_rate`: bytes of contributions
// per second of the fold kernel, measured before.
absl::Status RunFileBench(const FoldBenchOptions& options, double kernel_rate,
                          bench::Report* report);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_BENCH_FOLD_FILES_BENCH_H_

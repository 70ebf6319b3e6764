// The fold over spools, as the coordinator runs it.
#ifndef CONSILIUM_TESTS_BENCH_SPOOL_FOLD_H_
#define CONSILIUM_TESTS_BENCH_SPOOL_FOLD_H_

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

// Adds the rows of the coordinator's fold over spools: sealed against 1 / (1 /
// AES-GCM + 1 / kernel), and with `all` also the plain one against the kernel,
// two threads, and the digest. `kernel_rate`: bytes of contributions per second
// of the fold kernel, measured before. Works in options.dir.
absl::Status AddSpoolFoldRows(const FoldBenchOptions& options,
                              double kernel_rate, bool all,
                              bench::Report* report);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_BENCH_SPOOL_FOLD_H_

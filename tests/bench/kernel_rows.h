// The fold's kernels against memcpy.
#ifndef CONSILIUM_TESTS_BENCH_KERNEL_ROWS_H_
#define CONSILIUM_TESTS_BENCH_KERNEL_ROWS_H_

#include "tests/bench/bench_json.h"
#include "tests/bench/spool_fold.h"

namespace consilium {

// Adds the fold kernel on one thread against memcpy of the same bytes (read and
// written, on both sides); with `all` also for fewer contributors, each
// instruction set and the other kernels. Returns the bytes of contributions
// per second of the fold kernel.
double AddKernelRows(const FoldBenchOptions& options, bool all,
                     bench::Report* report);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_BENCH_KERNEL_ROWS_H_

// One institution of the round benchmark, in its own process.

#ifndef CONSILIUM_TESTS_BENCH_ROUND_ROUND_CLIENT_H_
#define CONSILIUM_TESTS_BENCH_ROUND_ROUND_CLIENT_H_

#include <string>

namespace consilium::bench {

// Takes every round it is offered: opens the base, hands in `value` for each
// element, counting `examples`. Runs until it is killed or fails.
int RunClient(const std::string& address, const std::string& identity_dir,
              float value, uint64_t examples);

}  // namespace consilium::bench

#endif  // CONSILIUM_TESTS_BENCH_ROUND_ROUND_CLIENT_H_

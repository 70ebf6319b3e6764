// Many institutions that wait: what each costs the coordinator.

#ifndef CONSILIUM_TESTS_BENCH_ROUND_IDLE_H_
#define CONSILIUM_TESTS_BENCH_ROUND_IDLE_H_

#include <string>

namespace consilium::bench {

// The institutions' side, in its own process: reads `count` tokens (one a
// line), enrols each, opens a connection of its own for each and leaves a
// WaitForWork pending on it; prints "waiting". Then for each line it is told it
// makes `calls` ReportProgress calls, spread over the connections, and prints
// their 99th percentile in milliseconds.
int RunIdle(const std::string& service_address,
            const std::string& enrollment_address, const std::string& root_path,
            int count, int calls);

}  // namespace consilium::bench

#endif  // CONSILIUM_TESTS_BENCH_ROUND_IDLE_H_

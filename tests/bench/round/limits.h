// What the machine and the libraries allow: the bytes of a round moved over
// bare gRPC streams with mutual TLS, without protocol and without disk.

#ifndef CONSILIUM_TESTS_BENCH_ROUND_LIMITS_H_
#define CONSILIUM_TESTS_BENCH_ROUND_LIMITS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium::bench {

struct LimitCase {
  int institutions = 2;
  int64_t payload_bytes = 0;
  // One AES-256-GCM seal and one open per uploaded byte, one SHA-256 per byte
  // and side in both directions.
  bool crypto = false;
};

// The server side, in its own process; ends when told to (SIGTERM).
int RunLimitServer(const std::string& coordinator_dir,
                   const std::string& address, bool crypto);
// One client: reads "go" lines on standard input; for each it streams the
// payload up, then down, and prints the seconds.
int RunLimitClient(const std::string& identity_dir, const std::string& address,
                   int64_t payload_bytes, bool crypto);

}  // namespace consilium::bench

#endif  // CONSILIUM_TESTS_BENCH_ROUND_LIMITS_H_

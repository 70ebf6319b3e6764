// Child processes that are told what to do over a pipe, line by line.

#ifndef CONSILIUM_TESTS_BENCH_ROUND_WORKERS_H_
#define CONSILIUM_TESTS_BENCH_ROUND_WORKERS_H_

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium::bench {

// A child with our end of its standard input and output. Killed on
// destruction, and by the kernel when this process dies.
class Worker {
 public:
  static absl::StatusOr<std::unique_ptr<Worker>> Start(
      const std::vector<std::string>& argv);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  absl::Status Tell(const std::string& line);
  // Blocks for the next line. Errors: UNAVAILABLE when the child has ended.
  absl::StatusOr<std::string> Hear();
  pid_t pid() const { return pid_; }

 private:
  Worker(pid_t pid, FILE* in, FILE* out) : pid_(pid), in_(in), out_(out) {}
  pid_t pid_;
  FILE* in_;
  FILE* out_;
};

}  // namespace consilium::bench

#endif  // CONSILIUM_TESTS_BENCH_ROUND_WORKERS_H_

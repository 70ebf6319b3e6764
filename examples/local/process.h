// Child processes that do not outlive us, and what the kernel says of them.

#ifndef CONSILIUM_EXAMPLES_LOCAL_PROCESS_H_
#define CONSILIUM_EXAMPLES_LOCAL_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium {

// A started program. Destroying it kills it (SIGKILL) and waits; the kernel
// kills it when this process dies. One thread at a time.
class Process {
 public:
  // argv[0] is the path. Standard output and error go to `log` (appended).
  // Errors: NOT_FOUND no such program; INTERNAL cannot fork.
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const std::vector<std::string>& argv, const std::string& log,
      const std::vector<std::string>& extra_environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // The exit code, 128 + signal; nullopt while it runs.
  std::optional<int> Poll();
  // Waits for the end; kills after `timeout`.
  int Wait(absl::Duration timeout);
  void Signal(int signal);
  void Kill9();  // and waits

  struct Usage {
    int64_t peak_resident_bytes = 0;  // VmHWM
    int64_t resident_bytes = 0;       // VmRSS
    double cpu_seconds = 0;           // user and system
  };
  Usage usage() const;

 private:
  explicit Process(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::optional<int> exit_;
};

// A TCP port of the loopback address that is free at this moment.
int FreePort();
// The folder of the running program.
std::string OwnFolder();

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_LOCAL_PROCESS_H_

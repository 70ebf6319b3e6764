// What the kernel says about this process.

#ifndef CONSILIUM_COORDINATOR_METRICS_PROCESS_STATS_H_
#define CONSILIUM_COORDINATOR_METRICS_PROCESS_STATS_H_

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace consilium {

struct ProcessStats {
  int64_t resident_bytes = 0;       // VmRSS
  int64_t peak_resident_bytes = 0;  // VmHWM
  int64_t threads = 0;
  absl::Duration cpu;  // user and system
};

// Zeros where the system does not say.
ProcessStats ReadProcessStats();

// The fields of /proc/PID/status; what is missing or malformed stays zero.
ProcessStats ParseProcStatus(std::string_view text);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_PROCESS_STATS_H_

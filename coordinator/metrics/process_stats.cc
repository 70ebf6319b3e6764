#include "coordinator/metrics/process_stats.h"

#include <sys/resource.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace consilium {
namespace {

int64_t NumberAfter(std::string_view text, std::string_view field) {
  size_t at = text.find(field);
  if (at == std::string_view::npos) return 0;
  at = text.find_first_not_of(" \t", at + field.size());
  if (at == std::string_view::npos) return 0;
  int64_t value = 0;
  const auto result =
      std::from_chars(text.data() + at, text.data() + text.size(), value);
  return result.ec == std::errc() && value >= 0 ? value : 0;
}

}  // namespace

ProcessStats ParseProcStatus(std::string_view text) {
  ProcessStats stats;
  stats.resident_bytes = NumberAfter(text, "\nVmRSS:") * 1024;
  stats.peak_resident_bytes = NumberAfter(text, "\nVmHWM:") * 1024;
  stats.threads = NumberAfter(text, "\nThreads:");
  return stats;
}

ProcessStats ReadProcessStats() {
  std::ifstream file("/proc/self/status");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ProcessStats stats = ParseProcStatus(text);
  rusage usage = {};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    stats.cpu = absl::DurationFromTimeval(usage.ru_utime) +
                absl::DurationFromTimeval(usage.ru_stime);
  }
  return stats;
}

}  // namespace consilium

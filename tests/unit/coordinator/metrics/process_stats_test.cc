#include "coordinator/metrics/process_stats.h"

#include <gtest/gtest.h>

namespace consilium {
namespace {

TEST(ProcessStatsTest, ReadsTheKernelsText) {
  const ProcessStats stats = ParseProcStatus(
      "Name:\tVmRSS: 9 kB\nVmPeak:\t  5000 kB\nVmHWM:\t    2048 kB\n"
      "VmRSS:\t    1024 kB\nThreads:\t7\n");
  EXPECT_EQ(stats.resident_bytes, 1024 * 1024);
  EXPECT_EQ(stats.peak_resident_bytes, 2048 * 1024);
  EXPECT_EQ(stats.threads, 7);
}

TEST(ProcessStatsTest, WhatIsMissingOrOddIsZero) {
  EXPECT_EQ(ParseProcStatus("").resident_bytes, 0);
  EXPECT_EQ(ParseProcStatus("\nVmRSS:").resident_bytes, 0);
  EXPECT_EQ(ParseProcStatus("\nVmRSS:  ").resident_bytes, 0);
  EXPECT_EQ(ParseProcStatus("\nVmRSS: -5 kB").resident_bytes, 0);
  EXPECT_EQ(ParseProcStatus("\nVmRSS: 99999999999999999999 kB").resident_bytes,
            0);
}

TEST(ProcessStatsTest, ThisProcessHasMemoryAndThreads) {
  const ProcessStats stats = ReadProcessStats();
  EXPECT_GT(stats.resident_bytes, 0);
  EXPECT_GE(stats.peak_resident_bytes, stats.resident_bytes);
  EXPECT_GE(stats.threads, 1);
  EXPECT_GE(stats.cpu, absl::ZeroDuration());
}

}  // namespace
}  // namespace consilium

// What all benchmarks share: timing, the result's JSON, and a table for people.
//
//   {"bench": ..., "machine": {...},
//    "rows": [{"row", "metric", "value", "unit", "limit", "ratio", "must",
//              "ok"}, ...]}
//
// A row gives a measured value. Where the machine sets a limit that was
// measured in the same run, ratio is value / limit; where the project sets a
// bar, must is that bar for the ratio (for the value where there is no limit)
// and ok says whether it was met. Fields that do not apply are null.
#ifndef CONSILIUM_TESTS_BENCH_BENCH_JSON_H_
#define CONSILIUM_TESTS_BENCH_BENCH_JSON_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace consilium::bench {

struct Row {
  std::string row;     // the case, such as "C=8 f32"
  std::string metric;  // what was measured, such as "fold kernel"
  double value = 0;
  std::string unit;
  std::optional<double> limit = {};  // in the same unit
  std::optional<double> ratio = {};
  std::optional<double> must = {};
  std::optional<bool> ok = {};
};

// A value without a limit or a bar.
Row Measured(std::string row, std::string metric, double value,
             std::string unit);
// A value with the limit that the machine sets; `must`: the least (AtLeast) or
// the most (AtMost) that value / limit may be, none for a row without a bar.
Row AtLeast(std::string row, std::string metric, double value, std::string unit,
            double limit, std::optional<double> must);
Row AtMost(std::string row, std::string metric, double value, std::string unit,
           double limit, std::optional<double> must);
// A value that itself must not exceed `must`.
Row ValueAtMost(std::string row, std::string metric, double value,
                std::string unit, double must);

class Report {
 public:
  explicit Report(std::string bench) : bench_(std::move(bench)) {}

  // Prints the row to standard output unless `quiet` was set.
  void Add(Row row);
  // A line about the machine beyond what is found out by itself.
  void SetMachine(std::string key, std::string value);
  void set_quiet(bool quiet) { quiet_ = quiet; }

  std::string ToJson() const;
  // "-" is standard output.
  absl::Status WriteJson(const std::string& path) const;
  const std::vector<Row>& rows() const { return rows_; }

 private:
  const std::string bench_;
  bool quiet_ = false;
  bool header_shown_ = false;
  std::vector<Row> rows_;
  std::vector<std::pair<std::string, std::string>> machine_;
};

// The median; 0 for no values.
double Median(std::vector<double> values);

// Seconds of each function, the median of `repeats` calls. They take turns, so
// that what else the machine does falls on all alike; one call of each before
// the first that counts.
std::vector<double> MedianSeconds(
    int repeats, const std::vector<std::function<void()>>& functions);

// The same in processor seconds of the calling thread: for work of one thread
// that waits for nothing, on a machine that others use too.
std::vector<double> MedianThreadSeconds(
    int repeats, const std::vector<std::function<void()>>& functions);

// Seconds on a clock that only goes forward; of this thread's processor time.
double Now();
double ThreadNow();

}  // namespace consilium::bench

#endif  // CONSILIUM_TESTS_BENCH_BENCH_JSON_H_

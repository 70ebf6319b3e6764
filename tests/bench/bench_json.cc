#include "tests/bench/bench_json.h"

#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "consilium/base/strings.h"

namespace consilium::bench {
namespace {

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    // Nothing else that needs an escape occurs in what benchmarks print.
    out.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  }
  out.push_back('"');
  return out;
}

std::string JsonNumber(std::optional<double> value) {
  if (!value.has_value() || !std::isfinite(*value)) return "null";
  return absl::StrFormat("%.6g", *value);
}

std::string ProcessorName() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::vector<std::pair<std::string, std::string>> Machine() {
  utsname name = {};
  uname(&name);
  double load = 0;
  if (getloadavg(&load, 1) != 1) load = 0;
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  return {{"processor", ProcessorName()},
          {"cores", Cat(sysconf(_SC_NPROCESSORS_ONLN))},
          {"memory", FormatBytes(pages * page)},
          {"system", Cat(name.sysname, " ", name.release)},
          {"compiler", __VERSION__},
          {"load_at_start", absl::StrFormat("%.2f", load)}};
}

}  // namespace

Row Measured(std::string row, std::string metric, double value,
             std::string unit) {
  return {.row = std::move(row),
          .metric = std::move(metric),
          .value = value,
          .unit = std::move(unit)};
}

Row AtLeast(std::string row, std::string metric, double value, std::string unit,
            double limit, std::optional<double> must) {
  Row out = Measured(std::move(row), std::move(metric), value, std::move(unit));
  out.limit = limit;
  out.ratio = value / limit;
  out.must = must;
  if (must.has_value()) out.ok = *out.ratio >= *must;
  return out;
}

Row AtMost(std::string row, std::string metric, double value, std::string unit,
           double limit, std::optional<double> must) {
  Row out = AtLeast(std::move(row), std::move(metric), value, std::move(unit),
                    limit, must);
  if (must.has_value()) out.ok = *out.ratio <= *must;
  return out;
}

Row ValueAtMost(std::string row, std::string metric, double value,
                std::string unit, double must) {
  Row out = Measured(std::move(row), std::move(metric), value, std::move(unit));
  out.must = must;
  out.ok = value <= must;
  return out;
}

void Report::Add(Row row) {
  if (!quiet_) {
    if (!header_shown_) {
      std::printf("%-16s %-34s %10s %-6s %10s %7s %7s\n", "case", "metric",
                  "value", "unit", "limit", "ratio", "must");
      header_shown_ = true;
    }
    const auto number = [](std::optional<double> value, int digits) {
      return value.has_value() ? absl::StrFormat("%.*f", digits, *value)
                               : std::string("-");
    };
    std::printf("%-16s %-34s %10s %-6s %10s %7s %7s%s\n", row.row.c_str(),
                row.metric.c_str(), number(row.value, 3).c_str(),
                row.unit.c_str(), number(row.limit, 3).c_str(),
                number(row.ratio, 2).c_str(), number(row.must, 2).c_str(),
                !row.ok.has_value() ? ""
                : *row.ok           ? "  ok"
                                    : "  MISSED");
    std::fflush(stdout);
  }
  rows_.push_back(std::move(row));
}

void Report::SetMachine(std::string key, std::string value) {
  machine_.emplace_back(std::move(key), std::move(value));
}

std::string Report::ToJson() const {
  std::string out = Cat("{\"bench\": ", JsonString(bench_), ", \"machine\": {");
  std::vector<std::pair<std::string, std::string>> machine = Machine();
  machine.insert(machine.end(), machine_.begin(), machine_.end());
  for (size_t i = 0; i < machine.size(); ++i) {
    CatInto(out, i == 0 ? "" : ", ", JsonString(machine[i].first), ": ",
            JsonString(machine[i].second));
  }
  CatInto(out, "}, \"rows\": [");
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    CatInto(out, i == 0 ? "\n" : ",\n", "  {\"row\": ", JsonString(row.row),
            ", \"metric\": ", JsonString(row.metric),
            ", \"value\": ", JsonNumber(row.value),
            ", \"unit\": ", JsonString(row.unit),
            ", \"limit\": ", JsonNumber(row.limit),
            ", \"ratio\": ", JsonNumber(row.ratio),
            ", \"must\": ", JsonNumber(row.must), ", \"ok\": ",
            !row.ok.has_value() ? "null"
            : *row.ok           ? "true"
                                : "false",
            "}");
  }
  CatInto(out, "\n]}\n");
  return out;
}

absl::Status Report::WriteJson(const std::string& path) const {
  const std::string json = ToJson();
  if (path == "-") {
    std::fwrite(json.data(), 1, json.size(), stdout);
    return absl::OkStatus();
  }
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << json;
  out.close();
  if (!out) return absl::UnavailableError(Cat("cannot write ", path));
  return absl::OkStatus();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

namespace {

std::vector<double> MedianBy(
    double (*now)(), int repeats,
    const std::vector<std::function<void()>>& functions) {
  std::vector<std::vector<double>> seconds(functions.size());
  for (int i = -1; i < repeats; ++i) {
    for (size_t f = 0; f < functions.size(); ++f) {
      const double start = now();
      functions[f]();
      if (i >= 0) seconds[f].push_back(now() - start);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& s : seconds) {
    medians.push_back(Median(std::move(s)));
  }
  return medians;
}

}  // namespace

std::vector<double> MedianSeconds(
    int repeats, const std::vector<std::function<void()>>& functions) {
  return MedianBy(Now, repeats, functions);
}

std::vector<double> MedianThreadSeconds(
    int repeats, const std::vector<std::function<void()>>& functions) {
  return MedianBy(ThreadNow, repeats, functions);
}

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double ThreadNow() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace consilium::bench

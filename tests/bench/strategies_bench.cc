// Aggregation of LoRA factors in product space, on one thread, by its
// processor time.
//
//   consilium-bench-strategies [--side N] [--rank R] [--contributors C]
//                              [--repeats N] [--json FILE]

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/aggregation/lora.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/bench/bench_json.h"

namespace consilium {
namespace {

constexpr double kMilli = 1e-3;
// A round folds one such matrix for each adapted weight.
constexpr double kLongestMillis = 100;

struct Options {
  int64_t side = 4096;
  int64_t rank = 16;
  int64_t contributors = 16;
  int repeats = 5;
  std::string json;
};

bool ParseOptions(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (flag == "--json") {
      options->json = value;
    } else if (flag == "--side") {
      if (!absl::SimpleAtoi(value, &options->side)) return false;
    } else if (flag == "--rank") {
      if (!absl::SimpleAtoi(value, &options->rank)) return false;
    } else if (flag == "--contributors") {
      if (!absl::SimpleAtoi(value, &options->contributors)) return false;
    } else if (flag == "--repeats") {
      if (!absl::SimpleAtoi(value, &options->repeats)) return false;
    } else {
      return false;
    }
  }
  return options->side >= 1 && options->side <= 65536 && options->rank >= 1 &&
         options->rank <= options->side && options->contributors >= 1 &&
         options->contributors <= lora::kMaxTotalRank / options->rank &&
         options->repeats >= 1;
}

// Factors that are a little away from a common start, as those of a cohort are.
class Cohort {
 public:
  explicit Cohort(const Options& options) {
    const auto elements = static_cast<size_t>(options.side * options.rank);
    const std::vector<float> common_b = Draw(elements, 1);
    const std::vector<float> common_a = Draw(elements, 1);
    for (int64_t c = 0; c < options.contributors; ++c) {
      b_.push_back(Draw(elements, 0.1f));
      a_.push_back(Draw(elements, 0.1f));
      for (size_t i = 0; i < elements; ++i) {
        b_.back()[i] += common_b[i];
        a_.back()[i] += common_a[i];
      }
    }
    for (size_t c = 0; c < b_.size(); ++c) {
      sum.push_back({b_[c], a_[c], options.rank,
                     1 / static_cast<double>(options.contributors)});
    }
  }

  std::vector<const float*> rows_of_a(const Options& options) const {
    std::vector<const float*> rows;
    for (const std::vector<float>& a : a_) {
      for (int64_t j = 0; j < options.rank; ++j) {
        rows.push_back(a.data() + j * options.side);
      }
    }
    return rows;
  }

  std::vector<lora::Product> sum;

 private:
  std::vector<float> Draw(size_t n, float scale) {
    std::normal_distribution<float> normal;
    std::vector<float> out(n);
    for (float& v : out) v = scale * normal(random_);
    return out;
  }

  std::mt19937 random_{1};
  std::vector<std::vector<float>> b_, a_;
};

absl::Status Run(const Options& options) {
  bench::Report report("strategies");
  report.set_quiet(options.json == "-");
  report.SetMachine("vector_target", std::string(kernels::ActiveTarget()));
  const Cohort cohort(options);
  const std::vector<const float*> rows = cohort.rows_of_a(options);
  std::vector<double> gram(rows.size() * rows.size());
  const lora::MatrixShape shape = {options.side, options.side};
  const auto side = static_cast<size_t>(options.side);
  absl::Status failed;
  double error = 0, averaged_error = 0;
  const std::vector<double> seconds = bench::MedianThreadSeconds(
      options.repeats,
      {[&] { kernels::Gram(rows, side, gram); },
       [&] {
         const auto cut = lora::Truncate(shape, cohort.sum, options.rank, 1);
         if (cut.ok()) {
           error = cut->error;
         } else {
           failed = cut.status();
         }
       },
       [&] {
         const auto averaged = lora::AverageFactors(shape, cohort.sum);
         if (averaged.ok()) {
           averaged_error = averaged->error;
         } else {
           failed = averaged.status();
         }
       }});
  CONSILIUM_RETURN_IF_ERROR(failed);
  const std::string name = Cat("d=k=", options.side, " r=", options.rank,
                               " C=", options.contributors);
  report.Add(bench::Measured(name, "Gram matrix of one side",
                             seconds[0] / kMilli, "ms"));
  report.Add(bench::ValueAtMost(name, "FLoRA stack to rank r",
                                seconds[1] / kMilli, "ms", kLongestMillis));
  report.Add(bench::Measured(name, "its relative error", error, ""));
  report.Add(bench::Measured(name, "factors averaged one by one (FedIT)",
                             seconds[2] / kMilli, "ms"));
  report.Add(bench::Measured(name, "its relative error", averaged_error, ""));
  return options.json.empty() ? absl::OkStatus()
                              : report.WriteJson(options.json);
}

}  // namespace
}  // namespace consilium

int main(int argc, char** argv) {
  consilium::Options options;
  if (!consilium::ParseOptions(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: %s [--side N] [--rank R] [--contributors C] "
                 "[--repeats N] [--json FILE]\n",
                 argv[0]);
    return 2;
  }
  const absl::Status status = consilium::Run(options);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}

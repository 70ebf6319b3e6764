#include "tests/bench/kernel_rows.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/kernels.h"
#include "consilium/base/strings.h"
#include "hwy/targets.h"

namespace consilium {
namespace {

constexpr size_t kBlock = size_t{1} << 16;  // as FoldOptions::block_elements

class KernelBench {
 public:
  KernelBench(const FoldBenchOptions& options, bench::Report* report)
      : options_(options),
        report_(report),
        elements_(static_cast<size_t>(options.mib) * (1u << 18)) {}

  double Run(bool all) {
    const auto most = static_cast<size_t>(options_.contributors);
    for (size_t c = 0; c < most; ++c) {
      values_.push_back(BenchNumbers(elements_, static_cast<uint32_t>(c)));
    }
    result_ = BenchNumbers(elements_, 99);
    if (!all) return RunFold(most, 0.6);
    for (size_t c = 2; c < most; c *= 2) RunFold(c, std::nullopt);
    const double contributions_per_second = RunFold(most, 0.6);
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      RunFold(most, std::nullopt, hwy::TargetName(target));
    }
    hwy::SetSupportedTargetsForTest(0);
    RunReaders();
    return contributions_per_second;
  }

 private:
  // Seconds of memcpy moving `bytes` in all (half read, half written) and of
  // `work`.
  std::vector<double> Against(size_t bytes, std::function<void()> work) {
    from_.resize(bytes / 2, std::byte{1});
    to_.resize(bytes / 2, std::byte{2});
    const auto copy = [&] { std::memcpy(to_.data(), from_.data(), bytes / 2); };
    return bench::MedianThreadSeconds(options_.repeats,
                                      {copy, std::move(work)});
  }

  double RunFold(size_t contributors, std::optional<double> must,
                 const std::string& target = "") {
    const std::vector<double> weights(contributors, 1.0e12);
    const double denominator = 1e12 * static_cast<double>(contributors);
    const auto fold = [&] {
      std::vector<const float*> blocks(contributors);
      for (size_t at = 0; at < elements_; at += kBlock) {
        const size_t n = std::min(kBlock, elements_ - at);
        for (size_t c = 0; c < contributors; ++c) {
          blocks[c] = values_[c].data() + at;
        }
        kernels::FoldBlock(std::span(result_).subspan(at, n), blocks, weights,
                           denominator);
      }
    };
    // Each contribution and the base read, the result written.
    const size_t bytes = elements_ * sizeof(float) * (contributors + 2);
    const std::vector<double> seconds = Against(bytes, fold);
    const double all = static_cast<double>(bytes) / kGiga;
    report_->Add(
        bench::AtLeast(Cat("C=", contributors, " f32"),
                       target.empty() ? "fold kernel / memcpy"
                                      : Cat("fold kernel / memcpy, ", target),
                       all / seconds[1], "GB/s", all / seconds[0], must));
    return static_cast<double>(elements_ * sizeof(float) * contributors) /
           seconds[1];
  }

  void RunReaders() {
    const std::vector<float>& x = values_[0];
    const std::span<const std::byte> bytes = std::as_bytes(std::span(x));
    double sink = 0;
    const auto row = [&](const char* metric, size_t moved,
                         std::function<void()> work) {
      const std::vector<double> seconds = Against(moved, std::move(work));
      const double all = static_cast<double>(moved) / kGiga;
      report_->Add(bench::AtLeast("f32", metric, all / seconds[1], "GB/s",
                                  all / seconds[0], std::nullopt));
    };
    row("scan kernel / memcpy", bytes.size(),
        [&] { sink += kernels::ScanStats(x).sum_squares; });
    row("crc32c / memcpy", bytes.size(),
        [&] { sink += kernels::Crc32c(bytes); });
    row("subtract / memcpy", 3 * bytes.size(),
        [&] { kernels::Subtract(x, values_[1], result_); });
    if (sink == 1) std::puts("");  // the results are used
  }

  const FoldBenchOptions& options_;
  bench::Report* const report_;
  const size_t elements_;
  std::vector<std::vector<float>> values_;
  std::vector<float> result_;
  std::vector<std::byte> from_, to_;
};

}  // namespace

double AddKernelRows(const FoldBenchOptions& options, bool all,
                     bench::Report* report) {
  return KernelBench(options, report).Run(all);
}

}  // namespace consilium

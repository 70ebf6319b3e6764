// The fold against the machine it runs on: kernels against memcpy of the same
// bytes (read and written, on both sides), the fold of sealed contributions
// against decryption and kernel, and the fold through files against its kernel.
// One thread is measured by its processor time, several by wall time.
//
//   consilium-bench-fold [--mib N] [--contributors C] [--repeats R] [--dir D]
//                        [--json FILE]

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "hwy/targets.h"
#include "tests/bench/bench_json.h"
#include "tests/bench/fold_files_bench.h"

namespace consilium {
namespace {

constexpr size_t kBlock = size_t{1} << 16;  // as FoldOptions::block_elements

class KernelBench {
 public:
  KernelBench(const FoldBenchOptions& options, bench::Report* report)
      : options_(options),
        report_(report),
        elements_(static_cast<size_t>(options.mib) * (1u << 18)) {}

  // Returns the bytes of contributions per second of the fold kernel.
  double Run() {
    const auto most = static_cast<size_t>(options_.contributors);
    for (size_t c = 0; c < most; ++c) {
      values_.push_back(BenchNumbers(elements_, static_cast<uint32_t>(c)));
    }
    result_ = BenchNumbers(elements_, 99);
    double contributions_per_second = 0;
    for (size_t c = 2; c < most; c *= 2) RunFold(c, std::nullopt);
    contributions_per_second = RunFold(most, 0.6);
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

bool ParseOptions(int argc, char** argv, FoldBenchOptions* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (flag == "--json") {
      options->json = value;
    } else if (flag == "--dir") {
      options->dir = value;
    } else if (flag == "--mib") {
      if (!absl::SimpleAtoi(value, &options->mib)) return false;
    } else if (flag == "--contributors") {
      if (!absl::SimpleAtoi(value, &options->contributors)) return false;
    } else if (flag == "--repeats") {
      if (!absl::SimpleAtoi(value, &options->repeats)) return false;
    } else {
      return false;
    }
  }
  return options->mib >= 1 && options->mib <= 4096 &&
         options->contributors >= 2 && options->contributors <= 256 &&
         options->repeats >= 1;
}

absl::Status RunAll(FoldBenchOptions options) {
  const bool own_dir = options.dir.empty();
  if (own_dir) {
    std::string name = std::filesystem::temp_directory_path() / "fold-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      return absl::UnavailableError(Cat("cannot make ", name));
    }
    options.dir = name;
  }
  bench::Report report("fold");
  report.set_quiet(options.json == "-");
  report.SetMachine("vector_target", std::string(kernels::ActiveTarget()));
  report.SetMachine("contribution",
                    FormatBytes(static_cast<uint64_t>(options.mib << 20)));
  double kernel = 0;
  {
    KernelBench kernels(options, &report);
    kernel = kernels.Run();
  }
  const absl::Status status = RunFileBench(options, kernel, &report);
  if (own_dir) {
    std::error_code ignored;
    std::filesystem::remove_all(options.dir, ignored);
  }
  CONSILIUM_RETURN_IF_ERROR(status);
  return options.json.empty() ? absl::OkStatus()
                              : report.WriteJson(options.json);
}

}  // namespace
}  // namespace consilium

int main(int argc, char** argv) {
  consilium::FoldBenchOptions options;
  if (!consilium::ParseOptions(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: %s [--mib N] [--contributors C] [--repeats R] "
                 "[--dir D] [--json FILE]\n",
                 argv[0]);
    return 2;
  }
  const absl::Status status = consilium::RunAll(std::move(options));
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}

// The fold against the machine it runs on: kernels against memcpy of the same
// bytes (read and written, on both sides; processor time of one thread), and
// the fold through files against its kernel (wall time where it has threads).
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
#include "consilium/aggregation/fold.h"
#include "consilium/aggregation/frame_cursor.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "hwy/targets.h"
#include "tests/bench/bench_json.h"

namespace consilium {
namespace {

struct Options {
  int64_t mib = 64;  // of each contribution
  int64_t contributors = 8;
  int repeats = 9;
  std::string dir;
  std::string json;
};

constexpr double kGiga = 1e9;
constexpr size_t kBlock = size_t{1} << 16;  // as FoldOptions::block_elements

// One contribution's worth of small numbers; different for each `seed`.
std::vector<float> Numbers(size_t n, uint32_t seed) {
  std::vector<float> out(n);
  uint32_t state = seed * 2654435761u + 1;
  for (float& v : out) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(state)) * 1e-12f;
  }
  return out;
}

class KernelBench {
 public:
  KernelBench(const Options& options, bench::Report* report)
      : options_(options),
        report_(report),
        elements_(static_cast<size_t>(options.mib) * (1u << 18)) {}

  // Returns the bytes of contributions per second of the fold kernel.
  double Run() {
    const auto most = static_cast<size_t>(options_.contributors);
    for (size_t c = 0; c < most; ++c) {
      values_.push_back(Numbers(elements_, static_cast<uint32_t>(c)));
    }
    result_ = Numbers(elements_, 99);
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

  const Options& options_;
  bench::Report* const report_;
  const size_t elements_;
  std::vector<std::vector<float>> values_;
  std::vector<float> result_;
  std::vector<std::byte> from_, to_;
};

// The same contributions as plain payloads in files, folded into a version.
class FileBench {
 public:
  FileBench(const Options& options, bench::Report* report)
      : options_(options), report_(report) {}

  absl::Status Run(double kernel_bytes_per_second) {
    CONSILIUM_RETURN_IF_ERROR(Prepare());
    const double bytes = static_cast<double>(options_.contributors) *
                         static_cast<double>(options_.mib) * (1 << 20);
    for (const int threads : {1, 2}) {
      for (const bool digest : {false, true}) {
        CONSILIUM_ASSIGN_OR_RETURN(const double seconds,
                                   FoldSeconds(threads, digest));
        report_->Add(bench::AtLeast(Cat("C=", options_.contributors, " f32"),
                                    Cat("fold through files / kernel, ",
                                        threads, "T", digest ? " sha256" : ""),
                                    bytes / seconds / kGiga, "GB/s",
                                    kernel_bytes_per_second / kGiga,
                                    std::nullopt));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Prepare() {
    FileSystem* const fs = PosixFileSystem();
    const int64_t elements = options_.mib << 18;
    std::vector<SlotSpec> slots;
    for (int s = 0; s < 64; ++s) {
      slots.push_back({.name = Cat("tensor.", s), .shape = {elements / 64}});
    }
    CONSILIUM_ASSIGN_OR_RETURN(layout_, Layout::Create(std::move(slots)));
    id_ = layout_.ComputeId(Sha256HasherFactory());
    space_ = std::make_unique<CoveredSpace>(&layout_, Coverage::All(layout_));

    const OpenOptions create = {
        .write = true, .create = true, .truncate = true};
    const auto path = [&](std::string_view name) {
      return JoinPath(options_.dir, name);
    };
    CONSILIUM_ASSIGN_OR_RETURN(base_, fs->Open(path("base"), create));
    CONSILIUM_ASSIGN_OR_RETURN(out_, fs->Open(path("out"), create));
    const std::vector<float> base =
        Numbers(static_cast<size_t>(elements / 64), 99);
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrittenVersion written,
        WriteVersionFile(
            layout_, id_,
            [&](const TensorSlot&) -> absl::StatusOr<std::span<const float>> {
              return std::span<const float>(base);
            },
            Sha256HasherFactory(), base_.get()));
    base_offset_ = written.info.data_offset;
    for (int64_t c = 0; c < options_.contributors; ++c) {
      CONSILIUM_ASSIGN_OR_RETURN(auto file,
                                 fs->Open(path(Cat("payload-", c)), create));
      CONSILIUM_RETURN_IF_ERROR(
          WritePayload(file.get(), static_cast<uint32_t>(c)));
      payloads_.push_back(std::move(file));
    }
    return absl::OkStatus();
  }

  absl::Status WritePayload(File* file, uint32_t seed) {
    int64_t at = 0;
    int64_t parameters = 0;
    PayloadWriter writer(space_->elements(), codec_,
                         [&](std::span<const std::byte> frame) {
                           const int64_t to = at;
                           at += static_cast<int64_t>(frame.size());
                           if (to == 0) parameters = at;
                           return file->WriteAt(to, frame);
                         });
    CONSILIUM_RETURN_IF_ERROR(writer.WriteMetadata({.examples = 1}));
    const std::vector<float> values =
        Numbers(static_cast<size_t>(space_->elements()), seed);
    CONSILIUM_RETURN_IF_ERROR(writer.Append(values));
    CONSILIUM_RETURN_IF_ERROR(writer.Finish());
    sources_.push_back(std::make_unique<PlainPayloadSource>(
        Cat("site-", seed), space_.get(), codec_, file, parameters));
    return absl::OkStatus();
  }

  absl::StatusOr<double> FoldSeconds(int threads, bool digest) {
    FoldInputs inputs = {.layout = &layout_,
                         .base = base_.get(),
                         .base_data_offset = base_offset_};
    for (const auto& source : sources_) {
      inputs.contributions.push_back(
          {.source = source.get(), .weights = {kWeightOne / 2}});
    }
    std::vector<double> seconds;
    for (int i = 0; i <= options_.repeats; ++i) {
      const double start = bench::ThreadNow();
      const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
      CONSILIUM_ASSIGN_OR_RETURN(
          const FoldReport report,
          Fold(inputs, {.threads = threads},
               {.file = out_.get(),
                .data_offset = 4096,
                .hasher = digest ? hasher.get() : nullptr}));
      // One thread by its processor time, as the kernels; more by wall time.
      const double taken =
          threads == 1 ? bench::ThreadNow() - start : report.seconds;
      if (i > 0) seconds.push_back(taken);  // the first one warms up
    }
    return bench::Median(std::move(seconds));
  }

  const Options& options_;
  bench::Report* const report_;
  const Codec* const codec_ = FindCodec(CodecId::kF32);
  Layout layout_;
  Sha256Digest id_;
  std::unique_ptr<CoveredSpace> space_;
  std::unique_ptr<File> base_, out_;
  int64_t base_offset_ = 0;
  std::vector<std::unique_ptr<File>> payloads_;
  std::vector<std::unique_ptr<PlainPayloadSource>> sources_;
};

bool ParseOptions(int argc, char** argv, Options* options) {
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

absl::Status RunAll(Options options) {
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
  const absl::Status status = FileBench(options, &report).Run(kernel);
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
  consilium::Options options;
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

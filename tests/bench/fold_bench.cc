// The fold against the machine it runs on: kernels against memcpy of the same
// bytes (read and written, on both sides), the fold of sealed contributions
// against decryption and kernel, and the fold over spools against its kernel.
// One thread is measured by its processor time, several by wall time.
//
//   consilium-bench-fold [--mib N] [--contributors C] [--repeats R] [--dir D]
//                        [--json FILE]

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/bench/bench_json.h"
#include "tests/bench/kernel_rows.h"
#include "tests/bench/spool_fold.h"

namespace consilium {
namespace {

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
  const double kernel = AddKernelRows(options, /*all=*/true, &report);
  const absl::Status status =
      AddSpoolFoldRows(options, kernel, /*all=*/true, &report);
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

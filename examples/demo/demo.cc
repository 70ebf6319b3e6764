#include "examples/demo/demo.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "examples/data/breast_cancer.h"
#include "examples/demo/compare.h"
#include "examples/demo/demo_data.h"
#include "examples/local/local_federation.h"
#include "examples/local/own_directory.h"
#include "nlohmann/json.hpp"

namespace consilium {
namespace {

constexpr double kBetterThanLocal = 0.02;
constexpr double kWorseThanPooled = 0.02;

struct SeedResult {
  double local = 0;
  double federated = 0;
  double pooled = 0;
  int promoted = 0;
};

double MetricOf(const v1::RoundInfo& round, std::string_view name) {
  for (const v1::NamedValue& metric : round.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  return std::nan("");
}

// What a demo leaves in its directory.
bool IsOurs(std::string_view name) {
  const absl::string_view view = AbslView(name);
  return name == "coordinator" || name == "logs" ||
         absl::StartsWith(view, "hospital-") ||
         absl::StartsWith(view, "adapter-seed-");
}

class Demo {
 public:
  explicit Demo(const DemoOptions& options)
      : options_(options), terminal_(isatty(STDOUT_FILENO) == 1) {}

  absl::StatusOr<bool> Run() {
    CONSILIUM_RETURN_IF_ERROR(Prepare());
    std::vector<SeedResult> results;
    for (int seed = 1; seed <= options_.seeds; ++seed) {
      CONSILIUM_ASSIGN_OR_RETURN(SeedResult result,
                                 RunSeed(static_cast<uint64_t>(seed)));
      results.push_back(result);
    }
    CONSILIUM_RETURN_IF_ERROR(federation_->StopCoordinator());
    return Conclude(results);
  }

 private:
  absl::Status Prepare() {
    FileSystem* const fs = PosixFileSystem();
    char* const absolute = realpath(".", nullptr);
    directory_ =
        JoinPath(absolute == nullptr ? "." : absolute, options_.directory);
    std::free(absolute);
    CONSILIUM_ASSIGN_OR_RETURN(
        lock_, ClaimDirectory(fs, directory_, "demo.lock", IsOurs));
    LocalFederationOptions local;
    local.directory = directory_;
    local.federation = "hospitals";
    CONSILIUM_ASSIGN_OR_RETURN(federation_,
                               LocalFederation::Create(std::move(local)));
    // Experts are averaged by the tokens routed to them; the router by
    // examples, since all start from one version.
    CONSILIUM_RETURN_IF_ERROR(
        federation_->SetPolicy({{"quorum", "3"},
                                {"deadline", "2m"},
                                {"router", "examples"},
                                {"evaluation.quorum", "3"},
                                {"evaluation.deadline", "2m"}}));
    for (const HospitalSlices& hospital : SplitBreastCancer(1).hospitals) {
      CONSILIUM_RETURN_IF_ERROR(federation_->Enroll(hospital.name));
    }
    std::printf(
        "Three hospitals, one coordinator, mutual TLS on loopback, sealed "
        "uploads.\nWisconsin breast-cancer table: each hospital keeps its own "
        "rows.\n\n");
    std::printf("%4s %5s  %-11s %8s %10s %8s %9s %6s\n", "seed", "round",
                "phase", "contrib.", "bytes", "loss", "accuracy", "sec");
    return absl::OkStatus();
  }

  absl::StatusOr<SeedResult> RunSeed(uint64_t seed) {
    CONSILIUM_ASSIGN_OR_RETURN(const DemoStart start, PrepareDemo(seed));
    const BreastCancerFederation& split = start.split;
    const PretrainedTable& base = start.base;
    const ParameterSource zero = SourceOf(base.version_zero);
    CONSILIUM_RETURN_IF_ERROR(federation_
                                  ->ImportVersion(start.layout,
                                                  [&](const TensorSlot& slot) {
                                                    return zero(slot.name);
                                                  })
                                  .status());
    std::vector<std::unique_ptr<Process>> clients;
    for (const HospitalSlices& hospital : split.hospitals) {
      const std::string dir = federation_->InstitutionDir(hospital.name);
      CONSILIUM_RETURN_IF_ERROR(WriteHospital(dir, base, hospital));
      const std::string toml =
          Cat("coordinator = \"", federation_->address(), "\"\n",
              "proxy = \"none\"\n[training]\nseed = ", seed * 1000,
              "\nbase_model = \"base_model.safetensors\"\n"
              "table = \"train.csv\"\nvalidation_table = \"validation.csv\"\n"
              "device = \"cpu\"\n");
      CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(
          PosixFileSystem(), JoinPath(dir, "demo.toml"), AsBytes(toml)));
      CONSILIUM_ASSIGN_OR_RETURN(
          std::unique_ptr<Process> client,
          Process::Start(
              {JoinPath(OwnFolder(), "consilium-client"), "run", "--config",
               JoinPath(dir, "demo.toml")},
              JoinPath(federation_->logs_dir(), Cat(hospital.name, ".log"))));
      clients.push_back(std::move(client));
    }
    SeedResult result;
    v1::RoundInfo last;
    for (int round = 1; round <= options_.rounds; ++round) {
      CONSILIUM_ASSIGN_OR_RETURN(last, RunRound(seed, round, clients));
      if (last.phase() == "promoted") ++result.promoted;
    }
    for (const auto& client : clients) client->Signal(SIGTERM);
    for (const auto& client : clients) client->Wait(absl::Seconds(10));
    CONSILIUM_ASSIGN_OR_RETURN(
        result.federated, Federated(*start.trainer, split.test, last, seed));
    const int rounds = options_.rounds;
    std::vector<const TableSlice*> all;
    for (const HospitalSlices& hospital : split.hospitals) {
      all.push_back(&hospital.train);
      CONSILIUM_ASSIGN_OR_RETURN(
          const double alone,
          AccuracyAlone(*start.trainer, base.version_zero, hospital.train,
                        split.test, rounds, seed * 1000));
      result.local += alone / static_cast<double>(split.hospitals.size());
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        result.pooled,
        AccuracyAlone(*start.trainer, base.version_zero, JoinSlices(all),
                      split.test, rounds, seed * 1000));
    std::printf(
        "seed %llu on the held-out test set: alone %.1f %%, federated "
        "%.1f %%, pooled %.1f %%\n",
        static_cast<unsigned long long>(seed), 100 * result.local,
        100 * result.federated, 100 * result.pooled);
    std::fflush(stdout);
    return result;
  }

  absl::StatusOr<v1::RoundInfo> RunRound(
      uint64_t seed, int round,
      const std::vector<std::unique_ptr<Process>>& clients) {
    const absl::Time begin = absl::Now();
    CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo started,
                               federation_->StartRound());
    const auto row = [&](const v1::RoundInfo& info) {
      const double loss = MetricOf(info, "evaluate.loss");
      const double accuracy = MetricOf(info, "evaluate.accuracy");
      std::printf("%4llu %5d  %-11s %8u %10s ",
                  static_cast<unsigned long long>(seed), round,
                  info.phase().c_str(), info.contributions(),
                  FormatBytes(info.contributed_bytes()).c_str());
      if (std::isnan(loss)) {
        std::printf("%8s %9s ", "", "");
      } else {
        std::printf("%8.4f %8.1f%% ", loss, 100 * accuracy);
      }
      std::printf("%6.1f", absl::ToDoubleSeconds(absl::Now() - begin));
    };
    const auto end = federation_->WatchRound(
        started.round(),
        [&](const v1::RoundInfo& info) {
          if (!terminal_) return;
          std::printf("\r");
          row(info);
          std::fflush(stdout);
        },
        absl::Minutes(3));
    for (const auto& client : clients) {
      if (const auto code = client->Poll(); code.has_value()) {
        return absl::InternalError(
            Cat("an institution's client ended with code ", *code, "; see ",
                federation_->logs_dir()));
      }
    }
    CONSILIUM_RETURN_IF_ERROR(end.status());
    if (terminal_) std::printf("\r");
    row(*end);
    std::printf("\n");
    std::fflush(stdout);
    if (end->phase() == "failed" || end->phase() == "cancelled") {
      return absl::InternalError(Cat("round ", end->round(), " is ",
                                     end->phase(), ": ", end->reason(),
                                     "; see ", federation_->logs_dir()));
    }
    return *end;
  }

  // Accuracy of the version that is current after the last round; exports it.
  absl::StatusOr<double> Federated(const TableMoeTrainer& trainer,
                                   const TableSlice& test,
                                   const v1::RoundInfo& last, uint64_t seed) {
    const v1::VersionRef& version =
        last.phase() == "promoted" ? last.candidate() : last.base();
    std::string bytes;
    CONSILIUM_RETURN_IF_ERROR(
        federation_->Download(version, [&](std::span<const std::byte> piece) {
          bytes.append(AsChars(piece));
          return absl::OkStatus();
        }));
    export_path_ =
        JoinPath(directory_, Cat("adapter-seed-", seed, ".safetensors"));
    CONSILIUM_RETURN_IF_ERROR(
        WriteFileAtomic(PosixFileSystem(), export_path_, AsBytes(bytes)));
    CONSILIUM_ASSIGN_OR_RETURN(const SafetensorsView view,
                               SafetensorsView::Parse(AsBytes(bytes)));
    CONSILIUM_ASSIGN_OR_RETURN(
        const TableEvaluation evaluation,
        trainer.Evaluate(
            [&](std::string_view name) { return view.Floats(name); },
            ViewOf(test)));
    return evaluation.accuracy;
  }

  absl::StatusOr<bool> Conclude(const std::vector<SeedResult>& results) {
    SeedResult mean;
    for (const SeedResult& r : results) {
      const double n = static_cast<double>(results.size());
      mean.local += r.local / n;
      mean.federated += r.federated / n;
      mean.pooled += r.pooled / n;
      mean.promoted += r.promoted;
    }
    const bool ok = mean.federated >= mean.local + kBetterThanLocal &&
                    mean.federated >= mean.pooled - kWorseThanPooled;
    const std::string history =
        JoinPath(federation_->coordinator_dir(), "data/history.db");
    std::printf(
        "\nAccuracy on rows nobody trained on, mean of %zu seeds:\n"
        "  each hospital alone   %5.1f %%\n"
        "  federated             %5.1f %%   %s\n"
        "  all rows in one place %5.1f %%\n\n",
        results.size(), 100 * mean.local, 100 * mean.federated,
        ok ? "(at least 2 points above alone, within 2 of pooled: yes)"
           : "(at least 2 points above alone, within 2 of pooled: NO)",
        100 * mean.pooled);
    const std::string cli = JoinPath(OwnFolder(), "consilium");
    std::printf(
        "History:  %s\nAdapter:  %s\nTry next:\n"
        "  %s --offline %s round list\n"
        "  %s --offline %s version list\n"
        "  %s --offline %s audit verify\n",
        history.c_str(), export_path_.c_str(), cli.c_str(),
        federation_->coordinator_dir().c_str(), cli.c_str(),
        federation_->coordinator_dir().c_str(), cli.c_str(),
        federation_->coordinator_dir().c_str());
    if (options_.json.empty()) return ok;
    nlohmann::json out;
    out["ok"] = ok;
    out["rounds_promoted"] = mean.promoted;
    out["rounds_run"] = options_.rounds * options_.seeds;
    out["accuracy"] = {{"local", mean.local},
                       {"federated", mean.federated},
                       {"pooled", mean.pooled}};
    for (const SeedResult& r : results) {
      out["seeds"].push_back({{"local", r.local},
                              {"federated", r.federated},
                              {"pooled", r.pooled},
                              {"rounds_promoted", r.promoted}});
    }
    out["paths"] = {{"history", history},
                    {"adapter", export_path_},
                    {"coordinator", federation_->coordinator_dir()},
                    {"logs", federation_->logs_dir()}};
    CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(
        PosixFileSystem(), options_.json, AsBytes(out.dump(2) + "\n"), 0644));
    return ok;
  }

  const DemoOptions options_;
  const bool terminal_;
  std::string directory_;
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<LocalFederation> federation_;
  std::string export_path_;
};

}  // namespace

absl::StatusOr<bool> RunDemo(const DemoOptions& options) {
  return Demo(options).Run();
}

}  // namespace consilium

// The same round that peers are measured on: a real coordinator process, real
// client processes through the SDK, mTLS and sealing on, training replaced by a
// constant, the average checked bit for bit after every round.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/heap.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/tls13.h"
#include "examples/local/local_federation.h"
#include "tests/bench/bench_json.h"
#include "tests/bench/kernel_rows.h"
#include "tests/bench/round/idle.h"
#include "tests/bench/round/limits.h"
#include "tests/bench/round/round_client.h"
#include "tests/bench/round/workers.h"
#include "tests/bench/spool_fold.h"

namespace consilium::bench {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int kTensors = 64;
constexpr size_t kKeptHeapBytes = size_t{8} << 20;  // as consilium-client
constexpr int kIdle = 1000;
constexpr double kMaxWeight = 1e7;
constexpr double kCryptoBar = 1.5;
constexpr double kBareBar = 2.2;
constexpr double kCoordinatorBar = 256;

struct Case {
  int institutions = 2;
  int64_t payload_mib = 16;
  bool sealing = true;
  // Spools and versions live as long as by default: their space is not there
  // to be used again, and every round writes new files.
  bool keep = false;

  std::string Name() const {
    return Cat("C=", institutions, " P=", payload_mib,
               sealing ? "" : " unsealed", keep ? " kept" : "");
  }
};

struct Result {
  double wall = 0;  // median of rounds 2..R, seconds
  double fold = 0;
  double publish = 0;
  double start_to_first = 0;
  double coordinator_peak_mib = 0;
  double coordinator_cpu = 0;  // per round
  double client_peak_mib = 0;
};

float ValueOf(int client) { return 0.5f + 0.25f * static_cast<float>(client); }
uint64_t ExamplesOf(int client) {
  return static_cast<uint64_t>(100 + 37 * client);
}
std::string NameOf(int client) { return Cat("site-", client); }

absl::StatusOr<Layout> MakeLayout(int64_t payload_mib) {
  std::vector<SlotSpec> slots;
  for (int i = 0; i < kTensors; ++i) {
    SlotSpec slot;
    slot.name = Cat("tensor.", i);
    slot.shape = {payload_mib * kMiB / 4 / kTensors};
    slots.push_back(std::move(slot));
  }
  return Layout::Create(std::move(slots));
}

// One more round of the fold's formula for one element.
float Next(float base, int institutions) {
  double sum = 0;
  int64_t weights = 0;
  for (int i = 0; i < institutions; ++i) {
    const int64_t u =
        *QuantizeWeight(static_cast<double>(ExamplesOf(i)), kMaxWeight);
    sum += static_cast<double>(u) * static_cast<double>(ValueOf(i));
    weights += u;
  }
  return static_cast<float>(static_cast<double>(base) +
                            sum / static_cast<double>(weights));
}

// Every element of the version must have the bits of `expected`.
absl::Status CheckVersion(LocalFederation& federation,
                          const v1::VersionRef& version, int64_t elements,
                          float expected) {
  const int64_t header = static_cast<int64_t>(version.bytes()) - 4 * elements;
  int64_t offset = 0;
  int64_t wrong = 0;
  CONSILIUM_RETURN_IF_ERROR(
      federation.Download(version, [&](std::span<const std::byte> piece) {
        for (size_t i = 0; i + 4 <= piece.size(); i += 4) {
          if (offset + static_cast<int64_t>(i) < header) continue;
          float value;
          std::memcpy(&value, piece.data() + i, 4);
          wrong += value == expected ? 0 : 1;
        }
        offset += static_cast<int64_t>(piece.size());
        return absl::OkStatus();
      }));
  if (wrong == 0) return absl::OkStatus();
  return absl::DataLossError(Cat("version ", version.number(), ": ", wrong,
                                 " of ", elements, " elements are not ",
                                 expected));
}

double MetricOf(const v1::RoundInfo& round, std::string_view name) {
  for (const v1::NamedValue& metric : round.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  return 0;
}

absl::StatusOr<Result> RunCase(const Case& c, int rounds,
                               const std::string& dir) {
  const double started = Now();
  LocalFederationOptions options;
  options.directory = dir;
  options.federation = "bench";
  options.config.sealing = c.sealing;
  options.config.storage.min_free_bytes = 0;
  options.config.limits.enrollments_per_minute_and_address = 0;
  if (!c.keep) {
    // A long run, in which the spools of old rounds make room for new ones.
    options.config.storage.version_retention = 2;
    options.config.storage.spool_retention = absl::ZeroDuration();
    options.config.storage.retention_interval = absl::Seconds(1);
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<LocalFederation> federation,
                             LocalFederation::Create(std::move(options)));
  CONSILIUM_RETURN_IF_ERROR(federation->SetPolicy(
      {{"quorum", Cat(c.institutions)}, {"evaluation.enabled", "false"}}));
  CONSILIUM_ASSIGN_OR_RETURN(const Layout layout, MakeLayout(c.payload_mib));
  std::vector<float> zeros;
  CONSILIUM_RETURN_IF_ERROR(
      federation
          ->ImportVersion(layout,
                          [&](const TensorSlot& slot)
                              -> absl::StatusOr<std::span<const float>> {
                            zeros.assign(static_cast<size_t>(slot.elements),
                                         0.0f);
                            return std::span<const float>(zeros);
                          })
          .status());
  std::vector<std::unique_ptr<Process>> clients;
  for (int i = 0; i < c.institutions; ++i) {
    CONSILIUM_RETURN_IF_ERROR(federation->Enroll(NameOf(i)));
    CONSILIUM_ASSIGN_OR_RETURN(
        std::unique_ptr<Process> client,
        Process::Start(
            {JoinPath(OwnFolder(), "consilium-bench-round"), "--mode=client",
             Cat("--address=", federation->address()),
             Cat("--identity=", federation->InstitutionDir(NameOf(i))),
             Cat("--value=", ValueOf(i)), Cat("--examples=", ExamplesOf(i))},
            JoinPath(federation->logs_dir(), Cat(NameOf(i), ".log"))));
    clients.push_back(std::move(client));
  }
  Result result;
  std::vector<double> walls;
  std::vector<double> folds;
  std::vector<double> publishes;
  float expected = 0;
  double cpu = 0;
  for (int round = 1; round <= rounds; ++round) {
    const double cpu_before = federation->coordinator().usage().cpu_seconds;
    const double begin = Now();
    CONSILIUM_ASSIGN_OR_RETURN(const v1::RoundInfo begun,
                               federation->StartRound());
    CONSILIUM_ASSIGN_OR_RETURN(
        const v1::RoundInfo end,
        federation->WatchRound(begun.round(), {}, absl::Minutes(10)));
    const double wall = Now() - begin;
    if (end.phase() != "promoted") {
      return absl::InternalError(
          Cat("round ", round, " is ", end.phase(), ": ", end.reason()));
    }
    if (round == 1) {
      result.start_to_first = Now() - started;
    } else {
      walls.push_back(wall);
      folds.push_back(MetricOf(end, "aggregate.fold_seconds"));
      publishes.push_back(MetricOf(end, "aggregate.publish_seconds"));
      cpu += federation->coordinator().usage().cpu_seconds - cpu_before;
    }
    expected = Next(expected, c.institutions);
    CONSILIUM_RETURN_IF_ERROR(CheckVersion(*federation, end.candidate(),
                                           layout.total_elements(), expected));
    std::fprintf(stderr, "  round %d: %.2f s\n", round, wall);
  }
  result.wall = Median(walls);
  result.fold = Median(folds);
  result.publish = Median(publishes);
  result.coordinator_cpu = cpu / std::max(1, rounds - 1);
  result.coordinator_peak_mib =
      static_cast<double>(
          federation->coordinator().usage().peak_resident_bytes) /
      static_cast<double>(kMiB);
  for (const auto& client : clients) {
    result.client_peak_mib =
        std::max(result.client_peak_mib,
                 static_cast<double>(client->usage().peak_resident_bytes) /
                     static_cast<double>(kMiB));
  }
  return result;
}

// Seconds to move a round's bytes, the median of `repeats`.
absl::StatusOr<double> RunLimit(const Case& c, bool crypto, int repeats,
                                const std::string& dir) {
  const std::string self = JoinPath(OwnFolder(), "consilium-bench-round");
  const std::string address = Cat("127.0.0.1:", FreePort());
  const std::string flag = crypto ? "--crypto" : "--bare";
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<Process> server,
      Process::Start({self, "--mode=limit-server",
                      Cat("--identity=", JoinPath(dir, "coordinator")),
                      Cat("--address=", address), flag},
                     JoinPath(dir, "logs/limit-server.log")));
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < c.institutions; ++i) {
    CONSILIUM_ASSIGN_OR_RETURN(
        std::unique_ptr<Worker> worker,
        Worker::Start({self, "--mode=limit-client",
                       Cat("--identity=", JoinPath(dir, NameOf(i))),
                       Cat("--address=", address),
                       Cat("--payload-mib=", c.payload_mib), flag}));
    workers.push_back(std::move(worker));
  }
  for (const auto& worker : workers) {
    CONSILIUM_RETURN_IF_ERROR(worker->Hear().status());
  }
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    const double begin = Now();
    for (const auto& worker : workers) {
      CONSILIUM_RETURN_IF_ERROR(worker->Tell("go"));
    }
    for (const auto& worker : workers) {
      CONSILIUM_RETURN_IF_ERROR(worker->Hear().status());
    }
    if (i > 0) seconds.push_back(Now() - begin);  // the first one warms up
  }
  return Median(seconds);
}

absl::Status Measure(const Case& c, int rounds, const std::string& root,
                     Report& report, std::vector<double>* peaks) {
  const std::string row = c.Name();
  std::fprintf(stderr, "%s\n", row.c_str());
  const std::string dir = JoinPath(root, Cat("case-", report.rows().size()));
  CONSILIUM_ASSIGN_OR_RETURN(const Result r, RunCase(c, rounds, dir));
  const int repeats = std::max(3, rounds - 1);
  CONSILIUM_ASSIGN_OR_RETURN(const double bare,
                             RunLimit(c, false, repeats, dir));
  CONSILIUM_ASSIGN_OR_RETURN(const double crypto,
                             RunLimit(c, true, repeats, dir));
  const bool barred = c.sealing && !c.keep;
  report.Add(AtMost(row, "round / crypto", r.wall, "s", crypto,
                    barred ? std::optional<double>(kCryptoBar) : std::nullopt));
  report.Add(AtMost(row, "round / bare", r.wall, "s", bare,
                    barred ? std::optional<double>(kBareBar) : std::nullopt));
  report.Add(ValueAtMost(row, "coordinator peak RSS", r.coordinator_peak_mib,
                         "MiB", kCoordinatorBar));
  report.Add(
      Measured(row, "coordinator CPU per round", r.coordinator_cpu, "s"));
  report.Add(Measured(row, "client peak RSS", r.client_peak_mib, "MiB"));
  const double bytes = static_cast<double>(c.payload_mib * c.institutions);
  report.Add(Measured(row, "bytes up per round", bytes, "MiB"));
  report.Add(Measured(row, "bytes down per round", bytes, "MiB"));
  report.Add(AtMost(row,
                    c.sealing ? "sealed fold, share of the round"
                              : "fold, share of the round",
                    r.fold, "s", r.wall,
                    c.sealing ? std::optional<double>(0.15) : std::nullopt));
  report.Add(Measured(row, "publish (digest, write, sync)", r.publish, "s"));
  if (c.institutions == 2 && c.payload_mib == 16) {
    report.Add(ValueAtMost(row, "coordinator start to first round",
                           r.start_to_first, "s", 3.0));
  }
  if (barred) peaks->push_back(r.coordinator_peak_mib);
  return PosixFileSystem()->RemoveTree(dir);
}

absl::Status MeasureIdle(int count, const std::string& root, Report& report) {
  std::fprintf(stderr, "%d idle institutions\n", count);
  LocalFederationOptions options;
  options.directory = JoinPath(root, "idle");
  options.federation = "bench";
  options.config.storage.min_free_bytes = 0;
  // All of them enrol at once, from this one address.
  options.config.limits.enrollments_per_minute = 0;
  options.config.limits.enrollments_per_minute_and_address = 0;
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<LocalFederation> federation,
                             LocalFederation::Create(std::move(options)));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<Worker> worker,
      Worker::Start({JoinPath(OwnFolder(), "consilium-bench-round"),
                     "--mode=idle", Cat("--address=", federation->address()),
                     Cat("--enrollment=", federation->enrollment_address()),
                     Cat("--identity=", JoinPath(federation->coordinator_dir(),
                                                 "identity/root-ca.pem")),
                     Cat("--institutions=", count)}));
  const double before =
      static_cast<double>(federation->coordinator().usage().resident_bytes);
  for (int i = 0; i < count; ++i) {
    grpc::ClientContext context;
    v1::InviteInstitutionRequest request;
    request.set_name(NameOf(i));
    v1::InviteInstitutionResponse response;
    const grpc::Status invited =
        federation->admin().InviteInstitution(&context, request, &response);
    if (!invited.ok()) return absl::InternalError(invited.error_message());
    CONSILIUM_RETURN_IF_ERROR(worker->Tell(response.token()));
  }
  CONSILIUM_RETURN_IF_ERROR(worker->Hear().status());
  const double each =
      (static_cast<double>(federation->coordinator().usage().resident_bytes) -
       before) /
      count / 1024;
  CONSILIUM_RETURN_IF_ERROR(worker->Tell("go"));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string p99, worker->Hear());
  const std::string row = Cat(count, " idle institutions");
  report.Add(ValueAtMost(row, "coordinator RSS each", each, "KiB", 256));
  report.Add(
      ValueAtMost(row, "control RPC P99", std::atof(p99.c_str()), "ms", 500));
  return absl::OkStatus();
}

// The coordinator's fold alone, on one core: what its share of a round is made
// of.
absl::Status MeasureFold(const std::string& root, Report& report) {
  FoldBenchOptions options;
  options.dir = JoinPath(root, "fold");
  CONSILIUM_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(options.dir));
  const double kernel = AddKernelRows(options, /*all=*/false, &report);
  CONSILIUM_RETURN_IF_ERROR(
      AddSpoolFoldRows(options, kernel, /*all=*/false, &report));
  return PosixFileSystem()->RemoveTree(options.dir);
}

struct Flags {
  std::string mode;
  std::string address, enrollment, identity, json, dir;
  float value = 0;
  uint64_t examples = 0;
  int institutions = 0;
  int64_t payload_mib = 0;
  int rounds = 7;
  int idle = 0;
  bool crypto = false, bare = false;
  std::string sealing = "on";
  bool keep = false;
};

absl::Status Orchestrate(const Flags& flags) {
  char pattern[] = "/tmp/consilium-bench-XXXXXX";
  std::string root = flags.dir;
  if (root.empty()) {
    if (mkdtemp(pattern) == nullptr) {
      return absl::InternalError("cannot make a temporary folder");
    }
    root = pattern;
  }
  Report report("round");
  report.set_quiet(flags.json == "-");
  std::vector<double> peaks;
  absl::Status status;
  if (flags.idle > 0) {
    status = MeasureIdle(flags.idle, root, report);
  } else if (flags.institutions > 0) {
    status = Measure({flags.institutions, flags.payload_mib,
                      flags.sealing == "on", flags.keep},
                     flags.rounds, root, report, &peaks);
  } else {
    const std::vector<Case> cases = {
        {2, 16},          {4, 64},
        {4, 256},         {8, 64},
        {2, 1024},        {4, 64, false},
        {4, 256, false},  {8, 64, false},
        {2, 1024, false}, {4, 256, true, /*keep=*/true}};
    for (const Case& c : cases) {
      if (status.ok()) {
        status = Measure(c, flags.rounds, root, report, &peaks);
      }
    }
    if (status.ok()) {
      const auto [low, high] = std::minmax_element(peaks.begin(), peaks.end());
      report.Add(AtMost("all cases", "coordinator peak RSS, largest / smallest",
                        *high, "MiB", *low, 1.2));
      status = MeasureFold(root, report);
    }
    if (status.ok()) status = MeasureIdle(kIdle, root, report);
  }
  if (flags.dir.empty() && status.ok()) {
    PosixFileSystem()->RemoveTree(root).IgnoreError();
  } else if (!status.ok()) {
    std::fprintf(stderr, "logs are kept in %s\n", root.c_str());
  }
  CONSILIUM_RETURN_IF_ERROR(status);
  return flags.json.empty() ? absl::OkStatus() : report.WriteJson(flags.json);
}

int Main(int argc, char** argv) {
  Flags f;
  CLI::App app("Measures federated rounds. Without case arguments: every row.");
  app.add_option("--institutions", f.institutions, "clients, C");
  app.add_option("--payload-mib", f.payload_mib, "update of each, P");
  app.add_option("--rounds", f.rounds, "rounds; the first one does not count");
  app.add_option("--sealing", f.sealing)->check(CLI::IsMember({"on", "off"}));
  app.add_flag("--keep", f.keep,
               "keep spools and versions as long as by default");
  app.add_option("--json", f.json, "result file, - for standard output");
  app.add_option("--dir", f.dir, "working folder (kept); default: temporary");
  app.add_option("--idle", f.idle,
                 "only: so many institutions that wait for work");
  for (const auto& [name, target] :
       std::map<std::string, std::string*>{{"--mode", &f.mode},
                                           {"--address", &f.address},
                                           {"--enrollment", &f.enrollment},
                                           {"--identity", &f.identity}}) {
    app.add_option(name, *target)->group("");
  }
  app.add_option("--value", f.value)->group("");
  app.add_option("--examples", f.examples)->group("");
  app.add_flag("--crypto", f.crypto)->group("");
  app.add_flag("--bare", f.bare)->group("");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  TuneHeap(kKeptHeapBytes);
  StopDeadlockDetection();
  const absl::Status tls = ConfigureTls13Only();
  if (!tls.ok()) return 1;
  if (f.mode == "client") {
    return RunClient(f.address, f.identity, f.value, f.examples);
  }
  if (f.mode == "limit-server") {
    return RunLimitServer(f.identity, f.address, f.crypto);
  }
  if (f.mode == "limit-client") {
    return RunLimitClient(f.identity, f.address, f.payload_mib * kMiB,
                          f.crypto);
  }
  if (f.mode == "idle") {
    return RunIdle(f.address, f.enrollment, f.identity, f.institutions, 2000);
  }
  if (f.institutions > 0 && f.payload_mib <= 0) {
    std::fprintf(stderr, "--institutions needs --payload-mib\n");
    return 2;
  }
  const absl::Status status = Orchestrate(f);
  if (status.ok()) return 0;
  std::fprintf(stderr, "consilium-bench-round: %s\n",
               std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace consilium::bench

int main(int argc, char** argv) { return consilium::bench::Main(argc, argv); }

// consilium-coordinator --config FILE

#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "consilium/base/heap.h"
#include "consilium/base/strings.h"
#include "consilium/base/version.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/tls13.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/app/server.h"

namespace consilium {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "consilium-coordinator: %s\n",
               std::string(status.message()).c_str());
  return 1;
}

constexpr size_t kKeptHeapBytes = size_t{1} << 20;

// A fold has the spools of its whole cohort open.
void RaiseFileLimit() {
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &files);
}

int Serve(const std::string& path) {
  TuneHeap(kKeptHeapBytes);
  RaiseFileLimit();
  StopDeadlockDetection();
  // Before any thread: every thread inherits the mask, sigwait gets them all.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  const absl::Status tls = ConfigureTls13Only();
  if (!tls.ok()) return Fail(tls);
  const auto config = LoadConfig(path);
  if (!config.ok()) {
    Fail(config.status());
    return 2;
  }
  const auto logger = Logger::Create(config->log);
  if (!logger.ok()) return Fail(logger.status());
  const auto server = CoordinatorServer::Start(*config, logger->get());
  if (!server.ok()) return Fail(server.status());
  for (;;) {
    int received = 0;
    sigwait(&signals, &received);
    if (received != SIGHUP) break;
    // Says itself in the log what came of it.
    (*server)->Reload(LoadConfig(path)).IgnoreError();
  }
  (*server)->Stop();
  return 0;
}

}  // namespace
}  // namespace consilium

int main(int argc, char** argv) {
  CLI::App app(
      "The coordinator of a federation: schedules rounds, takes "
      "sealed uploads, folds them into versions.");
  app.footer(
      "Example:\n  consilium-coordinator --config cards/consilium.toml\n"
      "SIGHUP reads the configuration file and the server certificate anew "
      "and reopens the log; keys that need a restart are named there. "
      "SIGTERM stops cleanly, rounds go on after the next start.");
  app.set_version_flag(
      "--version",
      consilium::Cat("consilium-coordinator ", consilium::SoftwareVersion()));
  std::string config;
  app.add_option("--config", config, "configuration file, from consilium init")
      ->required()
      ->check(CLI::ExistingFile);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return consilium::Serve(config);
}

// consilium-client: one institution of a federation.

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "client_sdk/app/commands.h"
#include "consilium/base/heap.h"
#include "consilium/base/strings.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/secret_bytes.h"
#include "consilium/secure/tls13.h"

namespace consilium::client::internal {
namespace {

constexpr size_t kKeptHeapBytes = size_t{8} << 20;

// SIGINT and SIGTERM cancel; a second one ends the process where it stands,
// which loses nothing (the outbox).
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    // Before any other thread starts, so that all inherit it.
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
    std::thread([this] { Work(); }).detach();
  }
  CancelToken token() const { return stop_.token(); }

 private:
  void Work() {
    int number = 0;
    sigwait(&set_, &number);
    stop_.Cancel(number == SIGINT ? "interrupted" : "terminated");
    sigwait(&set_, &number);
    _exit(128 + number);
  }

  sigset_t set_;
  CancelSource stop_;
};

int Main(int argc, char** argv) {
  CLI::App app("One institution of a Consilium federation.");
  app.name("consilium-client");
  app.set_version_flag("--version", "consilium-client " CONSILIUM_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 1 failed, 2 wrong use or configuration, 3 no "
      "connection or\nidentity not accepted, 4 timeout.");

  EnrollOptions enroll_options;
  enroll_options.directory = "consilium-client";
  bool json = false;
  CLI::App* enroll = app.add_subcommand(
      "enroll", "Make a key here and trade a token for a certificate");
  enroll
      ->add_option("--coordinator", enroll_options.coordinator,
                   "host:port of the coordinator's enrolment listener")
      ->required();
  enroll
      ->add_option("--token", enroll_options.token,
                   "one-time token; \"-\" reads it from standard input, so "
                   "that it stays out of the shell's history")
      ->required();
  enroll
      ->add_option("--ca-fingerprint", enroll_options.ca_fingerprint,
                   "SHA-256 of the federation's root CA")
      ->required();
  enroll
      ->add_option("--dir", enroll_options.directory,
                   "where the identity goes; made when missing")
      ->capture_default_str();
  enroll->add_option("--proxy", enroll_options.proxy,
                     "HTTP CONNECT proxy: URL or \"none\"; default: the "
                     "environment's");
  enroll->add_option("--server-name", enroll_options.server_name,
                     "name in the server's certificate, if not the host");
  enroll->add_flag("--json", json, "print JSON");
  enroll->footer(
      "Example:\n  consilium-client enroll --coordinator fed.example:8444 "
      "--token cst1-... \\\n      --ca-fingerprint 3f:9a:... --dir "
      "/etc/consilium");

  std::string config_path;
  uint64_t rounds = 0;
  const auto with_config = [&](CLI::App* command) {
    command
        ->add_option("--config", config_path,
                     "consilium-client.toml, as `enroll` wrote it")
        ->required();
    return command;
  };
  CLI::App* run = with_config(app.add_subcommand(
      "run", "Take part: wait for rounds, train, upload, evaluate"));
  run->add_option("--rounds", rounds,
                  "end after this many contributions; 0: never");
  run->footer(
      "Example:\n  consilium-client run --config "
      "/etc/consilium/consilium-client.toml");
  CLI::App* status = with_config(
      app.add_subcommand("status", "Show identity, connection and outbox"));
  status->add_flag("--json", json, "print JSON");
  status->footer(
      "Example:\n  consilium-client status --config "
      "/etc/consilium/consilium-client.toml --json");
  CLI::App* receipts = with_config(app.add_subcommand(
      "receipts", "Show what was handed in, each receipt checked"));
  receipts->add_flag("--json", json, "print JSON");
  receipts->footer(
      "Example:\n  consilium-client receipts --config "
      "/etc/consilium/consilium-client.toml");
  CLI::App* renew = with_config(
      app.add_subcommand("renew", "Get a new key and certificate now"));
  renew->add_flag("--json", json, "print JSON");
  renew->footer(
      "Example:\n  consilium-client renew --config "
      "/etc/consilium/consilium-client.toml");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 tells of the missing verb before the word it does not know.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    if (error.get_exit_code() == 0 || unknown.empty()) {
      return app.exit(error) == 0 ? 0 : 2;
    }
    std::cerr << "unknown here: " << unknown.front()
              << "\nRun with --help for more information.\n";
    return 2;
  }

  TuneHeap(kKeptHeapBytes);
  StopDeadlockDetection();
  const Signals* const signals = new Signals;  // its thread outlives main()
  const CancelToken cancel = signals->token();
  absl::Status result = ConfigureTls13Only();
  if (result.ok() && *enroll) {
    if (enroll_options.token == "-") {
      std::getline(std::cin, enroll_options.token);
    }
    enroll_options.on_retry = [](const absl::Status& error,
                                 absl::Duration pause) {
      std::cerr << "consilium-client: " << StdView(error.message())
                << "; trying again in " << FormatDuration(pause) << "\n";
    };
    enroll_options.software = "consilium-client " CONSILIUM_VERSION;
    result = EnrollCommand(enroll_options, json, std::cout, cancel);
    WipeString(enroll_options.token);
  } else if (result.ok()) {
    absl::StatusOr<ClientConfig> config =
        LoadConfig(PosixFileSystem(), config_path);
    if (!config.ok()) {
      result = absl::InvalidArgumentError(config.status().message());
    } else if (*run) {
      result = RunCommand(*std::move(config), rounds, cancel);
    } else if (*receipts) {
      result = ReceiptsCommand(*config, json, std::cout);
    } else if (*status) {
      result = StatusCommand(*config, json, std::cout, cancel);
    } else {
      result = RenewCommand(*config, json, std::cout, cancel);
    }
  }
  if (!result.ok()) {
    std::cerr << "consilium-client: "
              << StdView(absl::StatusCodeToString(result.code())) << ": "
              << StdView(result.message()) << "\n";
  }
  return ExitCodeFor(result);
}

}  // namespace
}  // namespace consilium::client::internal

int main(int argc, char** argv) {
  return consilium::client::internal::Main(argc, argv);
}

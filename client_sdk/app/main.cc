// consilium-client enroll | run | renew

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "client_sdk/app/config.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/client/enroll.h"
#include "consilium/secure/tls13.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#ifdef CONSILIUM_HAS_TRAINING
#include "client_sdk/app/institution.h"
#endif

namespace consilium::client {
namespace {

enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kConnection = 3, kTimeout = 4 };

int ExitFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kConnection;
    case absl::StatusCode::kDeadlineExceeded:
      return kTimeout;
    default:
      return kFailed;
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "consilium-client: %s\n",
               std::string(status.message()).c_str());
  return ExitFor(status);
}

// Cancels on SIGTERM and SIGINT. Every thread inherits the mask.
class StopOnSignal {
 public:
  StopOnSignal() {
    sigemptyset(&signals_);
    for (const int s : {SIGTERM, SIGINT, SIGUSR2}) sigaddset(&signals_, s);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] {
      int received = 0;
      sigwait(&signals_, &received);
      source_.Cancel("stopped by a signal");
    });
  }
  ~StopOnSignal() {
    pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
  }
  CancelToken token() const { return source_.token(); }

 private:
  sigset_t signals_;
  CancelSource source_;
  std::thread thread_;
};

int Enrol(const EnrollOptions& options, bool json) {
  const auto enrolled = Enroll(options);
  if (!enrolled.ok()) return Fail(enrolled.status());
  if (json) {
    std::printf(
        "{\"federation\":\"%s\",\"institution\":\"%s\",\"uri\":\"%s\","
        "\"coordinator\":\"%s\",\"certificate_serial\":\"%s\","
        "\"config\":\"%s\"}\n",
        enrolled->federation.c_str(), enrolled->institution.c_str(),
        enrolled->uri.c_str(), enrolled->service_address.c_str(),
        enrolled->certificate_serial.c_str(), enrolled->config_path.c_str());
    return kOk;
  }
  std::printf(
      "Enrolled as %s.\nThe key was made here and stays here. The "
      "coordinator's "
      "signing key is pinned.\nNext: look at %s, then\n"
      "  consilium-client run --config %s\n",
      enrolled->uri.c_str(), enrolled->config_path.c_str(),
      enrolled->config_path.c_str());
  return kOk;
}

#ifdef CONSILIUM_HAS_TRAINING
void SetUpLog(const ClientConfig& config) {
  auto logger = spdlog::stderr_logger_mt("client");
  logger->set_level(spdlog::level::from_str(
      config.log_level == "warning" ? "warn" : config.log_level));
  logger->set_pattern(
      config.log_format == "json"
          ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
          : "%Y-%m-%dT%H:%M:%S.%eZ %-5l %v",
      spdlog::pattern_time_type::utc);
  spdlog::set_default_logger(std::move(logger));
}

std::string JsonText(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

int Run(const std::string& path, int64_t rounds) {
  const auto config = LoadClientConfig(path);
  if (!config.ok()) {
    Fail(config.status());
    return kUsage;
  }
  SetUpLog(*config);
  InstitutionOptions options;
  options.config = *config;
  options.rounds = rounds;
  const bool json = config->log_format == "json";
  options.log = [json](std::string_view level, uint64_t round,
                       std::string_view text) {
    const auto severity = level == "error"     ? spdlog::level::err
                          : level == "warning" ? spdlog::level::warn
                                               : spdlog::level::info;
    spdlog::log(
        severity, "{}",
        json ? Cat("\"round\":", round, ",\"text\":\"", JsonText(text), "\"")
             : Cat(round == 0 ? "" : Cat("[round=", round, "] "), text));
  };
  const StopOnSignal stop;
  const absl::Status status = RunInstitution(options, stop.token());
  return status.ok() ? kOk : Fail(status);
}
#else
int Run(const std::string&, int64_t) {
  std::fprintf(stderr,
               "consilium-client: this build has no trainer; build with "
               "-DCONSILIUM_WITH_TRAINING=ON (`./run build` does), or link "
               "the SDK into your own training code\n");
  return kFailed;
}
#endif

int RenewNow(const std::string& path) {
  const auto config = LoadClientConfig(path);
  if (!config.ok()) {
    Fail(config.status());
    return kUsage;
  }
  const auto client = Client::Connect(config->client);
  if (!client.ok()) return Fail(client.status());
  const absl::Status renewed = (*client)->Renew();
  if (!renewed.ok()) return Fail(renewed);
  std::printf("renewed; valid until %s\n",
              FormatTime((*client)->info().certificate_not_after).c_str());
  return kOk;
}

int Main(int argc, char** argv) {
  CLI::App app("An institution's side of a federation.");
  app.set_version_flag("--version", "consilium-client 0.1.0");
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 connection or identity, "
      "4 timeout.");

  EnrollOptions enroll;
  bool json = false;
  CLI::App* const enrol =
      app.add_subcommand("enroll", "Trade a one-time token for a certificate");
  enrol
      ->add_option("--coordinator", enroll.coordinator,
                   "host:port of the enrolment listener")
      ->required();
  enrol
      ->add_option("--token", enroll.token,
                   "from `consilium institution invite`")
      ->required();
  enrol
      ->add_option("--ca-fingerprint", enroll.ca_fingerprint,
                   "SHA-256 of the root CA, told over another channel")
      ->required();
  enrol->add_option("--dir", enroll.directory, "where the identity goes")
      ->required();
  enrol->add_option("--proxy", enroll.proxy,
                    "HTTP proxy, or none; default: the environment's");
  enrol->add_option("--server-name", enroll.server_name,
                    "name in the server's certificate, behind a tunnel");
  enrol->add_flag("--json", json, "one JSON document");
  enrol->footer(
      "Example:\n  consilium-client enroll --coordinator fed.example.org:8444 "
      "--token cst1-... --ca-fingerprint 9f86... --dir bank-a");

  std::string config;
  int64_t rounds = 0;
  CLI::App* const run =
      app.add_subcommand("run", "Take part: train, submit, evaluate");
  run->add_option("--config", config, "consilium-client.toml")
      ->required()
      ->check(CLI::ExistingFile);
  run->add_option("--rounds", rounds, "stop after so many contributions")
      ->check(CLI::NonNegativeNumber);
  run->footer(
      "Example:\n  consilium-client run --config "
      "bank-a/consilium-client.toml");
  CLI::App* const renew =
      app.add_subcommand("renew", "Get a new certificate now");
  renew->add_option("--config", config, "consilium-client.toml")
      ->required()
      ->check(CLI::ExistingFile);
  renew->footer(
      "Example:\n  consilium-client renew --config "
      "bank-a/consilium-client.toml");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (const absl::Status tls = ConfigureTls13Only(); !tls.ok()) {
    return Fail(tls);
  }
  if (enrol->parsed()) return Enrol(enroll, json);
  if (run->parsed()) return Run(config, rounds);
  return RenewNow(config);
}

}  // namespace
}  // namespace consilium::client

int main(int argc, char** argv) { return consilium::client::Main(argc, argv); }

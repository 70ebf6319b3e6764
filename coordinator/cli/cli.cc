#include "coordinator/cli/cli.h"

#include <utility>

#include "consilium/base/strings.h"
#include "coordinator/cli/json.h"
#include "coordinator/cli/offline_admin.h"
#include "coordinator/cli/remote_admin.h"
#include "coordinator/rpc/own_certificates.h"

namespace consilium {
namespace {

// Before a certificate's end, but never more than a third of its life.
constexpr absl::Duration kTellBefore = absl::Hours(24 * 30);

absl::StatusOr<std::string> ConfigPath(const GlobalOptions& options,
                                       const CliEnvironment& env) {
  if (!options.config.empty()) return options.config;
  if (const auto path = env.variables("CONSILIUM_CONFIG");
      path.has_value() && !path->empty()) {
    return *path;
  }
  const auto home = env.variables("HOME");
  if (home.has_value() && !home->empty()) {
    return JoinPath(*home, ".config/consilium/config.toml");
  }
  return absl::NotFoundError(
      "there is no HOME to look for a configuration in; give --config FILE");
}

}  // namespace

absl::StatusOr<AdminSession> ConnectAdmin(const GlobalOptions& options,
                                          const CliEnvironment& env) {
  if (!options.offline.empty()) {
    return OpenOffline(env.fs, options.offline, env.clock->Now());
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::string path, ConfigPath(options, env));
  auto config = LoadOperatorConfig(env.fs, path);
  if (absl::IsNotFound(config.status())) {
    return absl::NotFoundError(
        Cat("no configuration at ", path,
            "; give --config DIR/operator/config.toml (made by `consilium "
            "init DIR`), set CONSILIUM_CONFIG, or read a stopped coordinator "
            "with --offline DIR"));
  }
  CONSILIUM_RETURN_IF_ERROR(config.status());
  if (!options.coordinator.empty()) config->coordinator = options.coordinator;
  return ConnectRemote(*config, options.timeout_seconds, env.fs,
                       env.clock->Now(), env.variables);
}

Cli::Cli(const CliEnvironment& environment) : env_(environment) {}

Style Cli::style() const {
  Style style;
  const auto no_colour = env_.variables("NO_COLOR");
  style.colour =
      env_.terminal && (!no_colour.has_value() || no_colour->empty());
  style.width = env_.width;
  style.now = env_.clock->Now();
  style.zone = env_.zone;
  return style;
}

absl::StatusOr<AdminSession*> Cli::Session() {
  if (!session_.has_value()) {
    absl::StatusOr<AdminSession> session = env_.connect(options_, env_);
    if (!session.ok()) {
      connect_failed_ = options_.offline.empty();
      return session.status();
    }
    session_ = *std::move(session);
    TellOfRenewal();
  }
  return &*session_;
}

void Cli::TellOfRenewal() {
  if (!session_->own.has_value() || renews) return;
  const CertificateInfo& own = *session_->own;
  const absl::Time now = env_.clock->Now();
  if (now < RenewFrom(own.not_before, own.not_after, kTellBefore)) return;
  err() << "consilium: your certificate ends "
        << style().When(absl::ToUnixMicros(own.not_after))
        << "; run `consilium cert renew`\n";
}

void Cli::PrintJson(const google::protobuf::Message& message) {
  PrintJson(MessageToJson(message));
}
void Cli::PrintJson(std::string_view json) {
  out() << IndentJson(json) << "\n";
}

absl::Status Cli::Show(const google::protobuf::Message& message,
                       absl::FunctionRef<void(std::ostream&)> text) {
  if (json()) {
    PrintJson(message);
  } else {
    text(out());
  }
  return absl::OkStatus();
}

bool Cli::Confirmed(const Confirmation& confirmation, std::string_view action,
                    const std::vector<std::string>& would) {
  if (confirmation.yes) return true;
  if (json()) {
    PrintJson(JsonObject()
                  .Bool("dry_run", true)
                  .Text("action", action)
                  .Texts("would", would)
                  .ToString());
    return false;
  }
  out() << action << " would:\n";
  for (const std::string& line : would) out() << "  - " << line << "\n";
  out() << "Nothing was changed. Add --yes to do it.\n";
  return false;
}

absl::StatusOr<std::pair<std::string, std::string>> SplitSetting(
    const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(
        Cat("setting ", Quoted(text), " must be KEY=VALUE"));
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

absl::Status AddSettings(const std::vector<std::string>& settings,
                         google::protobuf::Map<std::string, std::string>* out) {
  for (const std::string& text : settings) {
    CONSILIUM_ASSIGN_OR_RETURN(const auto setting, SplitSetting(text));
    if (!out->insert({setting.first, setting.second}).second) {
      return absl::InvalidArgumentError(
          Cat("setting ", Quoted(setting.first), " is given twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> WholeSeconds(std::string_view option,
                                      const std::string& text) {
  const auto duration = ParseDuration(text);
  if (!duration.ok()) return Annotate(duration.status(), option);
  if (*duration < absl::Seconds(1) ||
      *duration != absl::Trunc(*duration, absl::Seconds(1))) {
    return absl::InvalidArgumentError(
        Cat(option, " is ", Quoted(text),
            ", must be whole seconds and at least 1s"));
  }
  return static_cast<uint64_t>(absl::ToInt64Seconds(*duration));
}

std::string FormatMetrics(
    const google::protobuf::RepeatedPtrField<v1::NamedValue>& metrics,
    std::string_view prefix, int limit) {
  std::string out;
  for (const v1::NamedValue& metric : metrics) {
    const std::string_view name = metric.name();
    if (name.substr(0, prefix.size()) != prefix) continue;
    if (limit-- == 0) return out + ", ...";
    CatInto(out, out.empty() ? "" : ", ", name.substr(prefix.size()), " ",
            FormatNumber(metric.value()));
  }
  return out;
}

std::string FormatVersion(const v1::VersionRef& version) {
  return Cat(version.number(), " (", ShortDigest(version.digest()), ", ",
             FormatBytes(version.bytes()), ")");
}

}  // namespace consilium

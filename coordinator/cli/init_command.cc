// init

#include <memory>

#include "consilium/base/strings.h"
#include "coordinator/app/init.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/json.h"

namespace consilium {
namespace {

struct Args {
  InitOptions options;
  std::string listen;
  std::string enrollment_listen;
  std::string metrics_listen;
  std::string sealing = "on";
};

absl::Status SetAddress(const char* option, const std::string& text,
                        std::string* to) {
  if (text.empty()) return absl::OkStatus();
  const auto address = HostPort::Parse(text);
  if (!address.ok()) return Annotate(address.status(), option);
  *to = text;
  return absl::OkStatus();
}

absl::Status Init(Cli& cli, const Args& args) {
  InitOptions options = args.options;
  if (options.directory.empty()) options.directory = cli.options().offline;
  if (options.directory.empty()) {
    return absl::InvalidArgumentError("name the directory to make");
  }
  auto& listen = options.config.listen;
  CONSILIUM_RETURN_IF_ERROR(
      SetAddress("--listen", args.listen, &listen.address));
  CONSILIUM_RETURN_IF_ERROR(SetAddress("--enrollment-listen",
                                       args.enrollment_listen,
                                       &listen.enrollment_address));
  if (args.metrics_listen == "off") {
    listen.metrics_address.clear();
  } else {
    CONSILIUM_RETURN_IF_ERROR(SetAddress(
        "--metrics-listen", args.metrics_listen, &listen.metrics_address));
  }
  options.config.sealing = args.sealing == "on";
  CONSILIUM_ASSIGN_OR_RETURN(const InitResult result,
                             InitFederation(options, cli.env().clock->Now(),
                                            cli.env().fs, cli.env().random));
  if (cli.json()) {
    cli.PrintJson(JsonObject()
                      .Text("federation", options.federation)
                      .Text("directory", options.directory)
                      .Text("config", result.config_path)
                      .Text("operator_config", result.operator_config_path)
                      .Text("offline_key", result.offline_key_path)
                      .Text("ca_fingerprint", result.root_fingerprint)
                      .Bool("sealing", options.config.sealing)
                      .ToString());
    return absl::OkStatus();
  }
  std::ostream& out = cli.out();
  Fields()
      .Add("federation", options.federation)
      .Add("directory", options.directory)
      .Add("configuration", result.config_path)
      .Add("operator", result.operator_config_path)
      .Add("CA fingerprint", result.root_fingerprint)
      .Add("sealing", options.config.sealing
                          ? "on"
                          : "off: uploads lie on the disk unencrypted")
      .Print(out, cli.style());
  out << "\nNext:\n"
      << "  1. Move " << result.offline_key_path
      << " off this machine; it is needed only to renew the issuing CA.\n"
      << "  2. consilium-coordinator --config " << result.config_path << "\n"
      << "  3. export CONSILIUM_CONFIG="
      << (options.directory.front() == '/' ? "" : "$PWD/")
      << result.operator_config_path << "\n"
      << "     consilium version import FILE --layout FILE\n"
      << "     consilium institution invite NAME\n"
      << "     consilium round start\n";
  return absl::OkStatus();
}

}  // namespace

void AddInitCommand(CommandGroup root, Cli& cli) {
  const auto args = std::make_shared<Args>();
  root.Verb("init",
            "Make a new federation: certificates, keys, configuration, empty "
            "store",
            "consilium init cards --name cards --host fl.example.org")
      .OptionalArgument("DIR", &args->options.directory,
                        "a new or empty directory")
      .Option("--name", &args->options.federation, "NAME",
              "the federation's: 1 to 63 of a-z, 0-9 and '-'")
      .Required()
      .Option("--host", &args->options.hosts, "HOST",
              "DNS name or address that institutions use, for the server's "
              "certificate; repeatable, the first is told to operators. "
              "localhost is always in it")
      .Option("--listen", &args->listen, "HOST:PORT",
              "for institutions and operators (default 0.0.0.0:8443)")
      .Option("--enrollment-listen", &args->enrollment_listen, "HOST:PORT",
              "for enrolment (default 0.0.0.0:8444)")
      .Option("--metrics-listen", &args->metrics_listen, "HOST:PORT",
              "for /metrics, or off (default 127.0.0.1:9464)")
      .Option("--operator", &args->options.operator_name, "NAME",
              "of the first operator (default admin)")
      .Option("--sealing", &args->sealing, "on|off",
              "seal uploads end to end (default on)")
      .OneOf({"on", "off"})
      .Action(cli, [&cli, args] { return Init(cli, *args); });
}

}  // namespace consilium

#include "coordinator/cli/command.h"

#include "CLI/CLI.hpp"
#include "consilium/base/strings.h"
#include "consilium/base/version.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/json.h"

namespace consilium {
namespace {

CLI::Option* Last(CLI::App* app) {
  const std::vector<CLI::Option*> options = app->get_options();
  CONSILIUM_CHECK(!options.empty());
  return options.back();
}

// CLI11 would read "-1" as 2^64 - 1.
CLI::Validator NotNegative() {
  return CLI::Validator(
      [](std::string& text) {
        return text.empty() || text.front() == '-'
                   ? std::string("must be a whole number, not negative")
                   : std::string();
      },
      "");
}

void AddGlobalOptions(CLI::App& app, GlobalOptions& to) {
  app.add_option("--config", to.config,
                 "operator/config.toml of `consilium init` (default "
                 "$CONSILIUM_CONFIG, then ~/.config/consilium/config.toml)")
      ->type_name("FILE");
  app.add_option("--coordinator", to.coordinator,
                 "address, instead of the file's")
      ->type_name("HOST:PORT");
  app.add_option("--offline", to.offline,
                 "the directory of a coordinator on this host, instead of a "
                 "connection: read its store while it is stopped, renew its "
                 "certificates")
      ->type_name("DIR");
  app.add_flag("--json", to.json, "one JSON document instead of text");
  app.add_option("--timeout", to.timeout_seconds,
                 "give up after this time (default 30 for short calls, none "
                 "for long ones)")
      ->type_name("SECONDS")
      ->check(CLI::Range(uint64_t{1}, uint64_t{366 * 86400}));
}

// The error for people and, with --json, for programs. Returns the exit code.
int Report(Cli& cli, const absl::Status& status) {
  if (status.ok()) {
    return cli.answer_is_bad() ? kExitFailed.code : kExitOk.code;
  }
  const int code =
      cli.connect_failed() ? kExitConnection.code : ExitCodeFor(status);
  if (cli.json()) {
    const std::string error =
        JsonObject()
            .Text("code", StdView(absl::StatusCodeToString(status.code())))
            .Text("message", StdView(status.message()))
            .Number("exit_code", static_cast<uint64_t>(code))
            .ToString();
    if (cli.json_lines) {
      cli.out() << JsonObject()
                       .Text("event", "error")
                       .Bool("terminal", true)
                       .Raw("error", error)
                       .ToString()
                << "\n";
    } else {
      cli.PrintJson(JsonObject().Raw("error", error).ToString());
    }
  }
  cli.err() << "consilium: " << StdView(status.message()) << "\n";
  return code;
}

}  // namespace

Command& Command::Argument(const char* name, std::string* to,
                           const char* help) {
  app_->add_option(name, *to, help)->required();
  return *this;
}
Command& Command::Argument(const char* name, uint64_t* to, const char* help) {
  app_->add_option(name, *to, help)
      ->required()
      ->type_name("")
      ->check(NotNegative());
  return *this;
}
Command& Command::Argument(const char* name, std::vector<std::string>* to,
                           const char* help) {
  app_->add_option(name, *to, help)->required()->type_name("");
  return *this;
}
Command& Command::OptionalArgument(const char* name, uint64_t* to,
                                   const char* help) {
  app_->add_option(name, *to, help)->type_name("")->check(NotNegative());
  return *this;
}
Command& Command::OptionalArgument(const char* name, std::string* to,
                                   const char* help) {
  app_->add_option(name, *to, help)->type_name("");
  return *this;
}
Command& Command::Option(const char* name, std::string* to, const char* value,
                         const char* help) {
  app_->add_option(name, *to, help)->type_name(value);
  return *this;
}
Command& Command::Option(const char* name, uint64_t* to, const char* value,
                         const char* help) {
  app_->add_option(name, *to, help)->type_name(value)->check(NotNegative());
  return *this;
}
Command& Command::Option(const char* name, std::vector<std::string>* to,
                         const char* value, const char* help) {
  // One value each, or the option would swallow the arguments after it.
  app_->add_option(name, *to, help)->type_name(value)->expected(1)->take_all();
  return *this;
}
Command& Command::Flag(const char* name, bool* to, const char* help) {
  app_->add_flag(name, *to, help);
  return *this;
}
Command& Command::Required() {
  Last(app_)->required();
  return *this;
}
Command& Command::OneOf(const std::vector<std::string>& words) {
  Last(app_)->check(CLI::IsMember(words));
  return *this;
}
Command& Command::Reason(std::string* to) {
  return Option("--reason", to, "TEXT", "why, for the audit log");
}
Command& Command::Destructive(Confirmation* to) {
  Flag("--yes", &to->yes, "do it; without this, only say what would happen");
  return Reason(&to->reason);
}
void Command::Action(Cli& cli, std::function<absl::Status()> action) {
  app_->callback([&cli, action = std::move(action)] { cli.action = action; });
}

CommandGroup CommandGroup::Group(const char* name, const char* help) {
  CLI::App* const app = app_->add_subcommand(name, help);
  app->require_subcommand(1);
  app->fallthrough();
  return CommandGroup(app);
}
Command CommandGroup::Verb(const char* name, const char* help,
                           const char* example) {
  CLI::App* const app = app_->add_subcommand(name, help);
  app->fallthrough();  // global options may follow the verb
  app->footer(Cat("Example:\n  ", example));
  return Command(app);
}

int RunCli(const std::vector<std::string>& args,
           const CliEnvironment& environment) {
  Cli cli(environment);
  CLI::App app("Runs a federation: institutions, rounds, versions.",
               "consilium");
  app.require_subcommand(1);
  app.set_version_flag("--version", Cat("consilium ", SoftwareVersion()));
  app.footer(Cat(ExitCodeHelp(),
                 "\nExamples:\n"
                 "  consilium init cards --name cards --host fl.example.org\n"
                 "  consilium institution invite bank-a\n"
                 "  consilium round start --reason \"first\"\n"));
  AddGlobalOptions(app, cli.options());
  const CommandGroup root(&app);
  AddInitCommand(root, cli);
  AddStatusCommands(root, cli);
  AddFederationCommands(root, cli);
  AddInstitutionCommands(root, cli);
  AddOperatorCommands(root, cli);
  AddRoundCommands(root, cli);
  AddContributionCommands(root, cli);
  AddVersionCommands(root, cli);
  AddAdapterCommands(root, cli);
  AddScheduleCommands(root, cli);
  AddCertificateCommands(root, cli);
  AddDatabaseCommands(root, cli);
  AddAuditCommands(root, cli);
  AddCompletionCommand(app, cli);
  try {
    // CLI11 takes the words in reverse.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      app.exit(error, cli.out(), cli.err());
      return kExitOk.code;
    }
    // CLI11 tells of the missing verb before the word it does not know.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    return Report(
        cli, absl::InvalidArgumentError(
                 Cat(unknown.empty() ? std::string(error.what())
                                     : Cat("unknown here: ", unknown.front()),
                     "\nRun with --help for usage.")));
  }
  const absl::Status status =
      cli.action ? cli.action() : absl::InternalError("the verb has no action");
  cli.out().flush();
  return Report(cli, status);
}

}  // namespace consilium

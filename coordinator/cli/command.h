// The tree of commands. A thin face of CLI11, so that only command.cc and
// completion.cc compile it, and every verb has an example.

#ifndef CONSILIUM_COORDINATOR_CLI_COMMAND_H_
#define CONSILIUM_COORDINATOR_CLI_COMMAND_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/cli/cli.h"

namespace CLI {
class App;
}

namespace consilium {

// A verb with its arguments. Targets must outlive parsing: keep them in a
// shared struct that the action captures. A handle; copies mean the same verb.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  // Positional, in order; required unless said otherwise.
  Command& Argument(const char* name, std::string* to, const char* help);
  Command& Argument(const char* name, uint64_t* to, const char* help);
  Command& Argument(const char* name, std::vector<std::string>* to,
                    const char* help);
  Command& OptionalArgument(const char* name, uint64_t* to, const char* help);
  Command& OptionalArgument(const char* name, std::string* to,
                            const char* help);
  // "--name"; `value` is the word for its value in the help text.
  Command& Option(const char* name, std::string* to, const char* value,
                  const char* help);
  Command& Option(const char* name, uint64_t* to, const char* value,
                  const char* help);
  Command& Option(const char* name, std::vector<std::string>* to,
                  const char* value, const char* help);  // repeatable
  Command& Flag(const char* name, bool* to, const char* help);
  // The option named last must be there.
  Command& Required();
  // The option or argument named last takes one of these words.
  Command& OneOf(const std::vector<std::string>& words);
  Command& Reason(std::string* to);
  // --yes and --reason.
  Command& Destructive(Confirmation* to);

  void Action(Cli& cli, std::function<absl::Status()> action);

 private:
  CLI::App* app_;
};

// A group of verbs ("round"), or the root.
class CommandGroup {
 public:
  explicit CommandGroup(CLI::App* app) : app_(app) {}
  CommandGroup Group(const char* name, const char* help);
  Command Verb(const char* name, const char* help, const char* example);

 private:
  CLI::App* app_;
};

// completion.cc: `consilium completion SHELL`, from the tree of `root`.
void AddCompletionCommand(CLI::App& root, Cli& cli);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_COMMAND_H_

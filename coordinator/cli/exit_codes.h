// What the `consilium` command returns to its caller.

#ifndef CONSILIUM_COORDINATOR_CLI_EXIT_CODES_H_
#define CONSILIUM_COORDINATOR_CLI_EXIT_CODES_H_

#include <string>

#include "absl/status/status.h"

namespace consilium {

struct ExitCode {
  int code;
  const char* meaning;
};

// The whole table; --help prints it. Scripts rely on the numbers.
inline constexpr ExitCode kExitOk = {0, "done"};
inline constexpr ExitCode kExitFailed = {
    1, "refused or failed; a check found something"};
inline constexpr ExitCode kExitUsage = {2, "wrong command line or value"};
inline constexpr ExitCode kExitConnection = {
    3, "no connection, or the identity is not accepted"};
inline constexpr ExitCode kExitTimeout = {4, "--timeout passed"};
inline constexpr ExitCode kExitCodes[] = {kExitOk, kExitFailed, kExitUsage,
                                          kExitConnection, kExitTimeout};

// Marks an error that came from connecting, or from being refused as oneself:
// a file that may not be read has the same codes. Annotate() keeps the mark.
absl::Status ConnectionError(absl::Status status);

// INVALID_ARGUMENT: usage. DEADLINE_EXCEEDED: timeout. What is marked:
// connection. Other errors: failed.
int ExitCodeFor(const absl::Status& status);

std::string ExitCodeHelp();

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_EXIT_CODES_H_

#include "coordinator/cli/exit_codes.h"

#include "consilium/base/strings.h"

namespace consilium {

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk.code;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage.code;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kExitConnection.code;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitTimeout.code;
    default:
      return kExitFailed.code;
  }
}

std::string ExitCodeHelp() {
  std::string out = "Exit codes:\n";
  for (const ExitCode& exit : kExitCodes) {
    CatInto(out, "  ", exit.code, "  ", exit.meaning, "\n");
  }
  return out;
}

}  // namespace consilium

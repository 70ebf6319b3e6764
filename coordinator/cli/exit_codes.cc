#include "coordinator/cli/exit_codes.h"

#include "absl/strings/cord.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr char kMark[] = "consilium/connection";

}  // namespace

absl::Status ConnectionError(absl::Status status) {
  if (!status.ok()) status.SetPayload(kMark, absl::Cord());
  return status;
}

int ExitCodeFor(const absl::Status& status) {
  if (status.GetPayload(kMark).has_value()) return kExitConnection.code;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk.code;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage.code;
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

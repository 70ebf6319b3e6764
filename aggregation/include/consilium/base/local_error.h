// Errors of this machine: of its disk, its history, its limits. Whoever asked
// over the network did nothing wrong, cannot mend it, and should not read paths
// of ours in it; by the code alone such an error is not told from an answer.
#ifndef CONSILIUM_BASE_LOCAL_ERROR_H_
#define CONSILIUM_BASE_LOCAL_ERROR_H_

#include "absl/status/status.h"

namespace consilium {

// Marks an error as such; Annotate() keeps the mark. An OK status stays OK.
absl::Status LocalError(absl::Status status);
bool IsLocalError(const absl::Status& status);

// The same, where a volume is full or a quota used up: it goes on once somebody
// made room. RESOURCE_EXHAUSTED alone may also mean memory or open files.
absl::Status NoSpaceError(absl::Status status);
bool IsNoSpaceError(const absl::Status& status);

}  // namespace consilium

#endif  // CONSILIUM_BASE_LOCAL_ERROR_H_

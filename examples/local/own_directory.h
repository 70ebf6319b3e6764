// A directory that a program fills anew on each run.

#ifndef CONSILIUM_EXAMPLES_LOCAL_OWN_DIRECTORY_H_
#define CONSILIUM_EXAMPLES_LOCAL_OWN_DIRECTORY_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "consilium/base/file.h"

namespace consilium {

// Makes `directory`, or empties one that an earlier run left, finished or not:
// what this made carries a file `marker`, and of that only entries for which
// `is_ours` holds are removed. Nobody else gets it while the lock lives.
// Errors: FAILED_PRECONDITION  it holds something and no marker, or another
//                              process is at it.
absl::StatusOr<std::unique_ptr<FileLock>> ClaimDirectory(
    FileSystem* fs, const std::string& directory, const std::string& marker,
    const std::function<bool(std::string_view name)>& is_ours);

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_LOCAL_OWN_DIRECTORY_H_

#include "examples/local/own_directory.h"

#include <utility>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

absl::StatusOr<std::unique_ptr<FileLock>> ClaimDirectory(
    FileSystem* fs, const std::string& directory, const std::string& marker,
    const std::function<bool(std::string_view name)>& is_ours) {
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(directory, 0700));
  const std::string mark = JoinPath(directory, marker);
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs->List(directory));
  if (!names.empty() && !fs->Exists(mark)) {
    return absl::FailedPreconditionError(
        Cat(directory, " holds ", names.front(),
            ", which no earlier run left there; name another directory"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock,
                             fs->LockFile(mark));
  for (const std::string& name : names) {
    if (name == marker || !is_ours(name)) continue;
    CONSILIUM_RETURN_IF_ERROR(fs->RemoveTree(JoinPath(directory, name)));
  }
  return lock;
}

}  // namespace consilium

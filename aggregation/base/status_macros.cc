#include "consilium/base/status_macros.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "consilium/base/strings.h"

namespace consilium {

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  absl::Status out(status.code(),
                   AbslView(Cat(context, ": ", status.message())));
  status.ForEachPayload(
      [&out](absl::string_view type_url, const absl::Cord& payload) {
        out.SetPayload(type_url, payload);
      });
  return out;
}

namespace internal {

void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: internal error, this does not hold: %s\n", file,
               line, what);
  std::abort();
}

}  // namespace internal
}  // namespace consilium

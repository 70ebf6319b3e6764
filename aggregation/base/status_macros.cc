#include "consilium/base/status_macros.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "consilium/base/local_error.h"
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

namespace {
constexpr absl::string_view kLocalUrl = "consilium/local-error";
constexpr absl::string_view kNoSpaceUrl = "consilium/no-space";
}  // namespace

absl::Status LocalError(absl::Status status) {
  if (!status.ok()) status.SetPayload(kLocalUrl, absl::Cord());
  return status;
}

bool IsLocalError(const absl::Status& status) {
  return status.GetPayload(kLocalUrl).has_value();
}

absl::Status NoSpaceError(absl::Status status) {
  if (!status.ok()) status.SetPayload(kNoSpaceUrl, absl::Cord());
  return LocalError(std::move(status));
}

bool IsNoSpaceError(const absl::Status& status) {
  return status.GetPayload(kNoSpaceUrl).has_value();
}

namespace internal {

void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: internal error, this does not hold: %s\n", file,
               line, what);
  std::abort();
}

}  // namespace internal
}  // namespace consilium

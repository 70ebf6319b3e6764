// Control flow for absl::Status, and the check for our own bugs.
#ifndef CONSILIUM_BASE_STATUS_MACROS_H_
#define CONSILIUM_BASE_STATUS_MACROS_H_

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

// The same code and payloads, with "context: " in front of the message.
// An OK status stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* what);
}  // namespace internal
}  // namespace consilium

// Returns from the enclosing function (Status or StatusOr<T>) unless OK.
#define CONSILIUM_RETURN_IF_ERROR(...)                    \
  do {                                                    \
    if (::absl::Status consilium_status_ = (__VA_ARGS__); \
        !consilium_status_.ok()) {                        \
      return consilium_status_;                           \
    }                                                     \
  } while (false)

// CONSILIUM_ASSIGN_OR_RETURN(auto file, fs->Open(path, {}));
#define CONSILIUM_ASSIGN_OR_RETURN(lhs, ...) \
  CONSILIUM_ASSIGN_OR_RETURN_IMPL_(          \
      CONSILIUM_CONCAT_(consilium_status_or_, __COUNTER__), lhs, __VA_ARGS__)

#define CONSILIUM_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, ...) \
  auto tmp = (__VA_ARGS__);                             \
  if (!tmp.ok()) return std::move(tmp).status();        \
  lhs = *std::move(tmp)

#define CONSILIUM_CONCAT_(a, b) CONSILIUM_CONCAT_IMPL_(a, b)
#define CONSILIUM_CONCAT_IMPL_(a, b) a##b

// Aborts with file and line when `cond` is false. For mistakes of this program
// only: bytes that came from a peer, a disk or a user never reach it.
#define CONSILIUM_CHECK(cond)                                        \
  do {                                                               \
    if (!(cond)) [[unlikely]] {                                      \
      ::consilium::internal::CheckFailed(__FILE__, __LINE__, #cond); \
    }                                                                \
  } while (false)

#endif  // CONSILIUM_BASE_STATUS_MACROS_H_

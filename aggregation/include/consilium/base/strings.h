// Text: views, concatenation, hexadecimal, sizes and durations for people.
#ifndef CONSILIUM_BASE_STRINGS_H_
#define CONSILIUM_BASE_STRINGS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace consilium {

// absl may be built with its own string_view, which does not convert.
inline absl::string_view AbslView(std::string_view text) {
  return absl::string_view(text.data(), text.size());
}
inline std::string_view StdView(absl::string_view text) {
  return std::string_view(text.data(), text.size());
}

namespace internal {
template <typename T>
decltype(auto) CatArg(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return AbslView(std::string_view(value));
  } else {
    return (value);
  }
}
}  // namespace internal

// absl::StrCat and absl::StrAppend that also take std::string_view.
template <typename... Args>
std::string Cat(const Args&... args) {
  return absl::StrCat(internal::CatArg(args)...);
}
template <typename... Args>
void CatInto(std::string& out, const Args&... args) {
  absl::StrAppend(&out, internal::CatArg(args)...);
}

// Text from a peer or a file, made fit for a message or a log line: in double
// quotes, bytes outside printable ASCII as \xNN, cut after `max_bytes` bytes
// with "..." behind the closing quote.
std::string Quoted(std::string_view text, size_t max_bytes = 64);

// Lower-case, two digits per byte.
std::string HexEncode(std::span<const std::byte> bytes);

// Either case. INVALID_ARGUMENT: odd length, a character that is no hex digit.
absl::StatusOr<std::vector<std::byte>> HexDecode(std::string_view text);

// As above into `out`. INVALID_ARGUMENT also when text is not 2 * out.size()
// long; out is then unspecified.
absl::Status HexDecodeTo(std::string_view text, std::span<std::byte> out);

// "512 B", "4 GiB" when exact, "9.1 GiB" otherwise. Powers of 1024.
std::string FormatBytes(uint64_t bytes);

// FormatDuration(d): "0s", "80us", "350ms", "4.2s", "42s", "2m 05s", "1h 02m",
// "3d 04h"; negative with a leading '-', infinite as "forever". Rounds to the
// smallest unit shown.
//
// FormatTime(t): UTC, RFC 3339 with whole seconds, "2026-03-01T12:00:00Z".
//
// Objects and not functions, since absl has functions of the same names that
// would be found through the argument's namespace and make calls ambiguous.
namespace internal {
struct DurationFormatter {
  std::string operator()(absl::Duration duration) const;
};
struct TimeFormatter {
  std::string operator()(absl::Time time) const;
};
}  // namespace internal
inline constexpr internal::DurationFormatter FormatDuration;
inline constexpr internal::TimeFormatter FormatTime;

// "256MiB", "1.5 GiB", "64kB", "1048576". Units B, KiB..PiB (1024) and kB..PB
// (1000), in either case. A fraction is rounded to a byte.
// INVALID_ARGUMENT: no number, unknown unit, negative, above 2^63 - 1.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);

// "15m", "1h30m", "2m 05s", "0.5s", "250ms", "0". Units us ms s m h d w,
// largest first. INVALID_ARGUMENT: no unit (but for 0), unknown unit, repeated
// or misordered units, negative, above 100 years.
absl::StatusOr<absl::Duration> ParseDuration(std::string_view text);

}  // namespace consilium

#endif  // CONSILIUM_BASE_STRINGS_H_

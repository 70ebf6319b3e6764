// Kinds of configuration values: how each is read, checked and written.
// Internal to coordinator/app. `At` is a callable that returns the field of a
// CoordinatorConfig, const or not.

#ifndef CONSILIUM_COORDINATOR_APP_CONFIG_VALUE_H_
#define CONSILIUM_COORDINATOR_APP_CONFIG_VALUE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/status_macros.h"
#include "coordinator/app/config_table.h"

namespace consilium::config_internal {

// "is 12, must be text": what was found and what was wanted.
absl::Status WrongType(const ConfigValue& found, std::string_view wanted);

std::string EmitText(std::string_view text);     // quoted and escaped
std::string EmitNumber(double value);            // a TOML float
std::string EmitBytes(int64_t bytes);            // "4GiB" or 1000
std::string EmitDuration(absl::Duration value);  // "1h30m", "forever"

absl::StatusOr<bool> ReadBool(const ConfigValue& value);
absl::StatusOr<int64_t> ReadCount(const ConfigValue& value, int64_t low,
                                  int64_t high);
absl::StatusOr<double> ReadNumber(const ConfigValue& value, double low,
                                  double high);
// An integer or text with a unit.
absl::StatusOr<int64_t> ReadBytes(const ConfigValue& value, int64_t low,
                                  int64_t high);
// Text with units, in whole milliseconds; "forever" only where high is
// infinite.
absl::StatusOr<absl::Duration> ReadDuration(const ConfigValue& value,
                                            absl::Duration low,
                                            absl::Duration high);
// At most 4096 bytes, no control characters.
absl::StatusOr<std::string> ReadText(const ConfigValue& value);
absl::StatusOr<std::string> ReadPath(const ConfigValue& value);  // not empty
// "host:port"; port 0 asks the system for one.
absl::StatusOr<std::string> ReadAddress(const ConfigValue& value,
                                        bool may_be_empty);
// As an institution's name: a-z, 0-9 and '-', at most 63.
absl::StatusOr<std::string> ReadName(const ConfigValue& value);
absl::StatusOr<std::string> ReadMetricName(const ConfigValue& value);

// A key whose value `read` gives and `emit` writes.
template <typename At, typename Read, typename Emit>
ConfigKey MakeKey(const char* section, const char* name, const char* comment,
                  At at, Read read, Emit emit) {
  return {section, name, comment,
          [at, emit](const CoordinatorConfig& c) { return emit(at(c)); },
          [at, read](const ConfigValue& value, CoordinatorConfig& c) {
            auto parsed = read(value);
            if (!parsed.ok()) return parsed.status();
            at(c) = *std::move(parsed);
            return absl::OkStatus();
          }};
}

}  // namespace consilium::config_internal

#endif  // CONSILIUM_COORDINATOR_APP_CONFIG_VALUE_H_

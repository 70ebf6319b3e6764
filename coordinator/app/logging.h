// Logs of the coordinator: one line per event, as text for people or as JSON
// for machines, with the round and the institution it is about.
//
//   2026-03-01T12:00:00.123Z info  [round=12 institution=bank-a] upload began
//   {"time":"...","level":"info","round":12,"institution":"bank-a",...}
//
// Nothing here prints secrets: there is no overload for SecretBytes, callers
// log names, sizes and digests. Text from peers is defused: line breaks and
// other control characters never reach the output as such.

#ifndef CONSILIUM_COORDINATOR_APP_LOGGING_H_
#define CONSILIUM_COORDINATOR_APP_LOGGING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace consilium {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kText, kJson };
std::string_view LogLevelName(LogLevel level);     // "debug", ...
std::string_view LogFormatName(LogFormat format);  // "text", "json"
// Errors: INVALID_ARGUMENT naming the legal words.
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name);
absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name);

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  std::string file;  // empty: standard error
  bool operator==(const LogOptions&) const = default;
};

// What a line is about; fields at their default are left out.
struct LogContext {
  int64_t round = 0;
  std::string institution;

  LogContext WithRound(int64_t value) const;
  LogContext WithInstitution(std::string_view value) const;
};

// Thread-safe. Lines of one call are never torn; a line is written before the
// call returns.
class Logger {
 public:
  // Where complete lines go, without their line feed; for tests.
  using Sink = std::function<void(std::string_view line)>;
  using NowFn = std::function<absl::Time()>;

  // Errors: those of opening options.file (created with mode 0640, appended).
  static absl::StatusOr<std::unique_ptr<Logger>> Create(
      const LogOptions& options);
  static std::unique_ptr<Logger> ForTest(const LogOptions& options, Sink sink,
                                         NowFn now);
  virtual ~Logger() = default;

  virtual void Log(LogLevel level, const LogContext& context,
                   std::string_view text) = 0;
  virtual bool Enabled(LogLevel level) const = 0;
  virtual void SetLevel(LogLevel level) = 0;
  // Opens the file anew, after log rotation has moved it away.
  virtual absl::Status Reopen() = 0;

  void Debug(const LogContext& context, std::string_view text) {
    Log(LogLevel::kDebug, context, text);
  }
  void Info(const LogContext& context, std::string_view text) {
    Log(LogLevel::kInfo, context, text);
  }
  void Warn(const LogContext& context, std::string_view text) {
    Log(LogLevel::kWarn, context, text);
  }
  void Error(const LogContext& context, std::string_view text) {
    Log(LogLevel::kError, context, text);
  }
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_LOGGING_H_

#ifndef CONSILIUM_CLIENT_SDK_APP_LOG_H_
#define CONSILIUM_CLIENT_SDK_APP_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/mutex.h"

namespace consilium::client::internal {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// Errors: INVALID_ARGUMENT naming the legal words.
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view word);
absl::StatusOr<LogFormat> ParseLogFormat(std::string_view word);

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};

// One line per event on standard error, for people or for machines:
//
//   2026-03-01T12:00:00.123Z info    [round=4 institution=bank-a] committed
//   {"time":"...","level":"info","round":4,"institution":"bank-a",
//    "message":"committed"}                                (in one line)
//
// Text of a peer cannot break out of its line. Thread-safe.
class Log {
 public:
  using Sink = std::function<void(std::string_view line)>;

  explicit Log(const LogOptions& options);
  // For tests: complete lines go to `sink`, at the time `now` gives.
  Log(const LogOptions& options, Sink sink, std::function<absl::Time()> now);

  // On every line from here on.
  void set_institution(std::string institution);

  void Write(LogLevel level, uint64_t round, std::string_view text);
  void Debug(uint64_t round, std::string_view text) {
    Write(LogLevel::kDebug, round, text);
  }
  void Info(uint64_t round, std::string_view text) {
    Write(LogLevel::kInfo, round, text);
  }
  void Warning(uint64_t round, std::string_view text) {
    Write(LogLevel::kWarning, round, text);
  }
  void Error(uint64_t round, std::string_view text) {
    Write(LogLevel::kError, round, text);
  }

 private:
  const LogOptions options_;
  const Sink sink_;
  const std::function<absl::Time()> now_;
  Mutex mutex_;
  std::string institution_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_LOG_H_

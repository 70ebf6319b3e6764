#include "coordinator/app/logging.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <exception>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/round_text.h"
#include "nlohmann/json.hpp"
#include "spdlog/logger.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/sinks/basic_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace consilium {
namespace {

constexpr size_t kMaxLineBytes = 16384;
constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn",
                                                     "error"};
constexpr std::array<std::string_view, 2> kFormats = {"text", "json"};

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(Logger::Sink sink) : sink_(std::move(sink)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    sink_(std::string_view(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

  const Logger::Sink sink_;
};

std::string JsonText(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string JsonLine(std::string_view time, LogLevel level,
                     const LogContext& context, std::string_view text) {
  std::string line =
      Cat("{\"time\":\"", time, "\",\"level\":\"", LogLevelName(level), "\"");
  if (context.round != 0) CatInto(line, ",\"round\":", context.round);
  if (!context.institution.empty()) {
    CatInto(line, ",\"institution\":", JsonText(context.institution));
  }
  CatInto(line, ",\"message\":", JsonText(text), "}");
  return line;
}

std::string TextLine(std::string_view time, LogLevel level,
                     const LogContext& context, std::string_view text) {
  std::string fields;
  const auto add = [&](std::string_view name, std::string_view value) {
    CatInto(fields, fields.empty() ? "" : " ", name, "=", value);
  };
  if (context.round != 0) add("round", Cat(context.round));
  if (!context.institution.empty()) {
    add("institution", CleanText(context.institution, 256));
  }
  const std::string_view name = LogLevelName(level);
  std::string line = Cat(time, " ", name, std::string(6 - name.size(), ' '));
  if (!fields.empty()) CatInto(line, "[", fields, "] ");
  CatInto(line, text);
  return line;
}

class SpdlogLogger final : public Logger {
 public:
  SpdlogLogger(LogOptions options, NowFn now)
      : options_(std::move(options)),
        now_(std::move(now)),
        level_(options_.level) {}

  void Use(spdlog::sink_ptr sink) {
    auto logger = std::make_shared<spdlog::logger>("consilium", sink);
    logger->set_level(spdlog::level::trace);  // Enabled() has decided
    logger->set_pattern("%v");
    logger->flush_on(spdlog::level::trace);
    logger_.store(std::move(logger));
  }

  void Log(LogLevel level, const LogContext& context,
           std::string_view text) override {
    if (!Enabled(level)) return;
    const std::string time =
        absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", now_(), absl::UTCTimeZone());
    const std::string clean = CleanText(text, kMaxLineBytes);
    const std::string line = options_.format == LogFormat::kJson
                                 ? JsonLine(time, level, context, clean)
                                 : TextLine(time, level, context, clean);
    logger_.load()->log(SpdlogLevel(level),
                        spdlog::string_view_t(line.data(), line.size()));
  }

  bool Enabled(LogLevel level) const override { return level >= level_.load(); }
  void SetLevel(LogLevel level) override { level_.store(level); }

  absl::Status Reopen() override {
    if (options_.file.empty()) return absl::OkStatus();
    // spdlog would create it for everybody to read.
    const int fd = ::open(options_.file.c_str(),
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
      return absl::ErrnoToStatus(
          errno, Cat("log file ", options_.file, " (log.file)"));
    }
    ::close(fd);
    try {
      Use(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options_.file));
    } catch (const std::exception& e) {
      return absl::UnavailableError(
          Cat("log file ", options_.file, " (log.file): ", e.what()));
    }
    return absl::OkStatus();
  }

 private:
  const LogOptions options_;
  const NowFn now_;
  std::atomic<LogLevel> level_;
  std::atomic<std::shared_ptr<spdlog::logger>> logger_;
};

}  // namespace

std::string_view LogLevelName(LogLevel level) {
  return kLevels[static_cast<size_t>(level)];
}
std::string_view LogFormatName(LogFormat format) {
  return kFormats[static_cast<size_t>(format)];
}

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < kLevels.size(); ++i) {
    if (kLevels[i] == name) return static_cast<LogLevel>(i);
  }
  return absl::InvalidArgumentError(
      Cat("is ", Quoted(name), ", must be one of debug, info, warn, error"));
}
absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name) {
  for (size_t i = 0; i < kFormats.size(); ++i) {
    if (kFormats[i] == name) return static_cast<LogFormat>(i);
  }
  return absl::InvalidArgumentError(
      Cat("is ", Quoted(name), ", must be one of text, json"));
}

LogContext LogContext::WithRound(int64_t value) const {
  LogContext copy = *this;
  copy.round = value;
  return copy;
}
LogContext LogContext::WithInstitution(std::string_view value) const {
  LogContext copy = *this;
  copy.institution = std::string(value);
  return copy;
}

absl::StatusOr<std::unique_ptr<Logger>> Logger::Create(
    const LogOptions& options) {
  auto logger = std::make_unique<SpdlogLogger>(options, absl::Now);
  if (options.file.empty()) {
    logger->Use(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  } else {
    CONSILIUM_RETURN_IF_ERROR(logger->Reopen());
  }
  return logger;
}

std::unique_ptr<Logger> Logger::ForTest(const LogOptions& options, Sink sink,
                                        NowFn now) {
  auto logger = std::make_unique<SpdlogLogger>(options, std::move(now));
  logger->Use(std::make_shared<FunctionSink>(std::move(sink)));
  return logger;
}

}  // namespace consilium

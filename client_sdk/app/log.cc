#include "client_sdk/app/log.h"

#include <array>
#include <utility>

#include "absl/time/clock.h"
#include "consilium/base/strings.h"
#include "nlohmann/json.hpp"
#include "spdlog/logger.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace consilium::client::internal {
namespace {

constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warning",
                                                     "error"};
constexpr std::array<std::string_view, 2> kFormats = {"text", "json"};

std::string Json(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Line breaks and other control characters as \xNN.
std::string OneLine(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != '\x7f') {
      out.push_back(c);
    } else {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += {'\\', 'x', kHex[static_cast<unsigned char>(c) >> 4],
              kHex[static_cast<unsigned char>(c) & 15]};
    }
  }
  return out;
}

Log::Sink StandardError() {
  auto logger = std::make_shared<spdlog::logger>(
      "consilium-client", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  return [logger](std::string_view line) {
    logger->log(spdlog::level::info,
                spdlog::string_view_t(line.data(), line.size()));
  };
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view word) {
  for (size_t i = 0; i < kLevels.size(); ++i) {
    if (kLevels[i] == word) return static_cast<LogLevel>(i);
  }
  return absl::InvalidArgumentError(
      Cat(Quoted(word), " is not one of debug, info, warning, error"));
}

absl::StatusOr<LogFormat> ParseLogFormat(std::string_view word) {
  for (size_t i = 0; i < kFormats.size(); ++i) {
    if (kFormats[i] == word) return static_cast<LogFormat>(i);
  }
  return absl::InvalidArgumentError(
      Cat(Quoted(word), " is not one of text, json"));
}

Log::Log(const LogOptions& options)
    : Log(options, StandardError(), absl::Now) {}

Log::Log(const LogOptions& options, Sink sink, std::function<absl::Time()> now)
    : options_(options), sink_(std::move(sink)), now_(std::move(now)) {}

void Log::set_institution(std::string institution) {
  const MutexLock lock(&mutex_);
  institution_ = std::move(institution);
}

void Log::Write(LogLevel level, uint64_t round, std::string_view text) {
  if (level < options_.level) return;
  // gRPC's threads log from the first connection on.
  const std::string institution = [this] {
    const MutexLock lock(&mutex_);
    return institution_;
  }();
  const std::string_view name = kLevels[static_cast<size_t>(level)];
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", now_(), absl::UTCTimeZone());
  std::string line;
  if (options_.format == LogFormat::kJson) {
    line = Cat("{\"time\":\"", time, "\",\"level\":\"", name, "\"");
    if (round != 0) CatInto(line, ",\"round\":", round);
    if (!institution.empty()) {
      CatInto(line, ",\"institution\":", Json(institution));
    }
    CatInto(line, ",\"message\":", Json(text), "}");
  } else {
    line = Cat(time, " ", name, std::string(8 - name.size(), ' '));
    if (round != 0 || !institution.empty()) {
      line += '[';
      if (round != 0) CatInto(line, "round=", round);
      if (round != 0 && !institution.empty()) line += ' ';
      if (!institution.empty()) CatInto(line, "institution=", institution);
      line += "] ";
    }
    line += OneLine(text);
  }
  sink_(line);
}

}  // namespace consilium::client::internal

#include "client_sdk/app/log.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "nlohmann/json.hpp"

namespace consilium::client::internal {
namespace {

struct Lines {
  explicit Lines(LogOptions options)
      : log(
            options, [this](std::string_view line) { seen.emplace_back(line); },
            [] { return absl::FromUnixMillis(1767225600123); }) {}
  std::vector<std::string> seen;
  Log log;
};

TEST(LogTest, TextNamesRoundAndInstitution) {
  Lines lines({LogLevel::kInfo, LogFormat::kText});
  lines.log.Info(0, "starting");
  lines.log.set_institution("bank-a");
  lines.log.Warning(4, "line\nbreak");
  lines.log.Debug(4, "not shown");
  ASSERT_EQ(lines.seen.size(), 2u);
  EXPECT_EQ(lines.seen[0], "2026-01-01T00:00:00.123Z info    starting");
  EXPECT_EQ(lines.seen[1],
            "2026-01-01T00:00:00.123Z warning [round=4 institution=bank-a] "
            "line\\x0abreak");
}

// gRPC logs from threads of its own before anybody knows the institution.
TEST(LogTest, TheInstitutionMayBecomeKnownWhileOthersLog) {
  Log log(
      {LogLevel::kInfo, LogFormat::kText}, [](std::string_view) {},
      [] { return absl::UnixEpoch(); });
  std::thread other([&log] {
    for (int i = 0; i < 1000; ++i) log.Info(0, "line");
  });
  for (int i = 0; i < 1000; ++i) {
    log.set_institution("bank-with-a-name-of-some-length-a");
  }
  other.join();
}

TEST(LogTest, JsonIsOneObjectPerLine) {
  Lines lines({LogLevel::kDebug, LogFormat::kJson});
  lines.log.set_institution("bank-a");
  lines.log.Error(7, "a \"quoted\"\nline \xff");
  lines.log.Debug(0, "b");
  ASSERT_EQ(lines.seen.size(), 2u);
  EXPECT_EQ(lines.seen[0].find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(lines.seen[0]);
  EXPECT_EQ(json["time"], "2026-01-01T00:00:00.123Z");
  EXPECT_EQ(json["level"], "error");
  EXPECT_EQ(json["round"], 7);
  EXPECT_EQ(json["institution"], "bank-a");
  EXPECT_FALSE(nlohmann::json::parse(lines.seen[1]).contains("round"));
}

}  // namespace
}  // namespace consilium::client::internal

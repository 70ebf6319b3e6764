#include "coordinator/app/logging.h"

#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "consilium/base/file.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LoggingTest : public ::testing::Test {
 protected:
  std::unique_ptr<Logger> Make(LogFormat format,
                               LogLevel level = LogLevel::kInfo) {
    return Logger::ForTest(
        {level, format, ""},
        [this](std::string_view line) { lines_.emplace_back(line); },
        [] {
          return absl::FromUnixMillis(1767225600'123);  // 2026-01-01
        });
  }
  std::vector<std::string> lines_;
};

TEST_F(LoggingTest, TextLinesCarryRoundAndInstitution) {
  const auto log = Make(LogFormat::kText);
  const LogContext context = LogContext().WithRound(12);
  log->Info(context.WithInstitution("bank-a"), "upload began");
  log->Warn(context, "no quorum");
  log->Error({}, "disk full");
  EXPECT_THAT(lines_,
              ElementsAre("2026-01-01T00:00:00.123Z info  [round=12 "
                          "institution=bank-a] upload began",
                          "2026-01-01T00:00:00.123Z warn  [round=12] no quorum",
                          "2026-01-01T00:00:00.123Z error disk full"));
}

TEST_F(LoggingTest, JsonLinesAreObjects) {
  const auto log = Make(LogFormat::kJson);
  log->Info(LogContext{3, "bank-a"}, "said \"hi\"\n\xff");
  log->Info({}, "plain");
  EXPECT_THAT(
      lines_,
      ElementsAre("{\"time\":\"2026-01-01T00:00:00.123Z\",\"level\":\"info\","
                  "\"round\":3,\"institution\":\"bank-a\","
                  "\"message\":\"said \\\"hi\\\" ?\"}",
                  "{\"time\":\"2026-01-01T00:00:00.123Z\",\"level\":\"info\","
                  "\"message\":\"plain\"}"));
}

TEST_F(LoggingTest, NobodyForgesALine) {
  const auto log = Make(LogFormat::kText);
  log->Info(LogContext().WithInstitution("a\nb"),
            "one\n2026-01-01T00:00:00.123Z error two\x1b[2J {}");
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].find('\n'), std::string::npos);
  EXPECT_EQ(lines_[0].find('\x1b'), std::string::npos);
  EXPECT_THAT(lines_[0], HasSubstr("{}"));  // not a format string
}

TEST_F(LoggingTest, LevelsCanChangeWhileRunning) {
  const auto log = Make(LogFormat::kText, LogLevel::kWarn);
  EXPECT_FALSE(log->Enabled(LogLevel::kInfo));
  log->Info({}, "dropped");
  EXPECT_TRUE(lines_.empty());
  log->SetLevel(LogLevel::kDebug);
  log->Debug({}, "kept");
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(LoggingTest, ThreadsDoNotTearLines) {
  const auto log = Make(LogFormat::kText);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) log->Info({}, "same text");
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(lines_.size(), 400u);
  for (const std::string& line : lines_) {
    EXPECT_EQ(line, "2026-01-01T00:00:00.123Z info  same text");
  }
}

TEST_F(LoggingTest, AFileIsAppendedToAndCanBeRotated) {
  const std::string path = Cat(::testing::TempDir(), "/logging_test.log");
  const std::string moved = Cat(path, ".1");
  std::remove(path.c_str());
  ASSERT_OK_AND_ASSIGN(
      const auto log,
      Logger::Create({LogLevel::kInfo, LogFormat::kText, path}));
  log->Info({}, "before");
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07, 0u) << "not for everybody";
  ASSERT_EQ(std::rename(path.c_str(), moved.c_str()), 0);
  ASSERT_OK(log->Reopen());
  log->Info({}, "after");
  ASSERT_OK_AND_ASSIGN(const std::string old,
                       ReadWholeFile(PosixFileSystem(), moved, 1000));
  ASSERT_OK_AND_ASSIGN(const std::string fresh,
                       ReadWholeFile(PosixFileSystem(), path, 1000));
  EXPECT_THAT(old, HasSubstr("before\n"));
  EXPECT_THAT(fresh, HasSubstr("after\n"));
}

TEST_F(LoggingTest, AFileThatCannotBeOpenedIsNamed) {
  EXPECT_THAT(
      Logger::Create({LogLevel::kInfo, LogFormat::kText, "/nowhere/x.log"}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/x.log")));
}

TEST(LogWordsTest, RoundTrip) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    EXPECT_THAT(ParseLogLevel(LogLevelName(level)), IsOkAndHolds(level));
  }
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    EXPECT_THAT(ParseLogFormat(LogFormatName(format)), IsOkAndHolds(format));
  }
  EXPECT_THAT(ParseLogLevel("trace"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

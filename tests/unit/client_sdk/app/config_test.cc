#include "client_sdk/app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "client_sdk/transport/config_template.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium::client::internal {
namespace {

using ::testing::HasSubstr;

constexpr char kLeast[] = "coordinator = \"a.example:7443\"\n";

void ExpectSame(const ClientConfig& a, const ClientConfig& b) {
  EXPECT_EQ(a.client.coordinator, b.client.coordinator);
  EXPECT_EQ(a.client.identity_dir, b.client.identity_dir);
  EXPECT_EQ(a.client.state_dir, b.client.state_dir);
  EXPECT_EQ(a.client.proxy, b.client.proxy);
  EXPECT_EQ(a.client.server_name, b.client.server_name);
  EXPECT_EQ(a.client.control_timeout, b.client.control_timeout);
  EXPECT_EQ(a.client.stall_timeout, b.client.stall_timeout);
  EXPECT_EQ(a.client.keepalive_time, b.client.keepalive_time);
  EXPECT_EQ(a.client.keepalive_timeout, b.client.keepalive_timeout);
  EXPECT_EQ(a.client.retry.initial, b.client.retry.initial);
  EXPECT_EQ(a.client.retry.cap, b.client.retry.cap);
  EXPECT_EQ(a.client.retry.multiplier, b.client.retry.multiplier);
  EXPECT_EQ(a.client.retry.give_up_after, b.client.retry.give_up_after);
  EXPECT_EQ(a.client.outbox_sync, b.client.outbox_sync);
  EXPECT_EQ(a.client.outbox_sync_delay, b.client.outbox_sync_delay);
  EXPECT_EQ(a.client.cached_versions, b.client.cached_versions);
  EXPECT_EQ(a.renew_automatically, b.renew_automatically);
  EXPECT_EQ(a.log.level, b.log.level);
  EXPECT_EQ(a.log.format, b.log.format);
  EXPECT_EQ(a.training.base_model, b.training.base_model);
  EXPECT_EQ(a.training.table, b.training.table);
  EXPECT_EQ(a.training.validation_table, b.training.validation_table);
  EXPECT_EQ(a.training.device, b.training.device);
  EXPECT_EQ(a.training.threads, b.training.threads);
  EXPECT_EQ(a.training.seed, b.training.seed);
}

// The text that enrolment writes: every key in it exists, and shows its
// default.
TEST(ConfigTest, TheTemplateShowsTheDefaults) {
  const std::string text =
      ClientConfigText("cards", "bank-a", "a.example:7443");
  ASSERT_OK_AND_ASSIGN(const ClientConfig written, ParseConfig(text, "/id"));
  ASSERT_OK_AND_ASSIGN(const ClientConfig least, ParseConfig(kLeast, "/id"));
  ExpectSame(written, least);

  // "# key = value" becomes a setting; sentences stay comments.
  std::string all;
  int keys = 0;
  for (std::string line :
       std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    if (line.starts_with("# ") && line.find(" = ") != std::string::npos &&
        line[2] >= 'a' && line[2] <= 'z') {
      line.erase(0, 2);
      ++keys;
    }
    all += line + "\n";
  }
  EXPECT_EQ(keys, 27);
  ASSERT_OK_AND_ASSIGN(const ClientConfig shown, ParseConfig(all, "/id"));
  ExpectSame(shown, least);
}

TEST(ConfigTest, ReadsEveryKind) {
  ASSERT_OK_AND_ASSIGN(const ClientConfig config, ParseConfig(R"(
coordinator = "b:1"
identity_dir = "/etc/id"
state_dir = "../state"
renew_automatically = false
[retry]
initial = "1s"
multiplier = 3
give_up_after = "2h"
[storage]
cached_versions = 5
[log]
format = "json"
level = "error"
[training]
device = "cuda"
validation_table = ""
)",
                                                              "/id"));
  EXPECT_EQ(config.client.identity_dir, "/etc/id");
  EXPECT_EQ(config.client.state_dir, "/id/../state");
  EXPECT_FALSE(config.renew_automatically);
  EXPECT_EQ(config.client.retry.multiplier, 3.0);
  EXPECT_EQ(config.client.retry.give_up_after, absl::Hours(2));
  EXPECT_EQ(config.client.cached_versions, 5);
  EXPECT_EQ(config.log.format, LogFormat::kJson);
  EXPECT_EQ(config.log.level, LogLevel::kError);
  EXPECT_EQ(config.training.table, "/id/train.csv");
  EXPECT_EQ(config.training.validation_table, "");
}

TEST(ConfigTest, MistakesAreNamedWithTheirLine) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"nonsense", "line 2"},
      {"colour = 1", "\"colour\""},
      {"[retry]\nintial = \"1s\"", "line 3: there is no key \"retry.intial\""},
      {"proxy = 3", "proxy: must be text"},
      {"renew_automatically = \"yes\"", "must be true or false"},
      {"[retry]\ninitial = 3", "retry.initial: must be a duration"},
      {"[retry]\ninitial = \"3 parsecs\"", "retry.initial"},
      {"[retry]\nmultiplier = 0.5", "retry.multiplier"},
      {"[retry]\nmultiplier = \"2\"", "must be a number"},
      {"[storage]\ncached_versions = 0", "1 to"},
      {"[log]\nlevel = \"loud\"", "debug, info, warning, error"},
      {"[training]\ndevice = \"abacus\"", "auto, cpu, cuda"},
      {"[training]\nthreads = 0", "training.threads"},
  };
  for (const auto& [line, message] : mistakes) {
    EXPECT_THAT(
        ParseConfig(kLeast + line, "/id"),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
  EXPECT_THAT(
      ParseConfig("", "/id"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("coordinator")));
}

TEST(ConfigTest, AFileIsNamedInItsErrors) {
  FaultFileSystem fs;
  ASSERT_OK(fs.MakeDirs("/id"));
  ASSERT_OK(WriteFileAtomic(&fs, "/id/c.toml", AsBytes("x = 1")));
  EXPECT_THAT(LoadConfig(&fs, "/id/c.toml"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/id/c.toml: line 1")));
  EXPECT_THAT(LoadConfig(&fs, "/id/d.toml"),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace consilium::client::internal

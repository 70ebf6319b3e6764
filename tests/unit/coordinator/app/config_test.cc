#include "coordinator/app/config.h"

#include <set>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/strings.h"
#include "coordinator/app/config_table.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(ConfigTest, AnEmptyFileIsTheDefaults) {
  EXPECT_THAT(ParseConfig(""), IsOkAndHolds(CoordinatorConfig()));
  EXPECT_OK(ValidateConfig(CoordinatorConfig()));
}

TEST(ConfigTest, TheDefaultTextParsesToTheDefaults) {
  const std::string text = DefaultConfigText();
  EXPECT_THAT(ParseConfig(text), IsOkAndHolds(CoordinatorConfig()));
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_THAT(text, HasSubstr(Cat("\n#", key.name, " = ")));
  }
}

// The commented values are what they claim to be.
TEST(ConfigTest, TheDefaultTextHoldsTheDefaultsAsValues) {
  std::string text = DefaultConfigText();
  size_t keys = 0;
  for (size_t at = text.find("\n#"); at != std::string::npos;
       at = text.find("\n#", at + 1)) {
    if (text[at + 2] == ' ' || text[at + 2] == '\n') continue;
    text.erase(at + 1, 1);
    ++keys;
  }
  EXPECT_EQ(keys, ConfigKeys().size());
  EXPECT_THAT(ParseConfig(text), IsOkAndHolds(CoordinatorConfig()));
}

TEST(ConfigTest, ChangedValuesAreWrittenAndReadBack) {
  CoordinatorConfig config;
  config.federation.name = "cards";
  config.listen.address = "[::1]:9000";
  config.listen.metrics_address = "";
  config.storage.data_dir = "/srv/a \"quoted\\ path\"";
  config.storage.max_update_bytes = 1'000'001;
  config.storage.spool_retention = absl::Hours(25) + absl::Milliseconds(7);
  config.rounds.quorum = 3;
  config.rounds.wait_after_quorum = absl::Minutes(5);
  config.rounds.maximum_weight = 1e6 / 3.0;
  config.rounds.promotion = Promotion::kImmediate;
  config.rounds.evaluation.enabled = false;
  config.rounds.evaluation.rule = {"loss", true, 0.1};
  config.sealing = false;
  config.log.level = LogLevel::kWarn;
  config.log.format = LogFormat::kJson;
  const std::string text = DefaultConfigText(config);
  EXPECT_THAT(text, HasSubstr("\nname = \"cards\"\n"));
  EXPECT_THAT(text, HasSubstr("\nmode = \"off\"\n"));
  EXPECT_THAT(text, HasSubstr("\nspool_retention = \"1d1h7ms\"\n"));
  EXPECT_THAT(ParseConfig(text), IsOkAndHolds(config));
}

TEST(ConfigTest, TheFileIsReadable) {
  const std::string text = DefaultConfigText();
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = text.find('\n', begin);
    EXPECT_LE(end - begin, 80u) << text.substr(begin, end - begin);
    begin = end + 1;
  }
  EXPECT_THAT(text, HasSubstr("#deadline = \"1h\""));
  EXPECT_THAT(text, HasSubstr("#maximum_weight = 10000000.0\n"));
  EXPECT_THAT(text, HasSubstr("#max_update_bytes = \"4GiB\""));
  EXPECT_THAT(text, HasSubstr("#wait_after_quorum = \"forever\""));
  EXPECT_THAT(text, HasSubstr("#institution_lifetime = \"90d\""));
}

TEST(ConfigTest, EveryKeyHasItsPlaceAndItsMeaning) {
  std::set<std::string> sections;
  for (const ConfigSection& section : ConfigSections()) {
    EXPECT_TRUE(sections.insert(section.name).second);
  }
  std::set<std::string> seen;
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_TRUE(sections.contains(key.section)) << key.section;
    EXPECT_TRUE(seen.insert(Cat(key.section, ".", key.name)).second);
    ASSERT_FALSE(key.comment.empty()) << key.name;
    EXPECT_EQ(key.comment.back(), '.') << key.name;
  }
}

// Every key has a field of its own: a foreign value in one key alone changes
// the configuration, and reads back.
TEST(ConfigTest, NoTwoKeysShareAField) {
  const CoordinatorConfig defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    bool changed = false;
    for (const ConfigValue& value :
         {ConfigValue(std::string("immediate")), ConfigValue(std::string("x")),
          ConfigValue(std::string("off")), ConfigValue(std::string("promote")),
          ConfigValue(std::string("alert")), ConfigValue(std::string("json")),
          ConfigValue(std::string("error")), ConfigValue(std::string("77s")),
          ConfigValue(std::string("77d")), ConfigValue(std::string("3m77ms")),
          ConfigValue(std::string("h:1")), ConfigValue(std::string("5MiB")),
          ConfigValue(int64_t{7}), ConfigValue(int64_t{100'003}),
          ConfigValue(true), ConfigValue(false)}) {
      CoordinatorConfig config;
      if (!key.parse(value, config).ok() || config == defaults) continue;
      changed = true;
      int64_t differ = 0;
      for (const ConfigKey& other : ConfigKeys()) {
        if (other.emit(config) != other.emit(defaults)) ++differ;
      }
      EXPECT_EQ(differ, 1) << key.section << "." << key.name;
      break;
    }
    EXPECT_TRUE(changed) << key.section << "." << key.name;
  }
}

TEST(ConfigTest, UnknownKeysAreErrorsWithASuggestion) {
  EXPECT_THAT(ParseConfig("[rounds]\nqorum = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("line 2: unknown key rounds.qorum"),
                             HasSubstr("did you mean rounds.quorum?"))));
  EXPECT_THAT(ParseConfig("[storge]\ndata_dir = \"x\"\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("unknown section storge; did you mean "
                                 "storage?")));
  EXPECT_THAT(ParseConfig("[rounds]\nxyzzyplugh = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       Not(HasSubstr("did you mean"))));
  EXPECT_THAT(ParseConfig("quorum = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("unknown key quorum")));
  EXPECT_THAT(ParseConfig("rounds = 3\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rounds must be a section")));
}

TEST(ConfigTest, MistakesNameKeyValueAndLimit) {
  const auto bad = [](const char* text, const char* says) {
    EXPECT_THAT(ParseConfig(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << text;
  };
  bad("[rounds]\nquorum = 0", "line 2: rounds.quorum is 0, must be between 1");
  bad("[rounds]\nquorum = \"two\"", "rounds.quorum is \"two\", must be an");
  bad("[rounds]\nquorum = [2]", "line 2: arrays are not used");
  bad("[rounds]\nquorum = 1979-05-27", "line 2: not a value");
  bad("[rounds]\ndeadline = 60", "must be a time such as \"90s\"");
  bad("[rounds]\ndeadline = \"0\"", "rounds.deadline is \"0\"");
  bad("[rounds]\ndeadline = \"forever\"", "rounds.deadline is \"forever\"");
  bad("[rounds]\ndeadline = \"0.0001s\"", "whole number of milliseconds");
  bad("[rounds]\nmaximum_weight = nan", "rounds.maximum_weight is nan");
  bad("[rounds]\npromotion = \"later\"", "after_evaluation, immediate");
  bad("[rounds]\nquorum = 3\ntarget = 2", "rounds: target is 2");
  bad("[rounds.evaluation]\nenabled = 1", "must be true or false");
  bad("[rounds.evaluation.rule]\nmetric = \"a b\"", "without spaces");
  bad("[storage]\nmax_update_bytes = \"9 parsecs\"", "a size such as");
  bad("[storage]\nmax_update_bytes = 12", "must be between 1 KiB and");
  bad("[storage]\nmax_spool_bytes = \"1GiB\"", "storage.max_spool_bytes is 1");
  bad("[storage]\ndata_dir = \"\"", "must be a path");
  bad("[storage]\ndata_dir = \"a\\nb\"", "without control characters");
  bad("[limits]\nupload_window_bytes = \"64KiB\"", "between 1 MiB and 1 GiB");
  bad("[limits]\nframe_memory = \"63KiB\"", "between 64 KiB and 1 GiB");
  bad("[listen]\naddress = \"\"", "host:port");
  bad("[listen]\naddress = \"host\"", "host:port");
  bad("[listen]\naddress = \"host:99999\"", "host:port");
  bad("[listen]\naddress = \"::1:80\"", "host:port");
  bad("[listen]\naddress = \"h:+5\"", "host:port");
  bad("[sealing]\nmode = \"maybe\"", "\"on\" or \"off\"");
  bad("[sealing]\nmode = true", "sealing.mode is true");
  bad("[federation]\nname = \"Cards!\"", "federation.name is \"Cards!\"");
  bad("[certificates]\nrenew_before = \"95d\"", "the shortest is 90d");
  bad("[limits]\nmax_admin_jobs = 4",
      "must be less than workers.admin_threads, 4");
  bad("[log]\nlevel = \"loud\"", "log.level is \"loud\"");
  bad("name", "line 1: '=' is missing");
  bad("[rounds]\nquorum = 3\nquorum = 4", "line 3: a section or key is");
  bad("[rounds.quorum]", "rounds.quorum is a key, not a section");
  bad("\"rounds.quorum\" = 3", "unknown key");
}

TEST(ConfigTest, AllMistakesAreReportedAtOnceInOrder) {
  const absl::Status status =
      ParseConfig("[rounds]\nzzz = 1\nquorum = 0\n[log]\nlevel = 3\n").status();
  const std::string text(status.message());
  const size_t a = text.find("line 2: ");
  const size_t b = text.find("line 3: ");
  const size_t c = text.find("line 5: ");
  EXPECT_TRUE(a < b && b < c && c != std::string::npos) << text;

  std::string many = "[rounds]\n";
  for (int i = 0; i < 50; ++i) CatInto(many, "k", i, " = 1\n");
  EXPECT_THAT(ParseConfig(many), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("and 40 more")));
}

TEST(ConfigTest, KeysFromTheFileAreDefusedInMessages) {
  EXPECT_THAT(ParseConfig("\"\\u001b[31m\" = 1\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\\x1b"), Not(HasSubstr("\x1b")))));
}

TEST(ConfigTest, SizeIsBounded) {
  EXPECT_THAT(ParseConfig(std::string(2 << 20, '#')),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(ConfigTest, RelativePathsCountFromTheFile) {
  CoordinatorConfig config;
  config.storage.data_dir = "/abs/data";
  ResolvePaths("/etc/consilium", config);
  EXPECT_EQ(config.tls.server_key, "/etc/consilium/identity/server.key");
  EXPECT_EQ(config.storage.data_dir, "/abs/data");
  EXPECT_EQ(config.storage.storage_key, "/etc/consilium/secrets/storage.key");
  EXPECT_EQ(config.log.file, "");
}

TEST(ConfigTest, ChangedKeysAreNamedAndSomeAreLive) {
  const CoordinatorConfig before;
  CoordinatorConfig after = before;
  EXPECT_THAT(ChangedKeys(before, after), IsEmpty());
  after.storage.max_update_bytes = 1;
  after.storage.max_spool_bytes = 2;
  after.storage.min_free_bytes = 3;
  after.failure_pause = absl::Seconds(4);
  after.limits.max_uploads = 5;
  after.limits.long_poll_timeout = absl::Seconds(6);
  after.limits.upload_idle_timeout = absl::Seconds(7);
  after.limits.progress_period = absl::Seconds(8);
  after.limits.connected_for = absl::Seconds(9);
  after.limits.upload_slot_timeout = absl::Seconds(11);
  after.limits.max_resumes = 12;
  after.limits.max_superseded_uploads = 13;
  after.log.level = LogLevel::kError;
  after.enrollment.token_lifetime = absl::Hours(10);
  const std::vector<std::string> live = ChangedKeys(before, after);
  EXPECT_EQ(live.size(), 14u);
  for (const std::string& key : live) EXPECT_TRUE(IsLiveKey(key)) << key;

  after = before;
  after.listen.address = "127.0.0.1:1";
  after.rounds.evaluation.enabled = !before.rounds.evaluation.enabled;
  const std::vector<std::string> others = ChangedKeys(before, after);
  EXPECT_THAT(others,
              ElementsAre("listen.address", "rounds.evaluation.enabled"));
  for (const std::string& key : others) EXPECT_FALSE(IsLiveKey(key)) << key;
}

TEST(ConfigTest, LoadsAFileAndSaysWhichOneIsWrong) {
  const std::string dir = ::testing::TempDir();
  const std::string path = Cat(dir, "/config_test.toml");
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), path,
                            AsBytes("[federation]\nname = \"cards\"\n"), 0600));
  ASSERT_OK_AND_ASSIGN(const CoordinatorConfig config, LoadConfig(path));
  EXPECT_EQ(config.federation.name, "cards");
  EXPECT_EQ(config.storage.data_dir, Cat(dir, "/data"));
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), path, AsBytes("[x]\n"), 0600));
  EXPECT_THAT(LoadConfig(path),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)));
  EXPECT_THAT(LoadConfig(Cat(dir, "/none.toml")),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace consilium

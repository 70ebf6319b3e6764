#include "consilium/base/toml.h"

#include <cmath>
#include <limits>
#include <string>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TomlValue ValueOf(const std::string& text) {
  const absl::StatusOr<TomlDocument> document = ReadToml(Cat("k = ", text));
  EXPECT_OK(document) << text;
  if (!document.ok() || document->entries.size() != 1) return false;
  return document->entries[0].value;
}

TEST(TomlTest, TablesKeysAndComments) {
  ASSERT_OK_AND_ASSIGN(
      const TomlDocument document,
      ReadToml("# top\r\na = 1 # one\n\n[ b . \"c d\" ]\t# two\n"
               "e.'f.g'.h = true\n  [b]\ni=2"));
  ASSERT_EQ(document.entries.size(), 3u);
  EXPECT_THAT(document.entries[0].path, ElementsAre("a"));
  EXPECT_EQ(document.entries[0].line, 2);
  EXPECT_THAT(document.entries[1].path,
              ElementsAre("b", "c d", "e", "f.g", "h"));
  EXPECT_EQ(document.entries[1].line, 5);
  EXPECT_THAT(document.entries[2].path, ElementsAre("b", "i"));
  ASSERT_EQ(document.tables.size(), 2u);
  EXPECT_THAT(document.tables[0].path, ElementsAre("b", "c d"));
  EXPECT_EQ(document.tables[1].line, 6);
}

TEST(TomlTest, ADottedNameNamesOnePath) {
  EXPECT_EQ(DottedName({"a"}), "a");
  EXPECT_EQ(DottedName({"a", "b", "c"}), "a.b.c");
  EXPECT_EQ(DottedName({"a.b", "c"}), "\"a.b\".c");
  EXPECT_EQ(DottedName({"", "a"}), ".a");
}

TEST(TomlTest, EmptyTextsAreDocuments) {
  for (const char* text : {"", "\n", "\r\n", "# x", "\xEF\xBB\xBF", " \t\n"}) {
    ASSERT_OK_AND_ASSIGN(const TomlDocument document, ReadToml(text));
    EXPECT_THAT(document.entries, IsEmpty());
  }
}

TEST(TomlTest, Numbers) {
  EXPECT_EQ(ValueOf("0"), TomlValue(int64_t{0}));
  EXPECT_EQ(ValueOf("-0"), TomlValue(int64_t{0}));
  EXPECT_EQ(ValueOf("+99"), TomlValue(int64_t{99}));
  EXPECT_EQ(ValueOf("1_000_000"), TomlValue(int64_t{1'000'000}));
  EXPECT_EQ(ValueOf("9223372036854775807"),
            TomlValue(std::numeric_limits<int64_t>::max()));
  EXPECT_EQ(ValueOf("-9223372036854775808"),
            TomlValue(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(ValueOf("1.5"), TomlValue(1.5));
  EXPECT_EQ(ValueOf("+0.1_5"), TomlValue(0.15));
  EXPECT_EQ(ValueOf("1e3"), TomlValue(1000.0));
  EXPECT_EQ(ValueOf("-2.5E+02"), TomlValue(-250.0));
  EXPECT_EQ(ValueOf("6.626e-34"), TomlValue(6.626e-34));
  EXPECT_EQ(ValueOf("-inf"),
            TomlValue(-std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(std::isnan(std::get<double>(ValueOf("+nan"))));
}

TEST(TomlTest, StringsAndBooleans) {
  EXPECT_EQ(ValueOf("true"), TomlValue(true));
  EXPECT_EQ(ValueOf("false # no"), TomlValue(false));
  EXPECT_EQ(ValueOf("\"\""), TomlValue(std::string()));
  EXPECT_EQ(ValueOf(R"("a # \"b\" \\ \t \u00e9 \U0001F600")"),
            TomlValue(std::string("a # \"b\" \\ \t \xC3\xA9 "
                                  "\xF0\x9F\x98\x80")));
  EXPECT_EQ(ValueOf(R"("\u0000\u007f\u07ff\uffff")"),
            TomlValue(std::string("\0\x7f\xdf\xbf\xef\xbf\xbf", 7)));
  EXPECT_EQ(ValueOf(R"('C:\temp "x"')"),
            TomlValue(std::string(R"(C:\temp "x")")));
  EXPECT_EQ(ValueOf("\"caf\xC3\xA9\t\""),
            TomlValue(std::string("caf\xC3\xA9\t")));
}

TEST(TomlTest, MistakesHaveALineAndAReason) {
  const auto bad = [](std::string_view text, const char* says) {
    EXPECT_THAT(ReadToml(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << text;
  };
  bad("a = 1\nb", "line 2: '=' is missing");
  bad("= 1", "line 1: a key is missing before \"= 1\"");
  bad("a. = 1", "a key is missing before");
  bad("a.", "a key is missing at the end");
  bad("a =", "a value is missing");
  bad("a = # c", "a value is missing");
  bad("a = 1 b = 2", "only a comment may follow");
  bad("[a] b = 1", "only a comment may follow");
  bad("[a", "']' is missing");
  bad("[=]", "a key is missing before \"=]\"");
  bad("[]", "a key is missing before");
  bad("[[a]]", "arrays of tables");
  bad("a = [1]", "arrays are not used");
  bad("a = {b = 1}", "inline tables are not used");
  bad("a = \"\"\"x\"\"\"", "strings of several lines");
  bad("a = '''x'''", "strings of several lines");
  bad("a = \"x", "a string is not closed");
  bad("a = \"x\\", "a string is not closed");
  bad("a = 'x\n'", "line 1: a string is not closed");
  bad("a = \"\\x41\"", "unknown escape");
  bad("a = \"\\u12\"", "an escape needs 4");
  bad("a = \"\\ud800\"", "names no character");
  bad("a = \"\\U00110000\"", "names no character");
  bad("a = yes", "not a value: \"yes\"");
  bad("a = 1979-05-27", "not a value");
  bad("a = 0x10", "not a value");
  bad("a = 007", "must not begin with 0");
  bad("a = 1__0", "not a value");
  bad("a = _1", "not a value");
  bad("a = 1_", "not a value");
  bad("a = 1.", "not a value");
  bad("a = .5", "not a value");
  bad("a = 1e", "not a value");
  bad("a = 1e+", "not a value");
  bad("a = 1.e5", "not a value");
  bad("a = +", "not a value");
  bad("a = 9223372036854775808", "does not fit");
  bad("a = 1e999", "does not fit");
  bad("\xC3\xA4 = 1", "a key is missing before");
  bad("# \xff", "line 1: not UTF-8");
  bad("a = \"\x01\"", "a control character");
  bad(std::string_view("a = 1\0", 6), "a control character");
  bad("a = 1\rb = 2", "a control character");
  std::string deep = "a";
  for (int i = 0; i < 100; ++i) deep += ".a";
  bad(deep + " = 1", "too many parts");
}

TEST(TomlTest, NothingIsDefinedTwice) {
  const auto bad = [](const char* text) {
    EXPECT_THAT(ReadToml(text), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  };
  bad("a = 1\na = 2");
  bad("a = 1\n\"a\" = 2");
  bad("[a]\n[a]");
  bad("a = 1\n[a]");
  bad("a = 1\n[a.b]");
  bad("a = 1\na.b = 2");
  bad("a.b = 1\n[a]");
  bad("[a.b]\n[a]\nb.c = 1");
  bad("[a.b.c]\n[a]\nb.d = 1");
  bad("[a]\nb.c = 1\n[a.b]");
  EXPECT_OK(ReadToml("[a.b]\nx = 1\n[a]\nx = 2"));
  EXPECT_OK(ReadToml("[a]\nb.c = 1\nb.d = 2\n[a.b.e]\nx = 1"));
}

}  // namespace
}  // namespace consilium

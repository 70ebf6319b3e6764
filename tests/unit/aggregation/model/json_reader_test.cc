#include "aggregation/model/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<std::string> ReadString(std::string_view text) {
  return JsonReader(text, "test").String(100);
}

TEST(JsonReaderTest, ReadsStrings) {
  EXPECT_THAT(ReadString("\"\""), IsOkAndHolds(""));
  EXPECT_THAT(ReadString(" \t\r\n\"a b\""), IsOkAndHolds("a b"));
  EXPECT_THAT(ReadString(R"("\"\\\/\b\f\n\r\t")"),
              IsOkAndHolds("\"\\/\b\f\n\r\t"));
  EXPECT_THAT(ReadString(R"("\u0041\u00e9\u20AC\uD83D\uDE00")"),
              IsOkAndHolds("A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

TEST(JsonReaderTest, RefusesBrokenStrings) {
  for (const char* text :
       {"a", "\"", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
        "\"\\ud83d\"", "\"\\ud83dx\"", "\"\\ud83d\\u0041\"", "\"\\ude00\"",
        "\"\n\"", "\"\x80\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\""}) {
    EXPECT_THAT(ReadString(text), StatusIs(kInvalid, HasSubstr("test, byte")))
        << text;
  }
  EXPECT_THAT(JsonReader("\"abcd\"", "test").String(3),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(JsonReaderTest, ReadsNonNegativeIntegers) {
  const auto read = [](std::string_view text) {
    return JsonReader(text, "test").Integer();
  };
  EXPECT_THAT(read("0"), IsOkAndHolds(0));
  EXPECT_THAT(read(" 120]"), IsOkAndHolds(120));
  EXPECT_THAT(read("9223372036854775807"),
              IsOkAndHolds(std::numeric_limits<int64_t>::max()));
  for (const char* text : {"", "-1", "+1", "01", "1.0", "1e3", "1E3", "x",
                           "9223372036854775808", "99999999999999999999"}) {
    EXPECT_THAT(read(text), StatusIs(kInvalid)) << text;
  }
}

TEST(JsonReaderTest, EscapesWhatMustBe) {
  std::string out;
  AppendJsonString("a\"b\\c\n\x01\xc3\xa9", &out);
  EXPECT_EQ(out, "\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\"");
  EXPECT_THAT(ReadString(out), IsOkAndHolds("a\"b\\c\n\x01\xc3\xa9"));
}

}  // namespace
}  // namespace consilium

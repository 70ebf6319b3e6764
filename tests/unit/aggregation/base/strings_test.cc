#include "consilium/base/strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "consilium/base/bytes.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(StringsTest, CatTakesEveryKindOfText) {
  const std::string text = "text";
  EXPECT_EQ(Cat(std::string_view("a"), absl::string_view("b"), "c", text, 1,
                uint64_t{2}, 0.5, absl::Hex(255)),
            "abctext120.5ff");
  std::string out = "x";
  CatInto(out, std::string_view("y"), 3);
  EXPECT_EQ(out, "xy3");
  EXPECT_EQ(Cat(), "");
}

TEST(StringsTest, QuotedShowsForeignBytesSafely) {
  EXPECT_EQ(Quoted("plain"), "\"plain\"");
  EXPECT_EQ(Quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(Quoted(std::string_view("\x1b[2J\n\0", 6)),
            "\"\\x1b[2J\\x0a\\x00\"");
  EXPECT_EQ(Quoted("abcdef", 3), "\"abc\"...");
  EXPECT_EQ(Quoted("abc", 3), "\"abc\"");
}

TEST(StringsTest, HexGoesBothWays) {
  const std::string all = [] {
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
    return bytes;
  }();
  const std::string hex = HexEncode(AsBytes(all));
  EXPECT_EQ(hex.size(), 512u);
  EXPECT_EQ(hex.substr(0, 8), "00010203");
  ASSERT_OK_AND_ASSIGN(const auto back, HexDecode(hex));
  EXPECT_EQ(AsChars(back), all);
  ASSERT_OK_AND_ASSIGN(const auto upper, HexDecode("FFaB"));
  EXPECT_EQ(AsChars(upper), "\xff\xab");
  EXPECT_THAT(HexDecode(""), IsOk());
}

TEST(StringsTest, BadHexSaysWhere) {
  EXPECT_THAT(HexDecode("abc"), StatusIs(kInvalid, HasSubstr("odd")));
  EXPECT_THAT(HexDecode("0g"), StatusIs(kInvalid, HasSubstr("character 1")));
  EXPECT_THAT(HexDecode("00 0"), StatusIs(kInvalid, HasSubstr("character 2")));
  std::byte two[2];
  EXPECT_THAT(HexDecodeTo("00", two),
              StatusIs(kInvalid, HasSubstr("expected 4")));
}

TEST(StringsTest, BytesAreShownInPowersOf1024) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(uint64_t{4} << 30), "4 GiB");
  EXPECT_EQ(FormatBytes(9771050598), "9.1 GiB");
  EXPECT_EQ(FormatBytes((1 << 20) - 1), "1.0 MiB");  // not 1024.0 KiB
  EXPECT_EQ(FormatBytes(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
}

TEST(StringsTest, DurationsShowTwoUnitsAtMost) {
  EXPECT_EQ(FormatDuration(absl::ZeroDuration()), "0s");
  EXPECT_EQ(FormatDuration(absl::Microseconds(80)), "80us");
  EXPECT_EQ(FormatDuration(absl::Milliseconds(350)), "350ms");
  EXPECT_EQ(FormatDuration(absl::Seconds(4.25)), "4.3s");
  EXPECT_EQ(FormatDuration(absl::Seconds(42)), "42s");
  EXPECT_EQ(FormatDuration(absl::Seconds(125)), "2m 05s");
  EXPECT_EQ(FormatDuration(absl::Minutes(62)), "1h 02m");
  EXPECT_EQ(FormatDuration(absl::Hours(76)), "3d 04h");
  EXPECT_EQ(FormatDuration(-absl::Seconds(125)), "-2m 05s");
  EXPECT_EQ(FormatDuration(absl::InfiniteDuration()), "forever");
}

TEST(StringsTest, DurationsRoundIntoTheNextUnit) {
  EXPECT_EQ(FormatDuration(absl::Nanoseconds(999700)), "1ms");
  EXPECT_EQ(FormatDuration(absl::Microseconds(999700)), "1.0s");
  EXPECT_EQ(FormatDuration(absl::Seconds(9.97)), "10s");
  EXPECT_EQ(FormatDuration(absl::Seconds(59.7)), "1m 00s");
  EXPECT_EQ(FormatDuration(absl::Seconds(3599.7)), "1h 00m");
  EXPECT_EQ(FormatDuration(absl::Hours(24) - absl::Seconds(10)), "1d 00h");
}

TEST(StringsTest, TimesAreUtc) {
  EXPECT_EQ(FormatTime(absl::FromUnixSeconds(1767225600)),
            "2026-01-01T00:00:00Z");
}

TEST(StringsTest, SizesAreRead) {
  EXPECT_THAT(ParseBytes("1048576"), IsOkAndHolds(1048576));
  EXPECT_THAT(ParseBytes("256MiB"), IsOkAndHolds(256 << 20));
  EXPECT_THAT(ParseBytes(" 1.5 GiB "), IsOkAndHolds(int64_t{3} << 29));
  EXPECT_THAT(ParseBytes("64kB"), IsOkAndHolds(64000));
  EXPECT_THAT(ParseBytes("2tib"), IsOkAndHolds(int64_t{2} << 40));
  EXPECT_THAT(ParseBytes("0.1KiB"), IsOkAndHolds(102));
  EXPECT_THAT(ParseBytes("0"), IsOkAndHolds(0));
  EXPECT_THAT(ParseBytes("9223372036854775807"),
              IsOkAndHolds(std::numeric_limits<int64_t>::max()));
}

TEST(StringsTest, BadSizesSayWhatIsExpected) {
  for (const char* text :
       {"", "MiB", "-1", "1 XiB", "1MiB2", "1.MiB", "1e9", "0x10", "5k", "1 2",
        "9223372036854775808", "8192PiB", "99999999999999999999"}) {
    EXPECT_THAT(ParseBytes(text),
                StatusIs(kInvalid, AllOf(HasSubstr(Quoted(text)),
                                         HasSubstr("such as 256MiB"))))
        << text;
  }
}

TEST(StringsTest, DurationsAreRead) {
  EXPECT_THAT(ParseDuration("15m"), IsOkAndHolds(absl::Minutes(15)));
  EXPECT_THAT(ParseDuration("1h30m"), IsOkAndHolds(absl::Minutes(90)));
  EXPECT_THAT(ParseDuration("2m 05s"), IsOkAndHolds(absl::Seconds(125)));
  EXPECT_THAT(ParseDuration("0.5s"), IsOkAndHolds(absl::Milliseconds(500)));
  EXPECT_THAT(ParseDuration("250ms"), IsOkAndHolds(absl::Milliseconds(250)));
  EXPECT_THAT(ParseDuration("80us"), IsOkAndHolds(absl::Microseconds(80)));
  EXPECT_THAT(ParseDuration("1w2d"), IsOkAndHolds(absl::Hours(24 * 9)));
  EXPECT_THAT(ParseDuration("0"), IsOkAndHolds(absl::ZeroDuration()));
  EXPECT_THAT(ParseDuration("100d"), IsOkAndHolds(absl::Hours(2400)));
}

TEST(StringsTest, BadDurationsSayWhatIsExpected) {
  for (const char* text :
       {"", "15", "m", "-5s", "5 minutes", "1m1h", "1m 2m", "1.m", "1y",
        "5218w", "99999999999999999999s", "9999999999999999999w", "1h30"}) {
    EXPECT_THAT(ParseDuration(text),
                StatusIs(kInvalid, AllOf(HasSubstr(Quoted(text)),
                                         HasSubstr("such as 15m"))))
        << text;
  }
}

}  // namespace
}  // namespace consilium

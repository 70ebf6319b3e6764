#include "consilium/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace consilium {
namespace {

TEST(Utf8Test, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x900 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_TRUE(IsValidUtf8(text)) << static_cast<uint32_t>(c);
    // Cut or followed by a stray tail, it is not.
    if (text.size() > 1) {
      ASSERT_FALSE(IsValidUtf8(text.substr(0, text.size() - 1)));
    }
    ASSERT_FALSE(IsValidUtf8(text + "\x80"));
  }
}

TEST(Utf8Test, OtherFormsAreNotValid) {
  for (const char* text :
       {"\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5"}) {
    EXPECT_EQ(Utf8SequenceLength(text), 0u) << text;
    EXPECT_FALSE(IsValidUtf8(text)) << text;
  }
  EXPECT_EQ(Utf8SequenceLength("\xe2\x82\xac\xff"), 3u);
  EXPECT_TRUE(IsValidUtf8(""));
}

TEST(Utf8Test, PlainNamesHaveNoControlCharacters) {
  EXPECT_TRUE(IsPlainName("layers.0.\xc3\xa9"));
  EXPECT_FALSE(IsPlainName("a\nb"));
  EXPECT_FALSE(IsPlainName("a\x7f"));
  EXPECT_FALSE(IsPlainName(std::string("a\0", 2)));
  EXPECT_FALSE(IsPlainName("\xc3"));
}

}  // namespace
}  // namespace consilium

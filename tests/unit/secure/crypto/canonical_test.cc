#include "consilium/secure/canonical.h"

#include <gtest/gtest.h>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

std::string Hex(const CanonicalEncoder& encoder) {
  return HexEncode(encoder.bytes());
}

TEST(CanonicalEncoderTest, WritesLengthsAndBigEndianValues) {
  EXPECT_EQ(Hex(CanonicalEncoder("d")),
            "0000000000000001"
            "64");
  EXPECT_EQ(Hex(CanonicalEncoder("d").String("ab").U64(258)),
            "0000000000000001"
            "64"
            "0000000000000002"
            "6162"
            "0000000000000008"
            "0000000000000102");
  EXPECT_EQ(Hex(CanonicalEncoder("").I64(-1).Bool(true).F64(1.0).Count(0)),
            "0000000000000000"
            "0000000000000008"
            "ffffffffffffffff"
            "0000000000000008"
            "0000000000000001"
            "0000000000000008"
            "3ff0000000000000"
            "0000000000000008"
            "0000000000000000");
}

TEST(CanonicalEncoderTest, FieldsCannotSlideIntoEachOther) {
  EXPECT_NE(Hex(CanonicalEncoder("d").String("ab").String("c")),
            Hex(CanonicalEncoder("d").String("a").String("bc")));
  EXPECT_NE(Hex(CanonicalEncoder("d").String("").String("a")),
            Hex(CanonicalEncoder("d").String("a").String("")));
  EXPECT_NE(Hex(CanonicalEncoder("da").String("b")),
            Hex(CanonicalEncoder("d").String("ab")));
  EXPECT_NE(Hex(CanonicalEncoder("d").String("a")),
            Hex(CanonicalEncoder("d").String("a").String("")));
}

}  // namespace
}  // namespace consilium

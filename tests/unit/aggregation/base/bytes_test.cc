#include "consilium/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "consilium/base/strings.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(BytesTest, IntegersHaveAFixedByteOrder) {
  std::byte raw[9];
  StoreLittleEndian(uint64_t{0x0102030405060708}, raw + 1);  // unaligned
  EXPECT_EQ(HexEncode(std::span(raw).subspan(1)), "0807060504030201");
  EXPECT_EQ(LoadLittleEndian<uint64_t>(raw + 1), 0x0102030405060708u);
  EXPECT_EQ(LoadBigEndian<uint64_t>(raw + 1), 0x0807060504030201u);
  StoreBigEndian(uint32_t{0x01020304}, raw);
  EXPECT_EQ(HexEncode(std::span(raw).first(4)), "01020304");
  StoreBigEndian(uint16_t{0x0102}, raw);
  EXPECT_EQ(LoadLittleEndian<uint16_t>(raw), 0x0201u);
  StoreBigEndian(uint8_t{7}, raw);
  EXPECT_EQ(LoadBigEndian<uint8_t>(raw), 7u);
}

TEST(BytesTest, WhatIsWrittenIsRead) {
  ByteWriter writer;
  writer.U8(1);
  writer.U16(0x0203);
  writer.U32(0x04050607);
  writer.U64(std::numeric_limits<uint64_t>::max());
  writer.I64(-2);
  writer.F32(1.5f);
  writer.F64(-0.0);
  writer.Text("raw");
  writer.LengthPrefixed("text");
  writer.Zeros(2);
  writer.PatchU32(3, 0x01020304);
  EXPECT_EQ(HexEncode(writer.bytes().first(7)), "01030204030201");

  const std::vector<std::byte> bytes = std::move(writer).Take();
  ByteReader reader(bytes);
  EXPECT_THAT(reader.U8(), IsOkAndHolds(1));
  EXPECT_THAT(reader.U16(), IsOkAndHolds(0x0203));
  EXPECT_THAT(reader.U32(), IsOkAndHolds(0x01020304u));
  EXPECT_THAT(reader.U64(), IsOkAndHolds(std::numeric_limits<uint64_t>::max()));
  EXPECT_THAT(reader.I64(), IsOkAndHolds(-2));
  EXPECT_THAT(reader.F32(), IsOkAndHolds(1.5f));
  ASSERT_OK_AND_ASSIGN(const double zero, reader.F64());
  EXPECT_TRUE(std::signbit(zero));
  EXPECT_THAT(reader.Text(3), IsOkAndHolds("raw"));
  EXPECT_THAT(reader.LengthPrefixedText(4), IsOkAndHolds("text"));
  EXPECT_THAT(reader.ExpectEnd(), StatusIs(kInvalid, HasSubstr("2 more")));
  EXPECT_THAT(reader.Skip(2), IsOk());
  EXPECT_THAT(reader.ExpectEnd(), IsOk());
  EXPECT_TRUE(reader.done());
}

TEST(BytesTest, AFailedReadSaysWhatIsMissingAndConsumesNothing) {
  ByteReader reader(AsBytes("abcde"), "manifest");
  EXPECT_THAT(reader.U8(), IsOk());
  EXPECT_THAT(reader.U64(),
              StatusIs(kInvalid, std::string("manifest is cut short: u64 at "
                                             "byte 1 needs 8 bytes, 4 are "
                                             "left")));
  EXPECT_EQ(reader.offset(), 1u);
  EXPECT_THAT(reader.Bytes(5), StatusIs(kInvalid));
  EXPECT_THAT(reader.Bytes(std::numeric_limits<size_t>::max()),
              StatusIs(kInvalid));
  EXPECT_THAT(reader.Skip(5), StatusIs(kInvalid));
  EXPECT_EQ(reader.remaining(), 4u);
  EXPECT_THAT(reader.U32(), IsOk());
  EXPECT_THAT(reader.U8(), StatusIs(kInvalid));
  EXPECT_THAT(reader.Bytes(0), IsOk());
}

TEST(BytesTest, ADeclaredLengthIsCheckedBeforeItIsUsed) {
  ByteWriter writer;
  writer.U32(0xffffffff);
  writer.Text("x");
  ByteReader reader(writer.bytes());
  EXPECT_THAT(reader.LengthPrefixed(16),
              StatusIs(kInvalid, AllOf(HasSubstr("4294967295"),
                                       HasSubstr("limit is 16"))));
  EXPECT_EQ(reader.offset(), 0u);
  EXPECT_THAT(reader.LengthPrefixed(0xffffffff), StatusIs(kInvalid));
  EXPECT_EQ(reader.offset(), 0u);
}

// Whatever the bytes, reads end with an error or at the end, inside the span.
TEST(BytesTest, RandomBytesNeverLeadOutside) {
  SeededRandom random(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> bytes(RandomBelow(random, 40));
    random.Fill(bytes);
    ByteReader reader(bytes);
    bool ok = true;
    while (ok && !reader.done()) {
      const size_t before = reader.offset();
      switch (RandomBelow(random, 4)) {
        case 0:
          ok = reader.U16().ok();
          break;
        case 1:
          ok = reader.U64().ok();
          break;
        case 2:
          ok = reader.LengthPrefixed(1 << 20).ok();
          break;
        default:
          ok = reader.Bytes(RandomBelow(random, 8)).ok();
          break;
      }
      ASSERT_LE(reader.offset(), bytes.size());
      ASSERT_GE(reader.offset(), before);
    }
  }
}

}  // namespace
}  // namespace consilium

#include "consilium/aggregation/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<std::byte> MakeFrame() {
  std::vector<std::byte> frame(kFrameHeaderBytes + 3 + 8);
  std::memcpy(frame.data() + kFrameHeaderBytes, "abcfloats!!", 11);
  SealFrameHeader({.kind = FrameKind::kParameters,
                   .codec = CodecId::kBF16,
                   .first_element = 0x0102030405060708,
                   .elements = 4,
                   .codec_header_bytes = 3},
                  frame);
  return frame;
}

TEST(FrameTest, HasTheseVeryBytes) {
  EXPECT_EQ(HexEncode(std::span<const std::byte>(MakeFrame()).first(24)),
            "4346524d"  // CFRM
            "01"
            "01"
            "0100"              // version, parameters, bfloat16
            "0807060504030201"  // first element
            "04000000"          // elements
            "03000000");        // codec header
  EXPECT_EQ(HexEncode(std::span<const std::byte>(MakeFrame()).subspan(28, 4)),
            "00000000");
}

TEST(FrameTest, ParsesWhatItWrote) {
  const std::vector<std::byte> frame = MakeFrame();
  ASSERT_OK_AND_ASSIGN(const FrameView view, ParseFrame(frame));
  EXPECT_EQ(view.header.kind, FrameKind::kParameters);
  EXPECT_EQ(view.header.codec, CodecId::kBF16);
  EXPECT_EQ(view.header.first_element, 0x0102030405060708u);
  EXPECT_EQ(view.header.elements, 4u);
  EXPECT_EQ(AsChars(view.codec_header), "abc");
  EXPECT_EQ(AsChars(view.body), "floats!!");
}

TEST(FrameTest, NoFlippedBitOfTheContentGoesUnseen) {
  const std::vector<std::byte> frame = MakeFrame();
  for (size_t bit = 8 * 24; bit < 8 * frame.size(); ++bit) {
    if (bit / 8 >= 28 && bit / 8 < 32) continue;
    std::vector<std::byte> bad = frame;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_THAT(ParseFrame(bad), StatusIs(absl::StatusCode::kDataLoss)) << bit;
    EXPECT_OK(ParseFrame(bad, CrcCheck::kSkip)) << bit;
  }
}

TEST(FrameTest, NamesTheFieldThatIsWrong) {
  const auto with = [](size_t at, int value) {
    std::vector<std::byte> frame = MakeFrame();
    frame[at] = static_cast<std::byte>(value);
    return frame;
  };
  EXPECT_THAT(ParseFrame(with(0, 'X')), StatusIs(kInvalid, HasSubstr("magic")));
  EXPECT_THAT(ParseFrame(with(4, 2)),
              StatusIs(kInvalid, HasSubstr("version 2")));
  EXPECT_THAT(ParseFrame(with(5, 3)), StatusIs(kInvalid, HasSubstr("kind 3")));
  EXPECT_THAT(ParseFrame(with(15, 0x7F)),
              StatusIs(kInvalid, HasSubstr("first element")));
  EXPECT_THAT(ParseFrame(with(20, 12)),
              StatusIs(kInvalid, HasSubstr("codec header of 12")));
  EXPECT_THAT(ParseFrame(with(23, 0xFF)), StatusIs(kInvalid));
  EXPECT_THAT(ParseFrame(with(31, 1)), StatusIs(kInvalid, HasSubstr("zero")));
  EXPECT_THAT(ParseFrame(with(5, 0)),
              StatusIs(kInvalid, HasSubstr("metadata with elements")));
  std::vector<std::byte> metadata(40);
  SealFrameHeader({.kind = FrameKind::kMetadata}, metadata);
  EXPECT_OK(ParseFrame(metadata));
  metadata[7] = std::byte{1};  // codec 256
  EXPECT_THAT(ParseFrame(metadata),
              StatusIs(kInvalid, HasSubstr("or a codec")));
}

TEST(FrameTest, RefusesSizesOutsideTheBounds) {
  const std::vector<std::byte> frame = MakeFrame();
  for (size_t n = 0; n < kFrameHeaderBytes; ++n) {
    EXPECT_THAT(ParseFrame(std::span(frame).first(n)), StatusIs(kInvalid));
  }
  for (size_t n = kFrameHeaderBytes; n < frame.size(); ++n) {
    EXPECT_FALSE(ParseFrame(std::span(frame).first(n)).ok()) << n;
  }
  std::vector<std::byte> largest(kMaxFrameBytes);
  SealFrameHeader({}, largest);
  EXPECT_OK(ParseFrame(largest));
  largest.push_back({});
  EXPECT_THAT(ParseFrame(largest), StatusIs(kInvalid, HasSubstr("1048560")));
}

}  // namespace
}  // namespace consilium

#include "consilium/aggregation/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

absl::StatusOr<ContributionMetadata> Decode(std::span<const std::byte> frame,
                                            size_t groups = 10,
                                            const MetadataLimits& limits = {}) {
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView view, ParseFrame(frame));
  return DecodeMetadata(view, groups, limits);
}

// A metadata frame of this body.
std::vector<std::byte> FrameOf(const ByteWriter& body) {
  std::vector<std::byte> frame(kFrameHeaderBytes);
  frame.insert(frame.end(), body.bytes().begin(), body.bytes().end());
  SealFrameHeader({.kind = FrameKind::kMetadata}, frame);
  return frame;
}

TEST(MetadataTest, RoundTripsSorted) {
  const ContributionMetadata metadata = {
      .examples = 569,
      .group_tokens = {{7, 100}, {2, 0}},
      .metrics = {{"train/loss", 0.25}, {"accuracy", -1e300}}};
  ASSERT_OK_AND_ASSIGN(const auto frame, EncodeMetadataFrame(metadata));
  ASSERT_OK_AND_ASSIGN(const ContributionMetadata read, Decode(frame));
  EXPECT_EQ(read.examples, 569u);
  EXPECT_EQ(read.group_tokens, (std::vector<GroupTokens>{{2, 0}, {7, 100}}));
  EXPECT_EQ(read.metrics, (std::vector<NamedMetric>{{"accuracy", -1e300},
                                                    {"train/loss", 0.25}}));
}

TEST(MetadataTest, HasTheseVeryBytes) {
  ASSERT_OK_AND_ASSIGN(
      const auto frame,
      EncodeMetadataFrame(
          {.examples = 5, .group_tokens = {{1, 2}}, .metrics = {{"m", 1.0}}}));
  EXPECT_EQ(HexEncode(std::span(frame).subspan(kFrameHeaderBytes)),
            "0100"  // version
            "0100"
            "08000000"
            "0500000000000000"  // examples
            "0200"
            "0c000000"
            "01000000"
            "0200000000000000"  // tokens
            "0300"
            "0b000000"
            "0100"
            "6d"
            "000000000000f03f");  // metrics
}

TEST(MetadataTest, SkipsTagsItDoesNotKnow) {
  ByteWriter body;
  body.U16(1);
  body.U16(1);
  body.U32(8);
  body.U64(9);
  body.U16(16);
  body.LengthPrefixed("clip");
  body.U16(60000);
  body.LengthPrefixed("");
  ASSERT_OK_AND_ASSIGN(const ContributionMetadata read, Decode(FrameOf(body)));
  EXPECT_EQ(read.examples, 9u);
}

TEST(MetadataTest, RefusesWhatBreaksTheGrammar) {
  const auto expect = [](const char* hex, const char* message) {
    ByteWriter body;
    body.Bytes(*HexDecode(hex));
    EXPECT_THAT(Decode(FrameOf(body)), StatusIs(kInvalid, HasSubstr(message)))
        << hex;
  };
  expect("", "metadata");
  expect("0200", "version 2");
  expect("010001", "metadata");
  expect("0100010009000000", "metadata");
  expect("01000100070000000000000000000000", "examples");
  expect(
      "0100"
      "0100080000000100000000000000"
      "0100080000000100000000000000",
      "field 1 is out of order");
  expect(
      "0100"
      "02000c000000"
      "0a0000000100000000000000",
      "group 10 of 10");
  expect(
      "0100"
      "020018000000"
      "030000000100000000000000"
      "030000000100000000000000",
      "group 3 are out of order");
  expect(
      "0100"
      "02000b000000"
      "0300000001000000000000",
      "group tokens");
  expect(
      "0100"
      "03000b000000"
      "010041000000000000f03f",
      "metric name");
  expect(
      "0100"
      "03000a000000"
      "0000000000000000f03f",
      "metric name");
  expect(
      "0100"
      "03000b000000"
      "010061000000000000f87f",
      "not finite");
  expect(
      "0100"
      "030016000000"
      "010061000000000000f03f"
      "010061000000000000f03f",
      "out of order");
}

TEST(MetadataTest, RefusesFramesThatHoldParameters) {
  std::vector<std::byte> frame(kFrameHeaderBytes + 4);
  SealFrameHeader({.elements = 1}, frame);
  EXPECT_THAT(Decode(frame), StatusIs(kInvalid, HasSubstr("no metadata")));
}

TEST(MetadataTest, EncodesNothingItWouldNotRead) {
  EXPECT_THAT(EncodeMetadataFrame({.group_tokens = {{1, 2}, {1, 3}}}),
              StatusIs(kInvalid, HasSubstr("group 1 given twice")));
  EXPECT_THAT(EncodeMetadataFrame({.metrics = {{"a", 1}, {"a", 2}}}),
              StatusIs(kInvalid, HasSubstr("\"a\" given twice")));
  for (const char* name : {"", "Loss", "a b", "\xc3\xa9"}) {
    EXPECT_THAT(EncodeMetadataFrame({.metrics = {{name, 1}}}),
                StatusIs(kInvalid));
  }
  EXPECT_THAT(
      EncodeMetadataFrame(
          {.metrics = {{"a", std::numeric_limits<double>::infinity()}}}),
      StatusIs(kInvalid, HasSubstr("not finite")));
}

TEST(MetadataTest, NamesTheLimitThatIsExceeded) {
  const ContributionMetadata metadata = {.metrics = {{"aa", 1}, {"bb", 2}}};
  ASSERT_OK_AND_ASSIGN(const auto frame, EncodeMetadataFrame(metadata));
  for (const MetadataLimits& limits :
       {MetadataLimits{.max_metadata_bytes = 20},
        MetadataLimits{.max_metrics = 1},
        MetadataLimits{.max_metric_name_bytes = 1}}) {
    EXPECT_THAT(EncodeMetadataFrame(metadata, limits),
                StatusIs(kExhausted, HasSubstr("max_met")));
    EXPECT_THAT(Decode(frame, 10, limits),
                StatusIs(kExhausted, HasSubstr("max_met")));
  }
  // Never more than a frame, whatever the configuration says.
  ContributionMetadata huge;
  for (uint32_t g = 0; g < 90'000; ++g) huge.group_tokens.push_back({g, 1});
  EXPECT_THAT(EncodeMetadataFrame(huge, {.max_metadata_bytes = 1 << 30}),
              StatusIs(kExhausted));
}

}  // namespace
}  // namespace consilium

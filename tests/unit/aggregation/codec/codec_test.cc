#include "consilium/aggregation/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kFull = kMaxElementsPerFrame;

const Codec& F32(int64_t elements_per_frame = kFull) {
  return **FindCodec(CodecId::kF32, elements_per_frame);
}

std::vector<float> Ramp(size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

TEST(FindCodecTest, HasOneObjectForEachFrameSize) {
  EXPECT_THAT(kFrameSizes, ElementsAre(258048, 129024, 64512, 32256, 16128));
  for (const int64_t size : kFrameSizes) {
    ASSERT_OK_AND_ASSIGN(const Codec* const codec,
                         FindCodec(CodecId::kF32, size));
    EXPECT_EQ(codec->id(), CodecId::kF32);
    EXPECT_EQ(codec->name(), "f32");
    EXPECT_EQ(codec->elements_per_frame(), size);
    EXPECT_EQ(*FindCodec(CodecId::kF32, size), codec);
  }
  EXPECT_EQ(CodecName(CodecId::kF32), "f32");
}

TEST(FindCodecTest, RefusesOtherSizesAndCodecs) {
  for (const int64_t size :
       {int64_t{0}, int64_t{-1}, int64_t{1}, kFull + 1, kFull - 1, 2 * kFull,
        kFull / 32, kFull / 3, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(FindCodec(CodecId::kF32, size),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(Cat("is ", size, ", must be one of")),
                               HasSubstr("258048, 129024, 64512, 32256, "
                                         "16128"))));
  }
  EXPECT_THAT(FindCodec(CodecId::kRing24, kFull),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("65")));
  EXPECT_EQ(CodecName(CodecId::kRing24), "");
}

TEST(FrameSizeTest, IsTheLargestWithWhichAllFramesFit) {
  constexpr int64_t kDefault = int64_t{2} << 20;
  const auto size = [](int64_t frames) {
    return FrameSizeFor(frames, kDefault);
  };
  EXPECT_EQ(size(1), 258048);
  EXPECT_EQ(size(2), 258048);
  EXPECT_EQ(size(3), 129024);
  EXPECT_EQ(size(4), 129024);
  EXPECT_EQ(size(5), 64512);
  EXPECT_EQ(size(8), 64512);
  EXPECT_EQ(size(9), 32256);
  EXPECT_EQ(size(16), 32256);
  EXPECT_EQ(size(17), 16128);
  EXPECT_EQ(size(32), 16128);
  // None is smaller, whatever the cohort.
  EXPECT_EQ(size(33), 16128);
  EXPECT_EQ(size(INT64_MAX), 16128);
  EXPECT_EQ(FrameSizeFor(1, 0), 16128);
  EXPECT_EQ(FrameSizeFor(1, int64_t{64} << 10), 16128);
  EXPECT_EQ(FrameSizeFor(1000, int64_t{1} << 30), 258048);
  // A frame counts with its header.
  EXPECT_EQ(FrameSizeFor(2, 2 * 1'032'224), 258048);
  EXPECT_EQ(FrameSizeFor(2, 2 * 1'032'224 - 1), 129024);
}

TEST(F32CodecTest, AFullFrameAndItsTagFitAMebibyte) {
  const Codec& codec = F32();
  EXPECT_EQ(codec.MaxFrameBytes(kFull), 1'032'224u);
  EXPECT_LE(codec.MaxFrameBytes(kFull), kMaxFrameBytes);
}

TEST(F32CodecTest, DecodesInPlaceWhereAlignmentAllows) {
  const Codec& codec = F32();
  const std::vector<float> values = Ramp(1001);
  std::vector<std::byte> memory(codec.MaxFrameBytes(1001) + 1);
  for (const size_t shift : {0u, 1u}) {
    const auto out = std::span(memory).subspan(shift);
    const size_t size = codec.Encode(values, 77, out);
    EXPECT_EQ(size, codec.MaxFrameBytes(1001));
    std::vector<float> scratch;
    ASSERT_OK_AND_ASSIGN(
        const DecodedFrame frame,
        DecodeParameterFrame(out.first(size), CrcCheck::kVerify, &scratch));
    EXPECT_EQ(frame.first_element, 77);
    ASSERT_EQ(frame.values.size(), values.size());
    EXPECT_EQ(std::memcmp(frame.values.data(), values.data(), 4 * 1001), 0);
    EXPECT_EQ(scratch.empty(), shift == 0);
  }
}

TEST(F32CodecTest, RefusesSizesThatDoNotFit) {
  std::vector<float> scratch;
  const auto decode = [&](uint32_t elements, size_t body,
                          uint32_t codec_header) {
    std::vector<std::byte> frame(kFrameHeaderBytes + codec_header + body);
    SealFrameHeader({.elements = elements, .codec_header_bytes = codec_header},
                    frame);
    return DecodeParameterFrame(frame, CrcCheck::kVerify, &scratch);
  };
  EXPECT_OK(decode(2, 8, 0));
  EXPECT_FALSE(decode(0, 0, 0).ok());
  EXPECT_FALSE(decode(2, 7, 0).ok());
  EXPECT_FALSE(decode(2, 12, 0).ok());
  EXPECT_FALSE(decode(2, 8, 4).ok());
  EXPECT_FALSE(decode(0x40000002, 8, 0).ok());
}

TEST(F32CodecTest, RefusesOtherFrames) {
  std::vector<float> scratch;
  std::vector<std::byte> frame(kFrameHeaderBytes + 4);
  SealFrameHeader({.codec = CodecId::kRing24, .elements = 1}, frame);
  EXPECT_THAT(DecodeParameterFrame(frame, CrcCheck::kVerify, &scratch),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("65")));
  SealFrameHeader({.kind = FrameKind::kWords, .elements = 1}, frame);
  EXPECT_THAT(DecodeParameterFrame(frame, CrcCheck::kVerify, &scratch),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

class PayloadWriterSizeTest : public ::testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(FrameSizes, PayloadWriterSizeTest,
                         ::testing::ValuesIn(kFrameSizes));

// Sizes around whole frames, handed over in pieces of various lengths.
TEST_P(PayloadWriterSizeTest, CutsAtFullFramesHoweverElementsArrive) {
  const int64_t full = GetParam();
  const Codec& codec = F32(full);
  for (const int64_t n :
       {int64_t{1}, full - 1, full, full + 1, 2 * full, 2 * full + 3}) {
    const std::vector<float> values = Ramp(static_cast<size_t>(n));
    for (const size_t piece :
         {size_t{100'000}, static_cast<size_t>(full), static_cast<size_t>(n)}) {
      std::vector<std::vector<std::byte>> frames;
      PayloadWriter writer(n, &codec, [&](std::span<const std::byte> frame) {
        frames.emplace_back(frame.begin(), frame.end());
        return absl::OkStatus();
      });
      ASSERT_OK(writer.WriteMetadata({.examples = 3}));
      for (size_t at = 0; at < values.size(); at += piece) {
        ASSERT_OK(writer.Append(std::span(values).subspan(
            at, std::min(piece, values.size() - at))));
      }
      ASSERT_OK(writer.Finish());

      ASSERT_EQ(std::ssize(frames), 1 + ParameterFrameCount(codec, n));
      EXPECT_EQ(writer.frames(), std::ssize(frames));
      ASSERT_OK_AND_ASSIGN(const FrameView metadata, ParseFrame(frames[0]));
      EXPECT_EQ(DecodeMetadata(metadata, 1)->examples, 3u);
      std::vector<float> read, scratch;
      int64_t bytes = std::ssize(frames[0]);
      for (size_t f = 1; f < frames.size(); ++f) {
        ASSERT_OK_AND_ASSIGN(
            const DecodedFrame frame,
            DecodeParameterFrame(frames[f], CrcCheck::kVerify, &scratch));
        EXPECT_EQ(frame.first_element, std::ssize(read));
        EXPECT_TRUE(f + 1 == frames.size() || std::ssize(frame.values) == full);
        read.insert(read.end(), frame.values.begin(), frame.values.end());
        bytes += std::ssize(frames[f]);
      }
      EXPECT_TRUE(read == values);
      EXPECT_EQ(writer.bytes(), bytes);
      EXPECT_EQ(bytes - std::ssize(frames[0]), MaxParameterBytes(codec, n));
    }
  }
}

TEST(PayloadWriterTest, HoldsTheCallerToTheOrder) {
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  PayloadWriter writer(
      10, &F32(), [](std::span<const std::byte>) { return absl::OkStatus(); });
  const std::vector<float> values(11);
  EXPECT_THAT(writer.Append(values), StatusIs(kPrecondition));
  EXPECT_OK(writer.WriteMetadata({}));
  EXPECT_THAT(writer.WriteMetadata({}), StatusIs(kPrecondition));
  EXPECT_THAT(writer.Append(values),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("10")));
  EXPECT_OK(writer.Append(std::span(values).first(9)));
  EXPECT_THAT(writer.Finish(), StatusIs(kPrecondition, HasSubstr("9 of 10")));
}

TEST(PayloadWriterTest, PassesOnTheErrorOfItsSink) {
  PayloadWriter writer(1, &F32(), [](std::span<const std::byte>) {
    return absl::ResourceExhaustedError("full");
  });
  EXPECT_THAT(writer.WriteMetadata({}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace consilium

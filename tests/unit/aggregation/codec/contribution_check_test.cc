#include "consilium/aggregation/contribution_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Frames = std::vector<std::vector<std::byte>>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

class ContributionCheckTest : public ::testing::Test {
 protected:
  // Covers a and c: 300,000 + 5 elements, two parameter frames.
  ContributionCheckTest()
      : layout_(*Layout::Parse("consilium-layout 1\n"
                               "shared F32 300000 a\n"
                               "expert/0/0 F32 7 b\n"
                               "expert/0/1 F32 5 c\n")),
        space_(&layout_, *Coverage::FromBytes("\x05", 3)),
        values_(300'005) {
    values_[10] = 3;
    values_[299'999] = -4;
    values_[300'002] = 12;
  }

  Frames Encode(ContributionMetadata metadata = {.examples = 10}) {
    Frames frames;
    PayloadWriter writer(std::ssize(values_), codec_,
                         [&](std::span<const std::byte> frame) {
                           frames.emplace_back(frame.begin(), frame.end());
                           return absl::OkStatus();
                         });
    EXPECT_OK(writer.WriteMetadata(std::move(metadata)));
    EXPECT_OK(writer.Append(values_));
    EXPECT_OK(writer.Finish());
    return frames;
  }

  absl::StatusOr<ContributionStats> Check(
      const Frames& frames, const ContributionLimits& limits = {}) {
    auto checker = *ContributionChecker::Create(&space_, codec_, limits);
    for (const auto& frame : frames) {
      const absl::Status status = checker->AddFrame(frame);
      if (status.ok()) continue;
      EXPECT_EQ(checker->AddFrame(frame), status);  // and stays so
      return status;
    }
    return std::move(*checker).Finish();
  }

  const Layout layout_;
  const CoveredSpace space_;
  const Codec* const codec_ = *FindCodec(CodecId::kF32, kMaxElementsPerFrame);
  std::vector<float> values_;
};

TEST_F(ContributionCheckTest, ReportsWhatAGoodOneHolds) {
  const Frames frames = Encode({.examples = 10, .group_tokens = {{2, 77}}});
  ASSERT_EQ(frames.size(), 3u);
  ASSERT_OK_AND_ASSIGN(const ContributionStats stats, Check(frames));
  EXPECT_EQ(stats.metadata.examples, 10u);
  EXPECT_EQ(stats.metadata.group_tokens[0].tokens, 77u);
  EXPECT_EQ(stats.frames, 3);
  EXPECT_EQ(stats.payload_bytes, std::ssize(frames[0]) + std::ssize(frames[1]) +
                                     std::ssize(frames[2]));
  EXPECT_EQ(stats.group_sum_squares, (std::vector<double>{25, 0, 144}));
  EXPECT_EQ(stats.norm, 13);
  EXPECT_EQ(stats.abs_max, 12);
}

TEST_F(ContributionCheckTest, RefusesFramesThatAreNotTheNextOne) {
  const Frames good = Encode();
  EXPECT_THAT(Check({good[1], good[2]}),
              StatusIs(kInvalid, HasSubstr("frame 0")));
  EXPECT_THAT(Check({good[0], good[2]}),
              StatusIs(kInvalid, AllOf(HasSubstr("frame 1"),
                                       HasSubstr("instead of [0, +258048)"))));
  EXPECT_THAT(Check({good[0], good[1], good[1]}),
              StatusIs(kInvalid, HasSubstr("instead of [258048, +41957)")));
  EXPECT_THAT(Check({good[0], good[0]}),
              StatusIs(kInvalid, HasSubstr("kind 0")));
  EXPECT_THAT(Check({good[0], good[1], good[2], good[2]}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("3 frames")));
  EXPECT_THAT(Check({good[0], good[1]}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("2 of 3 frames")));
  EXPECT_THAT(Check({}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ContributionCheckTest, RefusesDamageAndOtherCodecs) {
  Frames bad = Encode();
  bad[1][5000] ^= std::byte{4};
  EXPECT_THAT(Check(bad),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("frame 1")));
  bad = Encode();
  bad[1].pop_back();
  EXPECT_THAT(Check(bad), StatusIs(absl::StatusCode::kDataLoss));
  bad = Encode();
  bad[2].clear();
  EXPECT_THAT(Check(bad), StatusIs(kInvalid, HasSubstr("frame 2")));
  bad = Encode();
  SealFrameHeader({.codec = CodecId::kBF16, .elements = 258048}, bad[1]);
  EXPECT_THAT(Check(bad), StatusIs(kInvalid, HasSubstr("as f32")));
}

TEST_F(ContributionCheckTest, NamesTensorAndElementThatAreNotFinite) {
  values_[300'003] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Check(Encode()),
              StatusIs(kInvalid, AllOf(HasSubstr("frame 2"),
                                       HasSubstr("\"c\": element 3"))));
  values_[270'000] = -std::numeric_limits<float>::infinity();
  EXPECT_THAT(Check(Encode()),
              StatusIs(kInvalid, HasSubstr("\"a\": element 270000")));
}

TEST_F(ContributionCheckTest, HoldsWeightsAndNormToTheirLimits) {
  EXPECT_THAT(Check(Encode({.examples = 0})),
              StatusIs(kInvalid, HasSubstr("examples are 0")));
  EXPECT_OK(Check(Encode(), {.max_examples = 10}));
  EXPECT_THAT(Check(Encode(), {.max_examples = 9}),
              StatusIs(kExhausted, HasSubstr("rounds.maximum_weight 9")));
  EXPECT_THAT(Check(Encode({.examples = 1, .group_tokens = {{2, 8}}}),
                    {.max_tokens = 7}),
              StatusIs(kExhausted, AllOf(HasSubstr("expert/0/1"),
                                         HasSubstr("limits.max_tokens 7"))));
  EXPECT_THAT(
      Check(Encode({.examples = 1, .group_tokens = {{1, 8}}})),
      StatusIs(kInvalid, HasSubstr("expert/0/0, which is not covered")));
  EXPECT_OK(Check(Encode(), {.max_norm = 13}));
  EXPECT_THAT(Check(Encode(), {.max_norm = 12.9}),
              StatusIs(kExhausted, HasSubstr("rounds.maximum_norm 12.9")));
}

TEST_F(ContributionCheckTest, RefusesCoverageOfNothing) {
  const CoveredSpace nothing(&layout_, Coverage(3));
  EXPECT_THAT(ContributionChecker::Create(&nothing, codec_, {}),
              StatusIs(kInvalid));
}

}  // namespace
}  // namespace consilium

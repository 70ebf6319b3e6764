#include "client_sdk/training/table_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(AreaUnderRocTest, IsTheShareOfOrderedPairs) {
  const std::vector<double> scores = {0.1, 0.4, 0.35, 0.8};
  const std::vector<int32_t> labels = {0, 0, 1, 1};
  EXPECT_EQ(AreaUnderRoc(scores, labels), 0.75);  // 3 of 4 pairs
}

TEST(AreaUnderRocTest, EqualScoresCountHalf) {
  const std::vector<int32_t> labels = {0, 1, 1, 0, 1};
  EXPECT_EQ(AreaUnderRoc(std::vector<double>(5, 7.0), labels), 0.5);
  const std::vector<double> scores = {1, 1, 2, 0, 2};
  // Pairs (0, 1): row 0 against 1, 2, 4 gives 0.5 + 1 + 1, row 3 gives 3.
  EXPECT_EQ(AreaUnderRoc(scores, labels), 5.5 / 6);
}

TEST(AreaUnderRocTest, NeedsBothClasses) {
  const std::vector<double> scores = {1, 2};
  EXPECT_EQ(AreaUnderRoc(scores, std::vector<int32_t>{1, 1}), std::nullopt);
  EXPECT_EQ(AreaUnderRoc(scores, std::vector<int32_t>{0, 0}), std::nullopt);
  EXPECT_EQ(AreaUnderRoc(scores, std::vector<int32_t>{0, 2}), std::nullopt);
  EXPECT_EQ(AreaUnderRoc({}, {}), std::nullopt);
}

TEST(ShareDeviationTest, ComparesSharesWithTheirMean) {
  EXPECT_EQ(ShareDeviation(std::vector<uint64_t>{5, 5, 5, 5}), 0);
  EXPECT_EQ(ShareDeviation(std::vector<uint64_t>{0, 0}), 0);
  // Shares 1 and 0 around 1/2.
  EXPECT_EQ(ShareDeviation(std::vector<uint64_t>{9, 0}), 0.5);
}

class CheckTableTest : public ::testing::Test {
 protected:
  absl::Status Check() const {
    return CheckTable({features_, labels_, columns_},
                      {.features = 2, .classes = 3});
  }

  std::vector<float> features_ = {1, 2, 3, 4};
  std::vector<int32_t> labels_ = {0, 2};
  int64_t columns_ = 2;
};

TEST_F(CheckTableTest, AcceptsWhatFits) { EXPECT_OK(Check()); }

TEST_F(CheckTableTest, RefusesAnotherWidth) {
  columns_ = 4;
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("4 columns; the model takes 2")));
}

TEST_F(CheckTableTest, RefusesNoRows) {
  features_.clear();
  labels_.clear();
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("no rows")));
}

TEST_F(CheckTableTest, RefusesHalfARow) {
  features_.push_back(5);
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("5 features")));
}

TEST_F(CheckTableTest, RefusesValuesThatAreNotFinite) {
  features_[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("row 1, column 1")));
  features_[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("row 1, column 1")));
}

TEST_F(CheckTableTest, RefusesLabelsOutOfRange) {
  labels_[0] = 3;
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("row 0: label 3")));
  labels_[0] = -1;
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("label -1")));
}

}  // namespace
}  // namespace consilium

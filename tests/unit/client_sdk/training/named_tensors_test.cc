#include "consilium/client_training/named_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<NamedTensor> TwoTensors() {
  return {{"a", {2}, {1, 2}}, {"b", {1, 3}, {3, 4, 5}}};
}

TEST(NamedTensorsTest, SourceAnswersByName) {
  const std::vector<NamedTensor> tensors = TwoTensors();
  const ParameterSource source = SourceOf(tensors);
  ASSERT_OK_AND_ASSIGN(const std::span<const float> values, source("b"));
  EXPECT_THAT(values, ElementsAre(3, 4, 5));
  EXPECT_THAT(source("c"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"c\"")));
}

TEST(NamedTensorsTest, DeltaMovesOnlyWhatItNames) {
  std::vector<NamedTensor> tensors = TwoTensors();
  const std::vector<NamedTensor> delta = {{"b", {1, 3}, {1, 0, -1}}};
  ASSERT_OK(AddDelta(delta, tensors));
  EXPECT_THAT(tensors[0].values, ElementsAre(1, 2));
  EXPECT_THAT(tensors[1].values, ElementsAre(4, 4, 4));
}

TEST(NamedTensorsTest, BadDeltaChangesNothing) {
  std::vector<NamedTensor> tensors = TwoTensors();
  const std::vector<NamedTensor> unknown = {{"a", {2}, {1, 1}},
                                            {"c", {1}, {1}}};
  EXPECT_THAT(AddDelta(unknown, tensors),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"c\"")));
  const std::vector<NamedTensor> wrong_length = {{"a", {2}, {1, 1}},
                                                 {"b", {1}, {1}}};
  EXPECT_THAT(AddDelta(wrong_length, tensors),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3")));
  EXPECT_THAT(tensors[0].values, ElementsAre(1, 2));
}

}  // namespace
}  // namespace consilium

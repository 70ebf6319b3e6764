#include "consilium/aggregation/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Names = std::vector<std::string_view>;

Layout MakeLayout() {
  return *Layout::Parse(
      "consilium-layout 1\n"
      "shared F32 2 trunk.A\n"
      "shared F32 3 trunk.B\n"
      "expert/0/0 F32 4 e0.A\n"
      "expert/0/0 F32 5 e0.B\n"
      "expert/0/1 F32 6 e1.A\n");
}

TEST(DeltaTest, CoversTheGroupsOfItsTensors) {
  const Layout layout = MakeLayout();
  ASSERT_OK_AND_ASSIGN(
      const Coverage coverage,
      CoverageFromNames(layout, Names{"e1.A", "trunk.B", "trunk.A"}));
  EXPECT_TRUE(coverage.Has(0));
  EXPECT_FALSE(coverage.Has(1));
  EXPECT_TRUE(coverage.Has(2));
}

TEST(DeltaTest, RefusesUnknownRepeatedMissingAndNoTensors) {
  const Layout layout = MakeLayout();
  EXPECT_THAT(CoverageFromNames(layout, Names{"e1.A", "e2.A"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("e2.A")));
  EXPECT_THAT(CoverageFromNames(layout, Names{"e1.A", "e1.A"}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("e1.A")));
  EXPECT_THAT(CoverageFromNames(layout, Names{"trunk.A", "trunk.B", "e0.B"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("expert/0/0"), HasSubstr("\"e0.A\""))));
  EXPECT_THAT(CoverageFromNames(layout, Names{}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

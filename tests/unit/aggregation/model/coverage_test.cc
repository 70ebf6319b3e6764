#include "consilium/aggregation/coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

// `groups` experts; slot s belongs to group s mod groups and has s % 5 + 1
// elements.
Layout MakeLayout(size_t slots, uint32_t groups) {
  std::vector<SlotSpec> specs;
  for (size_t s = 0; s < slots; ++s) {
    specs.push_back({.name = Cat("t", s),
                     .shape = {static_cast<int64_t>(s % 5 + 1)},
                     .group = {.kind = GroupKind::kExpert,
                               .layer = 0,
                               .expert = static_cast<uint32_t>(s) % groups}});
  }
  return *Layout::Create(std::move(specs));
}

TEST(CoverageTest, BytesAreLeastSignificantBitFirst) {
  Coverage coverage(10);
  EXPECT_TRUE(coverage.Empty());
  coverage.Set(0);
  coverage.Set(9);
  EXPECT_EQ(coverage.bytes(), std::string("\x01\x02", 2));
  EXPECT_EQ(coverage.CountCovered(), 2u);
  EXPECT_TRUE(coverage.Has(9));
  EXPECT_FALSE(coverage.Has(8));
  EXPECT_THAT(Coverage::FromBytes(coverage.bytes(), 10),
              IsOkAndHolds(coverage));
}

TEST(CoverageTest, RefusesAWrongLengthAndBitsBeyondTheLastGroup) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Coverage::FromBytes("", 1), StatusIs(kInvalid));
  EXPECT_THAT(Coverage::FromBytes("\x01\x01", 8),
              StatusIs(kInvalid, HasSubstr("8 groups need 1")));
  EXPECT_THAT(Coverage::FromBytes("\x01\x04", 10),
              StatusIs(kInvalid, HasSubstr("beyond the last of 10")));
  EXPECT_OK(Coverage::FromBytes("\xff", 8));
  EXPECT_OK(Coverage::FromBytes("\xff\x03", 10));
}

TEST(CoveredSpaceTest, AgreesWithCountingOneByOne) {
  std::mt19937 random(11);
  for (const size_t slots : {1u, 63u, 64u, 65u, 200u, 500u}) {
    for (const uint32_t groups : {1u, 3u, 150u}) {
      const Layout layout = MakeLayout(slots, groups);
      Coverage coverage(layout.groups().size());
      for (size_t g = 0; g < coverage.groups(); ++g) {
        if (random() % 2 == 0) coverage.Set(g);
      }
      const CoveredSpace space(&layout, coverage);
      int64_t before = 0;
      for (size_t s = 0; s < slots; ++s) {
        ASSERT_EQ(space.Before(s), before);
        if (!coverage.Has(layout.slots()[s].group)) continue;
        const int64_t elements = layout.slots()[s].elements;
        ASSERT_EQ(space.SlotAt(before), s);
        ASSERT_EQ(space.SlotAt(before + elements - 1), s);
        before += elements;
      }
      EXPECT_EQ(space.Before(slots), before);
      EXPECT_EQ(space.elements(), before);
    }
  }
}

TEST(CoveredSpaceTest, AllOfALayoutIsTheLayout) {
  const Layout layout = MakeLayout(130, 7);
  const CoveredSpace space(&layout, Coverage::All(layout));
  EXPECT_EQ(space.elements(), layout.total_elements());
  for (int64_t e = 0; e < layout.total_elements(); ++e) {
    ASSERT_EQ(space.SlotAt(e), layout.SlotAt(e));
  }
}

}  // namespace
}  // namespace consilium

// Properties that hold for any federation, tried on random ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "consilium/aggregation/weights.h"
#include "consilium/base/strings.h"
#include "hwy/targets.h"
#include "tests/support/fake_hasher.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/aggregation/fold/fold_fixture.h"

namespace consilium {
namespace {

TEST(FoldPropertiesTest, BitsDoNotDependOnThreadsBlocksOrPieces) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    const FoldCase c = FoldCase::Random(seed, seed, 70);
    const size_t least = 1 + seed % 3;
    const std::vector<float> expected = ExpectedFold(c, least);
    const Sha256Digest digest =
        FakeHasher::Of(std::as_bytes(std::span(expected)));
    for (const int threads : {1, 2, 4}) {
      for (const int64_t segment : {64, 1000, 1 << 20}) {
        for (const int64_t block : {1 << 16, 333}) {
          const FoldOutcome outcome = RunFold(c, {.min_contributors = least,
                                                  .threads = threads,
                                                  .segment_elements = segment,
                                                  .block_elements = block});
          ASSERT_OK(outcome.status);
          ASSERT_EQ(Bits(outcome.values), Bits(expected))
              << "seed " << seed << ", " << threads << " threads";
          ASSERT_EQ(outcome.digest, digest);
        }
      }
    }
  }
}

TEST(FoldPropertiesTest, BitsDoNotDependOnTheInstructionSet) {
  const FoldCase c = FoldCase::Random(99, 11, 80);
  const std::vector<uint32_t> expected = Bits(ExpectedFold(c, 1));
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_EQ(Bits(RunFold(c, {}).values), expected) << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(FoldPropertiesTest, HeldGroupsKeepTheBitsOfTheBase) {
  FoldCase c = FoldCase::Random(5, 3, 60);
  std::mt19937 random(5);
  for (float& v : c.base) {
    if (random() % 4 == 0) v = -0.0f;
    if (random() % 4 == 0) v = std::ldexp(v, -130);
  }
  for (auto& weights : c.weights) std::fill(weights.begin(), weights.end(), 0);
  const FoldOutcome outcome = RunFold(c, {.threads = 2});
  ASSERT_OK(outcome.status);
  EXPECT_EQ(Bits(outcome.values), Bits(c.base));
  for (const int64_t read : outcome.report.elements_read) EXPECT_EQ(read, 0);
}

// Contributions that touch different groups do not see one another: the fold
// of all is, group by group, the fold of each alone.
TEST(FoldPropertiesTest, DisjointContributionsGiveTheUnionOfTheirFolds) {
  FoldCase c = FoldCase::Random(8, 3, 100);
  const size_t groups = c.layout->groups().size();
  for (size_t i = 0; i < c.sources.size(); ++i) {
    for (size_t g = 0; g < groups; ++g) {
      c.weights[i][g] = g % 4 == i ? kWeightOne / 3 : 0;
    }
  }
  const FoldOutcome together = RunFold(c, {});
  ASSERT_OK(together.status);
  for (size_t i = 0; i < c.sources.size(); ++i) {
    FoldCase alone{.layout = c.layout, .base = c.base};
    auto copy = std::make_unique<MemorySource>("copy", alone.layout.get(),
                                               c.sources[i]->coverage());
    copy->values = c.sources[i]->values;
    alone.sources.push_back(std::move(copy));
    alone.weights.push_back(c.weights[i]);
    const FoldOutcome one = RunFold(alone, {});
    ASSERT_OK(one.status);
    for (const TensorSlot& slot : c.layout->slots()) {
      const auto of = [&](const std::vector<float>& values) {
        return Bits(
            std::span(values).subspan(static_cast<size_t>(slot.first_element),
                                      static_cast<size_t>(slot.elements)));
      };
      if (slot.group % 4 == i) {
        EXPECT_EQ(of(together.values), of(one.values)) << slot.name;
      } else {
        EXPECT_EQ(of(one.values), of(c.base)) << slot.name;
      }
      if (slot.group % 4 == 3) {
        EXPECT_EQ(of(together.values), of(c.base)) << slot.name;
      }
    }
  }
}

// Laying the slots out in another order changes where values lie and nothing
// else.
TEST(FoldPropertiesTest, PermutingSlotsPermutesTheResult) {
  const FoldCase c = FoldCase::Random(21, 5, 75);
  const size_t slots = c.layout->slots().size();
  std::vector<size_t> order(slots);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(21));

  std::vector<SlotSpec> specs;
  for (const size_t s : order) {
    const TensorSlot& slot = c.layout->slots()[s];
    specs.push_back({.name = slot.name,
                     .shape = slot.shape,
                     .group = c.layout->groups()[slot.group]});
  }
  FoldCase p{.layout = Shared(Layout::Create(std::move(specs)))};
  const auto take = [](const std::vector<float>& from, int64_t first, int64_t n,
                       std::vector<float>* to) {
    to->insert(to->end(), from.begin() + first, from.begin() + first + n);
  };
  for (const size_t s : order) {
    const TensorSlot& slot = c.layout->slots()[s];
    take(c.base, slot.first_element, slot.elements, &p.base);
  }
  for (size_t i = 0; i < c.sources.size(); ++i) {
    const MemorySource& from = *c.sources[i];
    Coverage coverage(c.layout->groups().size());
    std::vector<int64_t> weights(coverage.groups());
    for (size_t g = 0; g < coverage.groups(); ++g) {
      const auto there = *p.layout->FindGroup(c.layout->groups()[g]);
      if (from.coverage().Has(g)) coverage.Set(there);
      weights[there] = c.weights[i][g];
    }
    auto source = std::make_unique<MemorySource>("permuted", p.layout.get(),
                                                 std::move(coverage));
    source->values.clear();
    for (const size_t s : order) {
      if (!from.space().CoversSlot(s)) continue;
      take(from.values, from.space().Before(s), c.layout->slots()[s].elements,
           &source->values);
    }
    p.sources.push_back(std::move(source));
    p.weights.push_back(std::move(weights));
  }

  const FoldOutcome straight = RunFold(c, {});
  const FoldOutcome permuted = RunFold(p, {});
  ASSERT_OK(straight.status);
  ASSERT_OK(permuted.status);
  std::vector<float> expected;
  for (const size_t s : order) {
    const TensorSlot& slot = c.layout->slots()[s];
    take(straight.values, slot.first_element, slot.elements, &expected);
  }
  EXPECT_EQ(Bits(permuted.values), Bits(expected));
}

// The order of institutions is part of the result; another order gives the
// same mean up to the rounding of float64 sums.
TEST(FoldPropertiesTest, AnotherOrderOfInstitutionsGivesTheSameMean) {
  FoldCase c = FoldCase::Random(34, 7, 80);
  const FoldOutcome forwards = RunFold(c, {});
  std::reverse(c.sources.begin(), c.sources.end());
  std::reverse(c.weights.begin(), c.weights.end());
  const FoldOutcome backwards = RunFold(c, {});
  ASSERT_OK(forwards.status);
  ASSERT_OK(backwards.status);
  for (size_t i = 0; i < c.base.size(); ++i) {
    ASSERT_NEAR(forwards.values[i], backwards.values[i],
                1e-6 * (1 + std::fabs(forwards.values[i])));
  }
}

TEST(FoldPropertiesTest, EqualUpdatesGiveThatUpdateWhateverTheWeights) {
  FoldCase c = FoldCase::Random(55, 6, 100);
  std::fill(c.base.begin(), c.base.end(), 0.0f);
  for (auto& source : c.sources) source->values = c.sources[0]->values;
  for (auto& weights : c.weights) {
    for (int64_t& u : weights) u = std::max<int64_t>(u, 1);
  }
  const FoldOutcome outcome = RunFold(c, {.threads = 2});
  ASSERT_OK(outcome.status);
  for (size_t i = 0; i < c.base.size(); ++i) {
    ASSERT_FLOAT_EQ(outcome.values[i], c.sources[0]->values[i]);
  }
}

}  // namespace
}  // namespace consilium

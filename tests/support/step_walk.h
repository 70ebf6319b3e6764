// A walk through the steps of something that several threads do beside each
// other, so that one run takes a few steps more or less than another.

#ifndef CONSILIUM_TESTS_SUPPORT_STEP_WALK_H_
#define CONSILIUM_TESTS_SUPPORT_STEP_WALK_H_

#include <gtest/gtest.h>

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace consilium {

struct StepWalk {
  int64_t known = 0;  // steps of a run that was not disturbed
  int64_t first = 1;
  int64_t stride = 1;
};

// Calls meet(k) for k = first, first + stride and so on; it says whether its
// run came to a k-th step. Ends with a run that did not, and with a failure
// where a known step is never met: a run that comes to its end before that
// step is tried again.
inline void WalkSteps(const StepWalk& walk,
                      absl::FunctionRef<bool(int64_t)> meet) {
  constexpr int kTries = 10;
  ASSERT_GE(walk.known, walk.first) << "there is nothing to walk through";
  for (int64_t k = walk.first;; k += walk.stride) {
    bool met = meet(k);
    for (int i = 1; i < kTries && !met && k <= walk.known; ++i) {
      if (testing::Test::HasFailure()) return;
      met = meet(k);
    }
    if (testing::Test::HasFailure()) return;
    if (met) continue;
    EXPECT_GT(k, walk.known) << "a step that was never met";
    return;
  }
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_STEP_WALK_H_

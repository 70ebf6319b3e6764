// A world whose first round has folded the contributions of bank-a and bank-b
// into version 1.

#ifndef CONSILIUM_TESTS_CRASH_FOLDED_ROUND_H_
#define CONSILIUM_TESTS_CRASH_FOLDED_ROUND_H_

#include <gtest/gtest.h>

#include <string>

#include "consilium/base/status_macros.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"
#include "tests/support/status_matchers.h"

namespace consilium {

class FoldedRoundTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(world_.Boot());
    ASSERT_OK_AND_ASSIGN(
        round_, world_.engine().StartRound("operator", {}, {}, "manual", ""));
    for (const std::string name : {"bank-a", "bank-b"}) {
      FakeInstitution bank({.name = name,
                            .delta = name == "bank-a" ? 0.5f : 1.0f,
                            .examples = 10,
                            .groups = {"shared"}});
      ASSERT_OK(bank.Contribute(world_, round_));
    }
    for (;;) {
      const uint64_t rings = world_.bell().rings();
      const auto live = world_.engine().LiveRoundOf(round_);
      ASSERT_TRUE(live.has_value());
      if (live->state.phase != RoundPhase::kAggregating) break;
      world_.bell().WaitBeyond(rings);
    }
    ASSERT_OK(world_.store().history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                                 ListContributions(tx, {.round = round_}));
      contribution_ = rows.at(0).id;
      return absl::OkStatus();
    }));
  }

  EngineWorld world_{EngineWorld::MakeImage(SmallLayout())};
  int64_t round_ = 0;
  std::string contribution_;  // of bank-a
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_FOLDED_ROUND_H_

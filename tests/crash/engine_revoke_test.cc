// An operator revokes, suspends or resumes an institution of a round under way,
// and the power fails, the process is killed or one step fails at every change
// of a file meanwhile. The institution and its place in the round never
// disagree afterwards.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

using testing::ElementsAre;

enum class Trouble { kPower, kProcess, kOneError };
constexpr Trouble kTroubles[] = {Trouble::kPower, Trouble::kProcess,
                                 Trouble::kOneError};
constexpr int64_t kRound = 1;

FakeInstitution Bank(const std::string& name) {
  return FakeInstitution(
      {.name = name, .delta = 0.5f, .examples = 10, .groups = {"shared"}});
}

absl::Status Set(EngineWorld& world, const std::string& who,
                 InstitutionState to) {
  return world.engine().SetInstitution("operator", who, to, "");
}

InstitutionState StateOf(EngineWorld& world, const std::string& who) {
  InstitutionState state = InstitutionState::kInvited;
  EXPECT_OK(world.store().history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, who));
    state = row.value().state;
    return absl::OkStatus();
  }));
  return state;
}

// Round 1 collects from bank-a and bank-b, and one contribution is enough.
enum class Before { kNothing, kBankASent, kBankBSuspended };
DiskImage ImageOf(Before before) {
  EngineWorld world(EngineWorld::MakeImage(SmallLayout()));
  EXPECT_OK(world.Boot());
  EXPECT_OK(world.engine().SetPolicy(
      "operator", {{"quorum", "1"}, {"evaluation.quorum", "1"}}, ""));
  EXPECT_OK(
      world.engine().StartRound("operator", {}, {}, "manual", "").status());
  if (before == Before::kBankASent) {
    EXPECT_OK(Bank("bank-a").Contribute(world, kRound));
  } else if (before == Before::kBankBSuspended) {
    EXPECT_OK(Set(world, "bank-b", InstitutionState::kSuspended));
  }
  world.Down();
  return world.TakeImage();
}

// The k-th change of a file meets the trouble. False: there was no k-th.
bool SetInTrouble(EngineWorld& world, const std::string& who,
                  InstitutionState to, int64_t k, Trouble trouble) {
  EXPECT_OK(world.Boot());
  const int64_t before = world.fs().ops();
  if (trouble == Trouble::kOneError) {
    world.fs().FailAt(k, absl::ResourceExhaustedError("no space left"));
  } else {
    world.fs().CrashAt(k);
  }
  const absl::Status told = Set(world, who, to);
  const bool met = world.fs().ops() - before >= k;
  if (world.fs().crashed()) {
    world.Down();
    if (trouble == Trouble::kPower) {
      world.fs().Crash(static_cast<uint64_t>(k));
    } else {
      world.fs().KillProcess();
    }
    EXPECT_OK(world.Boot());
  } else if (!told.ok()) {
    // SQLite believes no file again whose sync has failed.
    world.Down();
    EXPECT_OK(world.Boot());
  }
  world.fs().CancelFaults();
  // An operator who got no answer looks, and says it again if need be.
  if (StateOf(world, who) != to) {
    EXPECT_FALSE(told.ok()) << "what was answered is forgotten";
    EXPECT_OK(Set(world, who, to));
  }
  return met;
}

RoundMember MemberOf(EngineWorld& world, const std::string& who) {
  const auto live = world.engine().LiveRoundOf(kRound);
  EXPECT_TRUE(live.has_value());
  if (!live.has_value()) return {};
  const RoundMember* const member = FindMember(live->state, who);
  return member == nullptr ? RoundMember() : *member;
}

// The trouble may have met the fold instead, which then is tried again.
void AwaitFold(EngineWorld& world) {
  for (;;) {
    const uint64_t rings = world.bell().rings();
    const auto live = world.engine().LiveRoundOf(kRound);
    if (!live.has_value() || live->state.phase != RoundPhase::kAggregating) {
      return;
    }
    if (!live->trouble.empty() || live->wait.reason == WaitReason::kFoldRetry) {
      world.clock().Advance(absl::Minutes(2));
      world.engine().Poll();
      continue;
    }
    world.bell().WaitBeyond(rings);
  }
}

// State of each institution's contribution, and who is in the round's version.
void ExpectContributions(EngineWorld& world,
                         const std::map<std::string, ContributionState>& wanted,
                         const std::string& folded) {
  EXPECT_OK(world.store().history().Read([&](ReadTx& tx) -> absl::Status {
    std::map<std::string, ContributionState> states;
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                               ListContributions(tx, {.round = kRound}));
    for (const ContributionRow& row : rows) {
      CONSILIUM_ASSIGN_OR_RETURN(const InstitutionRow institution,
                                 GetInstitution(tx, row.institution_id));
      states[institution.name] = row.state;
    }
    EXPECT_EQ(states, wanted);
    CONSILIUM_ASSIGN_OR_RETURN(const RoundRow round, GetRound(tx, kRound));
    EXPECT_TRUE(round.candidate_version.has_value()) << round.reason;
    if (!round.candidate_version.has_value()) return absl::OkStatus();
    std::vector<std::string> names;
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto held, VersionContributions(tx, *round.candidate_version));
    for (const ContributionRow& row : held) {
      CONSILIUM_ASSIGN_OR_RETURN(const InstitutionRow institution,
                                 GetInstitution(tx, row.institution_id));
      names.push_back(institution.name);
    }
    EXPECT_THAT(names, ElementsAre(folded));
    return absl::OkStatus();
  }));
}

class EngineRevokeTest : public testing::TestWithParam<Trouble> {
 protected:
  // Walks through all changes; `check` sees each world afterwards.
  template <class Check>
  void Walk(Before before, const std::string& who, InstitutionState to,
            Check check) {
    const DiskImage image = ImageOf(before);
    WalkSteps({.known = ChangesOf(image, who, to)}, [&](int64_t k) {
      SCOPED_TRACE(Cat("change ", k));
      EngineWorld world(image);
      const bool met = SetInTrouble(world, who, to, k, GetParam());
      if (!HasFailure()) check(world);
      return met;
    });
  }

 private:
  // Of files, when nothing goes wrong. The fewest of some runs, since a fold
  // that it sets off may have begun before the answer.
  static int64_t ChangesOf(const DiskImage& image, const std::string& who,
                           InstitutionState to) {
    constexpr int kRuns = 6;
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (int i = 0; i < kRuns; ++i) {
      EngineWorld world(image);
      EXPECT_OK(world.Boot());
      const int64_t before = world.fs().ops();
      EXPECT_OK(Set(world, who, to));
      fewest = std::min(fewest, world.fs().ops() - before);
    }
    return fewest;
  }
};

TEST_P(EngineRevokeTest, ARevokedContributionNeverCounts) {
  Walk(Before::kBankASent, "bank-a", InstitutionState::kRevoked,
       [](EngineWorld& world) {
         EXPECT_EQ(MemberOf(world, "bank-a").state, MemberState::kRemoved);
         FakeInstitution bank_b = Bank("bank-b");
         ASSERT_OK(bank_b.Contribute(world, kRound));
         AwaitFold(world);
         ExpectContributions(world,
                             {{"bank-a", ContributionState::kQuarantined},
                              {"bank-b", ContributionState::kFolded}},
                             "bank-b");
         world.ExpectClean();
       });
}

TEST_P(EngineRevokeTest, ARoundDoesNotWaitForASuspendedInstitution) {
  Walk(Before::kBankASent, "bank-b", InstitutionState::kSuspended,
       [](EngineWorld& world) {
         EXPECT_EQ(MemberOf(world, "bank-b").state, MemberState::kRemoved);
         AwaitFold(world);
         ExpectContributions(world, {{"bank-a", ContributionState::kFolded}},
                             "bank-a");
         world.ExpectClean();
       });
}

TEST_P(EngineRevokeTest, AResumedInstitutionIsInTheRoundAgain) {
  Walk(Before::kBankBSuspended, "bank-b", InstitutionState::kActive,
       [](EngineWorld& world) {
         EXPECT_EQ(MemberOf(world, "bank-b").state, MemberState::kInvited);
         FakeInstitution bank_b = Bank("bank-b");
         EXPECT_OK(bank_b.Contribute(world, kRound));
         world.ExpectClean();
       });
}

INSTANTIATE_TEST_SUITE_P(Troubles, EngineRevokeTest,
                         testing::ValuesIn(kTroubles), [](const auto& info) {
                           switch (info.param) {
                             case Trouble::kPower:
                               return "PowerIsLost";
                             case Trouble::kProcess:
                               return "TheProcessIsKilled";
                             default:
                               return "OneStepFails";
                           }
                         });

}  // namespace
}  // namespace consilium

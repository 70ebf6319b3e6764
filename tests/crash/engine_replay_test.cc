// A replay that leaves somebody out, and what happens to its contributions and
// versions meanwhile.

#include <thread>

#include "consilium/base/status_macros.h"
#include "tests/crash/folded_round.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

class EngineReplayTest : public FoldedRoundTest {
 protected:
  absl::StatusOr<ReplayView> ReplayWithoutB() {
    return world_.engine().ReplayRound("operator", round_, {"bank-b"}, "");
  }
  HistoryStore& history() { return world_.store().history(); }
};

TEST_F(EngineReplayTest, AQuarantineMeanwhileKeepsTheCandidateFromBeingMade) {
  Bell held;
  history().WriteAsync(
      [&](WriteTx& tx) -> absl::Status {
        const int64_t before = world_.fs().ops();
        held.Ring();
        // Only the fold changes files while this thread is here.
        while (world_.fs().ops() == before) std::this_thread::yield();
        return SetContributionState(tx, contribution_,
                                    ContributionState::kQuarantined, "odd");
      },
      [](const absl::Status& status) { EXPECT_OK(status); });
  held.WaitBeyond(0);
  EXPECT_THAT(
      ReplayWithoutB(),
      StatusIs(StatusCode::kAborted, AllOf(HasSubstr("bank-a was quarantined"),
                                           HasSubstr("replay again"))));
  EXPECT_OK(history().Read([](ReadTx& tx) -> absl::Status {
    EXPECT_THAT(FindVersion(tx, 2), IsOkAndHolds(std::nullopt));
    return absl::OkStatus();
  }));
  ASSERT_OK(world_.store().CollectGarbage().status());
  world_.ExpectClean();
}

TEST_F(EngineReplayTest, AResultThatRetentionDeletedIsNamed) {
  ASSERT_OK_AND_ASSIGN(const ReplayView first, ReplayWithoutB());
  ASSERT_TRUE(first.candidate.has_value());
  EXPECT_EQ(first.candidate->number, 2);
  // Asked for again by somebody whose answer was lost.
  ASSERT_OK_AND_ASSIGN(const ReplayView again, ReplayWithoutB());
  EXPECT_EQ(again.candidate->number, 2);
  ASSERT_OK(history().Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(SetVersionState(tx, 2, VersionState::kRejected,
                                              "worse", absl::UnixEpoch()));
    return MarkVersionPruned(tx, 2, absl::UnixEpoch());
  }));
  EXPECT_THAT(ReplayWithoutB(),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("gives version 2 again"),
                             HasSubstr("is rejected and was deleted by "
                                       "storage.version_retention"))));
  ASSERT_OK(world_.store().CollectGarbage().status());
  world_.ExpectClean();
}

TEST_F(EngineReplayTest, ACandidateThatRetentionDeletedIsMadeAgain) {
  ASSERT_OK(ReplayWithoutB().status());
  ASSERT_OK(history().Write([](WriteTx& tx) -> absl::Status {
    return MarkVersionPruned(tx, 2, absl::UnixEpoch());
  }));
  ASSERT_OK(world_.store().CollectGarbage().status());
  ASSERT_OK_AND_ASSIGN(const ReplayView again, ReplayWithoutB());
  EXPECT_EQ(again.candidate->number, 2);
  ASSERT_OK(world_.store().CollectGarbage().status());
  ASSERT_OK(history().Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow row, GetVersion(tx, 2));
    EXPECT_EQ(row.pruned_at, std::nullopt);
    return absl::OkStatus();
  }));
  world_.ExpectClean();
}

}  // namespace
}  // namespace consilium

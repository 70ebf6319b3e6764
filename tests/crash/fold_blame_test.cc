// Whom a fold blames that could not read a contribution: the institution for
// what its spool holds, nobody for a disk or a history that does not answer.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "consilium/base/status_macros.h"
#include "coordinator/engine/fold_job.h"
#include "tests/crash/engine_world.h"
#include "tests/crash/fake_institution.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

class FoldBlameTest : public testing::Test {
 protected:
  // bank-a has contributed; the round waits for bank-b.
  void SetUp() override {
    ASSERT_OK(world_.Boot());
    ASSERT_OK_AND_ASSIGN(
        const int64_t round,
        world_.engine().StartRound("operator", {}, {}, "manual", ""));
    const Work work = world_.engine().WorkFor(*world_.CallerFor("bank-a").peer);
    input_.context = std::get<TrainWork>(work.what).context;
    input_.base = world_.engine().current_version().value();
    input_.clock = &world_.clock();
    FakeInstitution bank_a({.name = "bank-a",
                            .delta = 0.5f,
                            .examples = 10,
                            .groups = {"shared"}});
    ASSERT_OK(bank_a.Contribute(world_, round));
    ASSERT_OK(world_.store().history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                                 ListContributions(tx, {.round = round}));
      input_.members.push_back(
          {"bank-a", rows.at(0).id, rows.at(0).spool_path});
      return absl::OkStatus();
    }));
  }

  FoldJobFailure Fold() {
    FoldJobFailure failure;
    const auto result =
        RunFoldJob(input_, world_.store(), /*publish=*/false, &failure);
    EXPECT_EQ(result.status(), failure.status);
    return failure;
  }
  void ExpectBlamed(absl::StatusCode code) {
    const FoldJobFailure failure = Fold();
    EXPECT_EQ(failure.status.code(), code) << failure.status;
    EXPECT_EQ(failure.member, 0u);
    EXPECT_FALSE(failure.retryable);
  }
  void ExpectNobodyBlamed() {
    const FoldJobFailure failure = Fold();
    EXPECT_FALSE(failure.status.ok());
    EXPECT_EQ(failure.member, std::nullopt) << failure.status;
    EXPECT_TRUE(failure.retryable);
  }
  // Whose spool it is, is known; whether it is to blame, is not.
  void ExpectPerhapsTheDisk() {
    const FoldJobFailure failure = Fold();
    EXPECT_FALSE(failure.status.ok());
    EXPECT_EQ(failure.member, 0u) << failure.status;
    EXPECT_TRUE(failure.retryable);
    EXPECT_FALSE(failure.no_space());
  }
  std::string SpoolPath() {
    return JoinPath("/data", input_.members.at(0).spool_path);
  }

  EngineWorld world_{EngineWorld::MakeImage(SmallLayout())};
  FoldJobInput input_;
};

TEST_F(FoldBlameTest, NobodyWhenAllIsWell) {
  const FoldJobFailure failure = Fold();
  EXPECT_OK(failure.status);
}

TEST_F(FoldBlameTest, TheInstitutionForADamagedSpool) {
  ASSERT_OK_AND_ASSIGN(const FileInfo info, world_.fs().Stat(SpoolPath()));
  ASSERT_OK(world_.fs().Corrupt(SpoolPath(), info.size - 1));
  ExpectBlamed(absl::StatusCode::kDataLoss);
}

TEST_F(FoldBlameTest, TheInstitutionForASpoolThatIsGone) {
  ASSERT_OK(world_.fs().Remove(SpoolPath()));
  ExpectBlamed(absl::StatusCode::kNotFound);
}

TEST_F(FoldBlameTest, TheInstitutionForAnUploadThatTheHistoryDoesNotKnow) {
  input_.members[0].contribution_id = "another";
  ExpectBlamed(absl::StatusCode::kDataLoss);
}

TEST_F(FoldBlameTest, NobodyForAHistoryThatCannotBeRead) {
  ASSERT_OK(world_.store().history().Close());
  ExpectNobodyBlamed();
}

TEST_F(FoldBlameTest, NobodyForASpoolThatCannotBeOpened) {
  ASSERT_OK(world_.fs().Remove(SpoolPath()));
  ASSERT_OK(world_.fs().MakeDirs(SpoolPath()));
  ExpectPerhapsTheDisk();
}

TEST_F(FoldBlameTest, NobodyForASpoolThatTheDiskCannotRead) {
  world_.fs().FailReads(SpoolPath(), ErrnoStatus(EIO, "read", SpoolPath()));
  ExpectPerhapsTheDisk();
}

TEST_F(FoldBlameTest, NobodyForABaseThatTheDiskCannotRead) {
  const std::string blob = world_.store().blobs().PathOf(input_.base.digest);
  world_.fs().FailReads(blob, ErrnoStatus(EIO, "read", blob));
  ExpectNobodyBlamed();
}

TEST_F(FoldBlameTest, ABaseThatIsDamagedIsNotTriedAgain) {
  const std::string blob = world_.store().blobs().PathOf(input_.base.digest);
  ASSERT_OK(world_.fs().Corrupt(blob, 0));
  const FoldJobFailure failure = Fold();
  EXPECT_EQ(failure.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(failure.member, std::nullopt);
  EXPECT_FALSE(failure.retryable);
}

TEST_F(FoldBlameTest, AFullDiskIsToldFromAllElse) {
  world_.fs().FailAt(1, ErrnoStatus(ENOSPC, "write", "/data/x"));
  const FoldJobFailure failure = Fold();
  EXPECT_TRUE(failure.no_space()) << failure.status;
  EXPECT_EQ(failure.member, std::nullopt);
  EXPECT_TRUE(failure.retryable);
}

// The promise is kept until the version's file has its size, and no longer.
TEST_F(FoldBlameTest, TheSpaceOfTheVersionIsPromisedOnce) {
  SpaceLedger& space = world_.store().space();
  const int64_t before = space.reserved_bytes();
  ASSERT_OK_AND_ASSIGN(SpaceReservation promised, space.Reserve(1000, "test"));
  input_.space = std::make_shared<SpaceReservation>(std::move(promised));
  EXPECT_OK(Fold().status);
  EXPECT_EQ(space.reserved_bytes(), before);
}

// The same in a round of two, one of whom is enough, through the engine.
class UnreadableSpoolTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(world_.Boot());
    ASSERT_OK_AND_ASSIGN(
        round_, world_.engine().StartRound(
                    "operator", {{"quorum", "1"}, {"evaluation.quorum", "1"}},
                    {}, "manual", ""));
    Contribute("bank-a");
    ASSERT_OK_AND_ASSIGN(const auto spools, world_.store().spools().List());
    ASSERT_EQ(spools.size(), 1u);
    const std::string path = JoinPath("/data", spools[0]);
    world_.fs().FailReads(path, ErrnoStatus(EIO, "read", path));
    Contribute("bank-b");
  }
  void Contribute(const std::string& name) {
    FakeInstitution bank(
        {.name = name, .delta = 0.5f, .examples = 10, .groups = {"shared"}});
    ASSERT_OK(bank.Contribute(world_, round_));
  }
  // Until the fold waits for its next attempt, or is over.
  RoundState AwaitFold() {
    for (;;) {
      const uint64_t rings = world_.bell().rings();
      const auto live = world_.engine().LiveRoundOf(round_);
      EXPECT_TRUE(live.has_value());
      if (!live.has_value()) return {};
      if (live->state.phase != RoundPhase::kAggregating ||
          live->state.fold_retry_at.has_value()) {
        return live->state;
      }
      world_.bell().WaitBeyond(rings);
    }
  }
  void TryAgain() {
    world_.clock().Advance(absl::Hours(1));
    world_.engine().Poll();
  }

  EngineWorld world_{EngineWorld::MakeImage(SmallLayout())};
  int64_t round_ = 0;
};

TEST_F(UnreadableSpoolTest, OneThatCanBeReadAgainCounts) {
  EXPECT_EQ(AwaitFold().fold_failures, 1);
  world_.fs().CancelFaults();
  TryAgain();
  const RoundState state = AwaitFold();
  EXPECT_EQ(state.phase, RoundPhase::kEvaluating);
  EXPECT_FALSE(FindMember(state, "bank-a")->quarantined);
}

TEST_F(UnreadableSpoolTest, AtTheLastAttemptItCostsOneContribution) {
  RoundState state = AwaitFold();
  for (int64_t tries = 1; tries < state.config.fold_attempts; ++tries) {
    EXPECT_EQ(state.phase, RoundPhase::kAggregating);
    EXPECT_FALSE(FindMember(state, "bank-a")->quarantined);
    TryAgain();
    state = AwaitFold();
  }
  EXPECT_EQ(state.phase, RoundPhase::kEvaluating);
  EXPECT_TRUE(FindMember(state, "bank-a")->quarantined);
  EXPECT_FALSE(FindMember(state, "bank-b")->quarantined);
}

// A disk that fails takes nobody's contribution.
TEST_F(UnreadableSpoolTest, WhereNoneCanBeReadNobodyIsPutOut) {
  ASSERT_OK_AND_ASSIGN(const auto spools, world_.store().spools().List());
  for (const std::string& spool : spools) {
    const std::string path = JoinPath("/data", spool);
    world_.fs().FailReads(path, ErrnoStatus(EIO, "read", path));
  }
  RoundState state = AwaitFold();
  while (state.phase == RoundPhase::kAggregating) {
    TryAgain();
    state = AwaitFold();
  }
  EXPECT_EQ(state.phase, RoundPhase::kFailed);
  EXPECT_THAT(state.reason, testing::HasSubstr("the contributions are kept"));
  for (const RoundMember& member : state.members) {
    EXPECT_FALSE(member.quarantined) << member.institution;
  }
}

}  // namespace
}  // namespace consilium

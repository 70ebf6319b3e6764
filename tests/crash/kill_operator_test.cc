// A coordinator process is killed with SIGKILL at every step of what an
// operator asks: before each change of a file and on both sides of each
// commit. The act happened whole or not at all, asking again is answered, and
// the round after it has the bits of the undisturbed average.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/crash/operator_kill.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

using testing::ElementsAre;
using Stub = v1::AdminService::Stub;
using Change = v1::SetInstitutionStateRequest;

class KillOperatorTest : public OperatorKillTest {
 protected:
  // What most acts do before they are answered.
  static std::vector<std::string> Commit(const std::string& what) {
    return {Cat("commit ", what), Cat("after the commit ", what)};
  }
  // Asked for whatever is in target_ then.
  Call Quarantining() {
    return [this] { return Quarantine(target_); };
  }
  Call Releasing() {
    return [this] { return Release(target_); };
  }
  void Target(const std::string& institution) {
    target_ = ContributionOf(institution).id();
  }
  void ExpectTarget(const std::string& institution, const std::string& state) {
    const v1::ContributionInfo found = ContributionOf(institution);
    EXPECT_EQ(found.id(), target_);
    EXPECT_EQ(found.state(), state);
  }

  std::string target_;  // a contribution
  uint64_t version_ = 0;
  float version_value_ = 0;
};

TEST_F(KillOperatorTest, ReleaseAndQuarantineAfterTheFact) {
  WalkThrough({
      .audit = "contribution.release",
      .steps = Commit("folded contribution.release"),
      .prepare =
          [&] {
            Target("bank-b");
            ASSERT_OK(Quarantine(target_));
            EXPECT_TRUE(CurrentVersion().tainted());
          },
      .call = Releasing(),
      .expect =
          [&] {
            ExpectTarget("bank-b", "folded");
            EXPECT_FALSE(CurrentVersion().tainted());
          },
      .finish = [&] { NextRound(); },
  });
  WalkThrough({
      .audit = "contribution.quarantine",
      .steps = Commit("quarantined contribution.quarantine"),
      .prepare = [&] { Target("bank-b"); },
      .call = Quarantining(),
      .expect =
          [&] {
            ExpectTarget("bank-b", "quarantined");
            EXPECT_TRUE(CurrentVersion().tainted());
          },
      .finish =
          [&] {
            NextRound();
            EXPECT_TRUE(CurrentVersion().tainted())
                << "made from a tainted one";
          },
  });
}

TEST_F(KillOperatorTest, QuarantineAndReleaseInARoundUnderWay) {
  ASSERT_OK(
      federation_->SetPolicy({{"quorum", "1"}, {"evaluation.quorum", "1"}}));
  WalkThrough({
      .audit = "contribution.quarantine",
      .steps = Commit("quarantined contribution.quarantine"),
      .prepare =
          [&] {
            OpenRound();
            Target("bank-a");
          },
      .call = Quarantining(),
      .expect = [&] { ExpectTarget("bank-a", "quarantined"); },
      // The fold goes without it.
      .finish = [&] { Finish("promoted", Folded::kOnlyB); },
  });
  WalkThrough({
      .audit = "contribution.release",
      .steps = Commit("committed contribution.release"),
      .prepare =
          [&] {
            OpenRound();
            Target("bank-a");
            ASSERT_OK(Quarantine(target_));
          },
      .call = Releasing(),
      .expect = [&] { ExpectTarget("bank-a", "committed"); },
      .finish = [&] { Finish("promoted"); },
  });
}

TEST_F(KillOperatorTest, QuarantineOfWhatIsInACandidate) {
  WalkThrough({
      .audit = "contribution.quarantine",
      .steps = Commit("quarantined contribution.quarantine"),
      .prepare =
          [&] {
            b_->HoldEvaluation();
            StartRound(0);
            a_->AwaitReport(round_);
            b_->AwaitEvaluation(round_);
            Target("bank-b");
          },
      .call = Quarantining(),
      .expect =
          [&] {
            ExpectTarget("bank-b", "quarantined");
            const auto round = Look(round_);
            ASSERT_THAT(round, IsOk());
            EXPECT_EQ(round->phase(), "rejected");
            EXPECT_EQ(Version(round->candidate().number()).state(), "rejected");
          },
      .finish =
          [&] {
            Finish("rejected");
            NextRound();
          },
  });
}

// A candidate without bank-b takes the place of the version that a round under
// way is based on.
TEST_F(KillOperatorTest, PromoteAVersion) {
  std::vector<std::string> steps = Commit("version.promote");
  // The round that it ends, in the same transaction.
  steps.push_back("commit version.promote cancelled");
  float base = value_;
  WalkThrough({
      .audit = "version.promote",
      .steps = steps,
      .prepare =
          [&] {
            base = value_;
            NextRound();
            v1::ReplayRoundRequest replay;
            replay.set_round(round_);
            replay.add_exclude("bank-b");
            v1::ReplayRoundResponse replayed;
            ASSERT_OK(Ask(&Stub::ReplayRound, replay, &replayed));
            version_ = replayed.candidate().number();
            const float current = value_;
            value_ = base;
            version_value_ = Average(Folded::kOnlyA);
            value_ = current;
            OpenRound();
          },
      .call =
          [&] {
            v1::PromoteVersionRequest request;
            request.set_number(version_);
            v1::VersionInfo response;
            return Ask(&Stub::PromoteVersion, request, &response);
          },
      .expect =
          [&] {
            EXPECT_EQ(CurrentVersion().version().number(), version_);
            EXPECT_EQ(CurrentVersion().state(), "promoted");
          },
      .finish =
          [&] {
            Finish("cancelled");
            value_ = version_value_;
            NextRound();
          },
  });
}

TEST_F(KillOperatorTest, RollBackToAVersion) {
  std::vector<std::string> steps = Commit("version.rollback");
  // The round that it ends, in the same transaction.
  steps.push_back("commit version.rollback cancelled");
  uint64_t left = 0;
  WalkThrough({
      .audit = "version.rollback",
      .steps = steps,
      .prepare =
          [&] {
            NextRound();
            const v1::VersionInfo current = CurrentVersion();
            left = current.version().number();
            version_ = current.parent();
            OpenRound();
          },
      .call =
          [&] {
            v1::RollbackVersionRequest request;
            request.set_number(version_);
            v1::VersionInfo response;
            return Ask(&Stub::RollbackVersion, request, &response);
          },
      .expect =
          [&] {
            EXPECT_EQ(CurrentVersion().version().number(), version_);
            EXPECT_EQ(Version(left).state(), "rolled_back");
          },
      .finish =
          [&] {
            Finish("cancelled");
            value_ = values_.at(version_);
            NextRound();
          },
  });
}

TEST_F(KillOperatorTest, ImportAVersion) {
  std::vector<std::string> steps = Commit("version.import");
  for (const char* step : {"make ", ".blob-tmp", "sync ", "rename to ",
                           "/blobs/", "sync folder "}) {
    steps.push_back(step);
  }
  WalkThrough({
      .audit = "version.import",
      .steps = steps,
      .prepare = [&] { version_value_ += 0.5f; },
      .call = [&] { return Import(version_value_); },
      .expect =
          [&] {
            value_ = version_value_;
            const v1::VersionInfo current = CurrentVersion();
            EXPECT_EQ(current.round(), 0u);
            EXPECT_EQ(HexEncode(AsBytes(current.version().digest())),
                      DigestOf(value_));
          },
      .finish = [&] { NextRound(); },
  });
}

TEST_F(KillOperatorTest, ReplayARound) {
  std::vector<std::string> steps = Commit("round.replay");
  for (const char* step : {"make ", ".blob-tmp", "sync ", "rename to ",
                           "/blobs/", "sync folder "}) {
    steps.push_back(step);
  }
  v1::ReplayRoundResponse replayed;
  const auto replay = [&](const std::string& without) {
    v1::ReplayRoundRequest request;
    request.set_round(round_);
    if (!without.empty()) request.add_exclude(without);
    return Ask(&Stub::ReplayRound, request, &replayed);
  };
  float base = 0;
  WalkThrough({
      .audit = "round.replay",
      .steps = steps,
      .prepare =
          [&] {
            base = value_;
            NextRound();
          },
      .call = [&] { return replay("bank-b"); },
      .expect =
          [&] {
            const float current = value_;
            value_ = base;
            const std::string digest = DigestOf(Average(Folded::kOnlyA));
            value_ = current;
            const v1::VersionInfo made = Version(replayed.candidate().number());
            EXPECT_EQ(HexEncode(AsBytes(made.version().digest())), digest);
            EXPECT_EQ(made.state(), "candidate");
            EXPECT_THAT(made.contributors(), ElementsAre("bank-a"));
          },
      .finish = [&] { NextRound(); },
  });
  WalkThrough({
      .audit = "round.replay",
      .steps = Commit("round.replay"),
      .prepare = nullptr,
      .call = [&] { return replay(""); },
      .expect = [&] { EXPECT_TRUE(replayed.equal()); },
      .finish = [&] { NextRound(); },
      .changes = false,
      .repeats = true,
  });
}

TEST_F(KillOperatorTest, ExtendARound) {
  int64_t deadline = 0;
  WalkThrough({
      .audit = "round.extend",
      .steps = Commit("round.extend collecting"),
      .prepare =
          [&] {
            OpenRound();
            deadline = Look(round_)->deadline();
          },
      .call =
          [&] {
            v1::ExtendRoundRequest request;
            request.set_round(round_);
            request.set_seconds(3600);
            v1::RoundInfo response;
            return Ask(&Stub::ExtendRound, request, &response);
          },
      .expect =
          [&] {
            // Once, and once more where the first had happened.
            const int64_t by = Look(round_)->deadline() - deadline;
            EXPECT_EQ(by % absl::ToInt64Microseconds(absl::Hours(1)), 0);
            EXPECT_GT(by, 0);
          },
      .finish = [&] { Finish("promoted"); },
      .repeats = true,
  });
}

TEST_F(KillOperatorTest, CancelARound) {
  WalkThrough({
      .audit = "round.cancel",
      .steps = Commit("round.cancel cancelled"),
      .prepare = [&] { OpenRound(); },
      .call =
          [&] {
            v1::CancelRoundRequest request;
            request.set_round(round_);
            request.set_reason("wrong data");
            v1::RoundInfo response;
            return Ask(&Stub::CancelRound, request, &response);
          },
      .expect = [&] { EXPECT_EQ(Look(round_)->phase(), "cancelled"); },
      .finish =
          [&] {
            Finish("cancelled");
            EXPECT_EQ(b_->SeenIn(round_).trainings, 0);
            NextRound();
          },
  });
}

// What follows goes on by itself, so that the kill comes at its steps too.
TEST_F(KillOperatorTest, CloseARoundNow) {
  ASSERT_OK(
      federation_->SetPolicy({{"quorum", "1"}, {"evaluation.quorum", "1"}}));
  const std::vector<std::string> labels = {"commit round.close aggregating",
                                           "after the commit round.close",
                                           ".blob-tmp",
                                           "rename to ",
                                           "/blobs/",
                                           "sync folder ",
                                           "commit folded evaluating",
                                           "commit promoted",
                                           "after the commit promoted"};
  const auto close = [&] {
    v1::CloseRoundRequest request;
    request.set_round(round_);
    v1::RoundInfo response;
    return Ask(&Stub::CloseRound, request, &response);
  };
  const auto run = [&](int64_t step) {
    StartRoundUpToBankB(step);
    Insist(close, [&] {
      const bool closed = Look(round_)->phase() != "collecting";
      const absl::Status again = close();
      EXPECT_TRUE(again.ok() || (closed && absl::IsFailedPrecondition(again)))
          << again;
      return true;
    });
    b_->Release();
    const bool killed = EndsAs("promoted", Folded::kOnlyA);
    EXPECT_EQ(b_->SeenIn(round_).receipts, 0);
    return killed && !HasFailure();
  };
  const int64_t known = StepsOf([&] { run(0); }, labels);
  WalkToEach(known, labels, steps(), run);
}

TEST_F(KillOperatorTest, SuspendResumeAndRevokeAnInstitution) {
  const auto state_of = [&](const std::string& name) {
    v1::GetInstitutionRequest request;
    request.set_name(name);
    v1::InstitutionInfo response;
    EXPECT_OK(Ask(&Stub::GetInstitution, request, &response));
    return response.state();
  };
  WalkThrough({
      .audit = "institution.suspend",
      .steps = Commit("institution.suspend"),
      .prepare = nullptr,
      .call = [&] { return SetState("bank-b", Change::SUSPEND); },
      .expect = [&] { EXPECT_EQ(state_of("bank-b"), "suspended"); },
      .finish =
          [&] {
            EXPECT_THAT(federation_->StartRound().status(),
                        StatusIs(absl::StatusCode::kFailedPrecondition));
            ASSERT_OK(SetState("bank-b", Change::RESUME));
            NextRound();
          },
  });
  WalkThrough({
      .audit = "institution.resume",
      .steps = Commit("institution.resume"),
      .prepare = [&] { ASSERT_OK(SetState("bank-b", Change::SUSPEND)); },
      .call = [&] { return SetState("bank-b", Change::RESUME); },
      .expect = [&] { EXPECT_EQ(state_of("bank-b"), "active"); },
      .finish = [&] { NextRound(); },
  });
  std::string left;
  WalkThrough({
      .audit = "institution.revoke",
      .steps = Commit("institution.revoke"),
      .prepare =
          [&] {
            left = Cat("left-", round_);
            ASSERT_OK(federation_->Enroll(left));
          },
      .call = [&] { return SetState(left, Change::REVOKE); },
      .expect = [&] { EXPECT_EQ(state_of(left), "revoked"); },
      .finish = [&] { NextRound(); },
  });
}

}  // namespace
}  // namespace consilium

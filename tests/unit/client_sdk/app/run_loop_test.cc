// The reference institution's loop, with a trainer that adds a constant.

#include "client_sdk/app/run_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client_sdk/app/commands.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class ConstantUpdate final : public TrainedUpdate {
 public:
  explicit ConstantUpdate(Update update) : update_(std::move(update)) {}
  const Update& update() const override { return update_; }

 private:
  const Update update_;
};

class FakeTrainer final : public Trainer {
 public:
  explicit FakeTrainer(Harness* h) : h_(h) {}
  std::string Describe() const override { return "fake trainer"; }
  bool CanEvaluate() const override { return can_evaluate; }
  absl::Status CheckLayout(const Layout&) const override {
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<TrainedUpdate>> Train(
      const TrainTask& task, const Parameters&, const Progress& progress,
      const CancelToken&) override {
    trained.push_back(task.round);
    if (!train_error.ok()) return train_error;
    if (report_progress && !progress(0.5, "halfway")) {
      return absl::CancelledError("not wanted");
    }
    if (after_training) after_training();
    return std::make_unique<ConstantUpdate>(h_->FullUpdate());
  }
  absl::StatusOr<Measured> Evaluate(const Parameters&) override {
    return Measured{9, {{"accuracy", 0.5}}};
  }

  bool can_evaluate = true;
  bool report_progress = false;
  absl::Status train_error;
  std::function<void()> after_training;
  std::vector<uint64_t> trained;

 private:
  Harness* const h_;
};

// The base of a fake round is no version file, so the loop runs over a real
// directory with one that the fake coordinator serves.
class RunLoopTest : public ::testing::Test {
 protected:
  RunLoopTest() {
    h_.options.state_dir = directory_ / "state";
    base_ = Publish(1, 0.5f);
    log_ = std::make_unique<Log>(
        LogOptions{LogLevel::kDebug, LogFormat::kText},
        [this](std::string_view line) { lines_.emplace_back(line); },
        [this] { return h_.clock.Now(); });
  }

  Version Publish(uint64_t number, float value) {
    return PublishVersion(h_.coordinator, directory_ / "scratch", number,
                          value);
  }
  absl::Status Run(uint64_t rounds) {
    auto session = h_.Connect();
    if (!session.ok()) return session.status();
    Client client(*std::move(session));
    RunOptions options;
    options.rounds = rounds;
    options.renew_automatically = false;
    return RunInstitution(client, trainer_, options, h_.clock, *log_,
                          stop_.token());
  }
  // An evaluation of version `number`, offered from now on.
  void OfferEvaluation(uint64_t round, uint64_t number) {
    h_.coordinator.OfferEvaluation(
        h_.coordinator.EvaluationOf(round, Publish(number, 0.75f)));
  }

  TempDir directory_;
  Harness h_{PosixFileSystem()};
  FakeTrainer trainer_{&h_};
  CancelSource stop_;
  std::vector<std::string> lines_;
  std::unique_ptr<Log> log_;
  Version base_;
};

TEST_F(RunLoopTest, ContributesEvaluatesAndEnds) {
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.OnCommit([this] { OfferEvaluation(1, 2); });
  EXPECT_OK(Run(1));
  EXPECT_EQ(h_.coordinator.commits(1), 1);
  EXPECT_THAT(h_.coordinator.log(), Contains("9 examples, 1 metrics"));
  EXPECT_THAT(lines_, Contains(HasSubstr("contribution committed")));
  EXPECT_THAT(lines_, Contains(HasSubstr("evaluated version 2 on 9 rows")));
}

TEST_F(RunLoopTest, WithoutValidationDataItDeclines) {
  trainer_.can_evaluate = false;
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.OnCommit([this] { OfferEvaluation(1, 2); });
  EXPECT_OK(Run(1));
  EXPECT_THAT(h_.coordinator.log(), Contains("no validation data"));
}

TEST_F(RunLoopTest, AFailedTrainingIsDeclinedAndForgotten) {
  trainer_.train_error = absl::InvalidArgumentError("no such column");
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.OnDecline([this] {
    trainer_.train_error = absl::OkStatus();
    h_.coordinator.OpenRoundOn(2, base_);
    h_.coordinator.OnCommit([this] { OfferEvaluation(2, 2); });
  });
  EXPECT_OK(Run(1));
  EXPECT_THAT(trainer_.trained, ::testing::ElementsAre(1, 2));
  EXPECT_THAT(h_.coordinator.log(), Contains("no such column"));
  EXPECT_EQ(h_.coordinator.commits(2), 1);
}

TEST_F(RunLoopTest, ARefusedContributionIsNotTrainedAgain) {
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.RefuseBegin({RefusalCode::kQuarantined, "norm of 1e9", {}});
  h_.coordinator.OnDecline([this] { stop_.Cancel("seen enough"); });
  EXPECT_OK(Run(0));
  EXPECT_THAT(trainer_.trained, ::testing::ElementsAre(1));
  EXPECT_THAT(lines_, Contains(HasSubstr("QUARANTINED: norm of 1e9")));
}

TEST_F(RunLoopTest, AnUploadHeldBackBySuspensionIsSentWhenThereIsWorkAgain) {
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.RefuseBegin({RefusalCode::kSuspended, "under review", {}});
  h_.coordinator.OnCommit([this] { OfferEvaluation(1, 2); });
  EXPECT_OK(Run(1));
  EXPECT_THAT(trainer_.trained, ::testing::ElementsAre(1));
  EXPECT_EQ(h_.coordinator.commits(1), 1);
  EXPECT_THAT(lines_, Contains(HasSubstr("is held back: under review")));
  EXPECT_THAT(lines_, Contains(HasSubstr("that was held back is committed")));
  EXPECT_THAT(h_.coordinator.log(), Not(Contains("Decline")));
}

TEST_F(RunLoopTest, AnUploadHeldBackForTooLongIsDroppedWithTheReason) {
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.RefuseBegin({RefusalCode::kSuspended, "under review", {}});
  h_.coordinator.RefuseBegin({RefusalCode::kLate, "round 1 is over", {}});
  h_.coordinator.OnDecline([this] { h_.coordinator.OpenRoundOn(2, base_); });
  h_.coordinator.OnCommit([this] { OfferEvaluation(2, 2); });
  EXPECT_OK(Run(1));
  EXPECT_THAT(trainer_.trained, ::testing::ElementsAre(1, 2));
  EXPECT_THAT(lines_, Contains(HasSubstr("dropped, the coordinator refuses it: "
                                         "LATE: round 1 is over")));
}

TEST_F(RunLoopTest, ARoundThatDoesNotWaitStopsTheTraining) {
  trainer_.report_progress = true;  // the fake answers: do not go on
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.OnProgress([this] { h_.coordinator.CloseRound(); });
  h_.coordinator.OnIdle([this] { stop_.Cancel("seen enough"); });
  EXPECT_OK(Run(0));
  EXPECT_THAT(lines_, Contains(HasSubstr("training stopped")));
  EXPECT_THAT(h_.coordinator.log(), Not(Contains("Decline")));
}

TEST_F(RunLoopTest, AStopInTheMiddleLeavesTheOutboxForTheNextRun) {
  h_.coordinator.OpenRoundOn(1, base_);
  h_.coordinator.OnBegin([this] {
    h_.coordinator.SetUnreachable(true);
    stop_.Cancel("terminated");
  });
  EXPECT_OK(Run(0));
  EXPECT_FALSE(h_.coordinator.Committed(1));

  h_.coordinator.OnBegin(nullptr);
  h_.coordinator.SetUnreachable(false);
  auto session = h_.Connect();
  ASSERT_OK(session);
  Client client(*std::move(session));
  CancelSource second;
  h_.coordinator.OnIdle([&] { second.Cancel("done"); });
  h_.coordinator.CloseRound();
  EXPECT_OK(
      RunInstitution(client, trainer_, {}, h_.clock, *log_, second.token()));
  EXPECT_TRUE(h_.coordinator.Committed(1));
  EXPECT_THAT(trainer_.trained, ::testing::ElementsAre(1));
  EXPECT_THAT(lines_, Contains(HasSubstr("of an earlier process is commit")));
}

TEST_F(RunLoopTest, LosingTheCoordinatorEndsItWhenThePolicyGivesUp) {
  h_.options.retry.give_up_after = absl::Minutes(3);
  trainer_.after_training = [this] { h_.coordinator.SetUnreachable(true); };
  h_.coordinator.OpenRoundOn(1, base_);
  const absl::Status status = Run(0);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(ExitCodeFor(status), 3);
}

TEST(ExitCodeTest, ScriptsRelyOnThem) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("")), 1);
  EXPECT_EQ(ExitCodeFor(absl::NotFoundError("")), 1);
  EXPECT_EQ(ExitCodeFor(absl::InvalidArgumentError("")), 2);
  EXPECT_EQ(ExitCodeFor(absl::UnavailableError("")), 3);
  EXPECT_EQ(ExitCodeFor(absl::UnauthenticatedError("")), 3);
  EXPECT_EQ(ExitCodeFor(absl::PermissionDeniedError("")), 3);
  EXPECT_EQ(ExitCodeFor(absl::DeadlineExceededError("")), 4);
}

}  // namespace
}  // namespace consilium::client::internal

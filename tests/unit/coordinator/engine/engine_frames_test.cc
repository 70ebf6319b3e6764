// The frame size of a round: chosen by its cohort, and kept.

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kInstitutions = 40;

class EngineFramesTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    ASSERT_OK(Import().status());
    ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
      for (size_t i = 3; i < kInstitutions; ++i) {
        CONSILIUM_RETURN_IF_ERROR(
            InsertInstitution(tx, Institution(Cat("more-", i))).status());
      }
      return absl::OkStatus();
    }));
    ASSERT_OK(RestartEngine());
  }

  // A round of so many institutions.
  int64_t StartRound(size_t cohort) {
    std::vector<std::string> names = {"bank-a", "bank-b", "bank-c"};
    for (size_t i = names.size(); i < kInstitutions; ++i) {
      names.push_back(Cat("more-", i));
    }
    names.resize(cohort);
    const auto round = engine_->StartRound(kTestOperator, {{"quorum", "1"}},
                                           names, "manual", "");
    EXPECT_OK(round.status());
    return round.value_or(0);
  }
  int64_t FramesOf(int64_t round) {
    const auto live = engine_->LiveRoundOf(round);
    return live.has_value() ? live->state.elements_per_frame : 0;
  }
  // What bank-a is told, which must be signed.
  int64_t Announced() {
    const Work work = engine_->WorkFor(*engine_->peers().Find("bank-a"));
    const auto* const train = std::get_if<TrainWork>(&work.what);
    if (train == nullptr) return 0;
    const RoundContext& context = *train->context;
    EXPECT_OK(VerifyStatement(signing_key_.verify_key(), context.statement,
                              context.signature));
    return context.statement.elements_per_frame;
  }
  void Limit(int64_t bytes) {
    EngineOptions options;
    options.frame_memory = bytes;
    engine_->SetLimits(options);
  }
};

TEST_F(EngineFramesTest, AreSmallerForALargerCohort) {
  for (const auto& [cohort, elements] :
       {std::pair{size_t{1}, 258048}, std::pair{size_t{2}, 258048},
        std::pair{size_t{3}, 129024}, std::pair{size_t{4}, 129024},
        std::pair{size_t{8}, 64512}, std::pair{size_t{16}, 32256},
        std::pair{size_t{32}, 16128}, std::pair{size_t{40}, 16128}}) {
    SCOPED_TRACE(cohort);
    const int64_t round = StartRound(cohort);
    ASSERT_EQ(engine_->LiveRoundOf(round)->state.members.size(), cohort);
    EXPECT_EQ(FramesOf(round), elements);
    EXPECT_EQ(Announced(), elements);
    ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  }
}

TEST_F(EngineFramesTest, AChangedLimitIsForRoundsPlannedLater) {
  const int64_t first = StartRound(4);
  EXPECT_EQ(FramesOf(first), 129024);
  Limit(int64_t{512} << 10);
  EXPECT_EQ(FramesOf(first), 129024);
  // A new announcement of the same round, too.
  ASSERT_OK(
      engine_->ExtendRound(kTestOperator, first, absl::Minutes(5), "slow"));
  EXPECT_EQ(Announced(), 129024);
  ASSERT_OK(engine_->CancelRound(kTestOperator, first, ""));
  EXPECT_EQ(FramesOf(StartRound(4)), 32256);
  EXPECT_EQ(Announced(), 32256);
}

// Outboxes hold frames of the size that was announced.
TEST_F(EngineFramesTest, ARestartKeepsWhatWasAnnounced) {
  Limit(int64_t{8} << 20);
  const int64_t round = StartRound(4);
  EXPECT_EQ(Announced(), 258048);
  ASSERT_OK(RestartEngine());  // with the limit's default
  EXPECT_EQ(FramesOf(round), 258048);
  EXPECT_EQ(Announced(), 258048);
  ASSERT_OK(engine_->CancelRound(kTestOperator, round, ""));
  EXPECT_EQ(FramesOf(StartRound(4)), 129024);
}

class StoredFramesTest : public EngineFramesTest {
 protected:
  // Replaces the frame size in the row of a round of four.
  absl::Status Store(int64_t round, const std::string& value) {
    return Write([&](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(RoundRow row, GetRound(tx, round));
      const std::string field = R"("elements_per_frame":129024,)";
      const size_t at = row.state_json.find(field);
      if (at == std::string::npos) return absl::NotFoundError(row.state_json);
      row.state_json.replace(at, field.size(), value);
      return UpdateRound(tx, row);
    });
  }
};

TEST_F(StoredFramesTest, ARowFromBeforeGoesOnInFramesOfItsTime) {
  const int64_t round = StartRound(4);
  ASSERT_OK(Store(round, ""));
  ASSERT_OK(RestartEngine());
  EXPECT_EQ(FramesOf(round), 258048);
  EXPECT_EQ(Announced(), 258048);
}

TEST_F(StoredFramesTest, ARowWithASizeThatThereIsNotIsRefused) {
  const int64_t round = StartRound(4);
  ASSERT_OK(Store(round, R"("elements_per_frame":1000,)"));
  EXPECT_THAT(RestartEngine(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(Cat("round ", round)),
                             HasSubstr("1000, must be one of 258048"))));
}

}  // namespace
}  // namespace consilium

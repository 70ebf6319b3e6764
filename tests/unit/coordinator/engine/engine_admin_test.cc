// What operators do to a round, as the history shows it afterwards.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class EngineAdminTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    ASSERT_OK(Import().status());
  }

  int64_t StartRound() {
    const auto round = engine_->StartRound(kTestOperator, {}, {}, "manual", "");
    EXPECT_OK(round.status());
    return round.value_or(0);
  }
  // Kind and detail of the round's own events, oldest first.
  std::vector<std::pair<std::string, std::string>> Events(int64_t round) {
    std::vector<std::pair<std::string, std::string>> out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListRoundEvents(tx, round));
      for (const RoundEventRow& row : rows) {
        if (row.institution.empty()) out.emplace_back(row.kind, row.detail);
      }
      return absl::OkStatus();
    }));
    return out;
  }
  AuditEntry LastAudit() {
    AuditEntry out;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(
          const auto rows, ListAudit(tx, {.limit = 1, .descending = true}));
      out = rows.at(0);
      return absl::OkStatus();
    }));
    return out;
  }

  const std::pair<std::string, std::string> planned_{"planned",
                                                     Cat("by ", kTestOperator)};
  const std::pair<std::string, std::string> open_{"open", ""};
};

TEST_F(EngineAdminTest, ExtendingARoundIsAnEventAndAnAuditEntry) {
  const int64_t round = StartRound();
  clock_.Advance(absl::Minutes(10));
  ASSERT_OK(engine_->ExtendRound(kTestOperator, round, absl::Minutes(30),
                                 "bank-b is slow"));
  const std::string until = FormatTime(kTestNow + absl::Minutes(90));
  EXPECT_THAT(
      Events(round),
      ElementsAre(planned_, open_,
                  Pair("extended", Cat("until ", until, ": bank-b is slow"))));
  EXPECT_EQ(engine_->LiveRoundOf(round)->state.deadline,
            kTestNow + absl::Minutes(90));
  const AuditEntry audit = LastAudit();
  EXPECT_EQ(audit.action, "round.extend");
  EXPECT_EQ(audit.actor, kTestOperator);
  EXPECT_EQ(audit.object, Cat("round ", round));
  EXPECT_EQ(audit.detail, "by 30m 00s: bank-b is slow");
  // Institutions are told the new time, signed.
  const auto peer = engine_->peers().Find("bank-a");
  const Work work = engine_->WorkFor(*peer);
  const auto* train = std::get_if<TrainWork>(&work.what);
  ASSERT_NE(train, nullptr);
  EXPECT_EQ(train->context->statement.deadline, kTestNow + absl::Minutes(90));
  EXPECT_OK(VerifyStatement(signing_key_.verify_key(),
                            train->context->statement,
                            train->context->signature));
}

TEST_F(EngineAdminTest, ARefusedExtensionLeavesNoTrace) {
  const int64_t round = StartRound();
  const AuditEntry before = LastAudit();
  EXPECT_THAT(
      engine_->ExtendRound(kTestOperator, round, -absl::Minutes(5), ""),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not later")));
  EXPECT_THAT(Events(round), ElementsAre(planned_, open_));
  EXPECT_EQ(LastAudit().seq, before.seq);
  ASSERT_OK(engine_->CancelRound(kTestOperator, round, "enough"));
  EXPECT_THAT(engine_->ExtendRound(kTestOperator, round, absl::Minutes(5), ""),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Events(round),
              ElementsAre(planned_, open_, Pair("cancelled", "enough")));
}

TEST_F(EngineAdminTest, WhenAnInstitutionWasSeenIsStoredOnceAMinute) {
  const auto stored = [this](std::string_view name) {
    std::optional<absl::Time> at;
    EXPECT_OK(store_->history().Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, name));
      if (row.has_value()) at = row->last_seen_at;
      return absl::OkStatus();
    }));
    return at;
  };
  const auto commits = [this] {
    return store_->history().stats().transactions;
  };
  engine_->Poll();
  EXPECT_EQ(stored("bank-a"), std::nullopt);
  clock_.Advance(absl::Minutes(2));
  const absl::Time seen = clock_.Now();
  engine_->Touch(*engine_->peers().Find("bank-a"));
  clock_.Advance(absl::Seconds(7));
  const int64_t before = commits();
  engine_->Poll();
  EXPECT_EQ(stored("bank-a"), seen);
  EXPECT_EQ(stored("bank-b"), std::nullopt);
  EXPECT_EQ(commits(), before + 1);
  // Many calls within the minute: no transaction.
  for (int i = 0; i < 7; ++i) {
    clock_.Advance(absl::Seconds(6));
    for (const char* name : {"bank-a", "bank-b"}) {
      engine_->Touch(*engine_->peers().Find(name));
    }
    engine_->Poll();
  }
  EXPECT_EQ(commits(), before + 1);
  EXPECT_EQ(stored("bank-a"), seen);
  const absl::Time last = clock_.Now();
  clock_.Advance(absl::Minutes(1));
  engine_->Poll();
  EXPECT_EQ(commits(), before + 2);
  EXPECT_EQ(stored("bank-a"), last);
  EXPECT_EQ(stored("bank-b"), last);
  // Nobody called since: nothing to write.
  clock_.Advance(absl::Minutes(5));
  engine_->Poll();
  EXPECT_EQ(commits(), before + 2);
  // What the last minute brought is stored at the end.
  engine_->Touch(*engine_->peers().Find("bank-c"));
  const absl::Time end = clock_.Now();
  engine_->Stop();
  EXPECT_EQ(stored("bank-c"), end);
}

}  // namespace
}  // namespace consilium

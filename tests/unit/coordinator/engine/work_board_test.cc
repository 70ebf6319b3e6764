#include "coordinator/engine/work_board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Why = WorkBoard::Why;

constexpr absl::Duration kUntil = absl::Seconds(10);

class WorkBoardTest : public ::testing::Test {
 protected:
  uint64_t Wait(std::string_view institution, uint64_t revision,
                absl::Duration until = kUntil) {
    return board_.Add(institution, revision, until,
                      [this](Why why) { answers_.push_back(why); });
  }

  WorkBoard board_;
  std::vector<Why> answers_;
};

TEST_F(WorkBoardTest, WakesThoseWhoKnowSomethingElse) {
  Wait("bank-a", 1);
  Wait("bank-a", 2);
  Wait("bank-b", 1);
  EXPECT_THAT(board_.Waiting(), ElementsAre("bank-a", "bank-b"));
  board_.Wake("bank-a", 2);
  EXPECT_THAT(answers_, ElementsAre(Why::kChanged));
  EXPECT_EQ(board_.size(), 2u);
  board_.Wake("bank-a", 2);
  EXPECT_EQ(answers_.size(), 1u);
  board_.WakeAll("bank-a");
  EXPECT_EQ(answers_.size(), 2u);
  EXPECT_THAT(board_.Waiting(), ElementsAre("bank-b"));
}

TEST_F(WorkBoardTest, EachIsAnsweredWhenItsTimeIsUp) {
  Wait("bank-a", 1, absl::Seconds(10));
  Wait("bank-b", 1, absl::Seconds(20));
  EXPECT_EQ(board_.Expire(absl::Seconds(9)), absl::Seconds(10));
  EXPECT_THAT(answers_, IsEmpty());
  EXPECT_EQ(board_.Expire(absl::Seconds(10)), absl::Seconds(20));
  EXPECT_THAT(answers_, ElementsAre(Why::kTimeout));
  EXPECT_EQ(board_.Expire(absl::Seconds(30)), absl::InfiniteDuration());
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(WorkBoardTest, ACallThatWentAwayIsAnsweredOnce) {
  const uint64_t id = Wait("bank-a", 1);
  board_.Drop(id);
  EXPECT_THAT(answers_, ElementsAre(Why::kDropped));
  board_.Drop(id);
  board_.WakeAll("bank-a");
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_EQ(board_.size(), 0u);
}

TEST_F(WorkBoardTest, AClosedBoardAnswersAtOnce) {
  Wait("bank-a", 1);
  board_.CloseAll();
  EXPECT_THAT(answers_, ElementsAre(Why::kDropped));
  EXPECT_EQ(Wait("bank-b", 1), 0u);
  EXPECT_THAT(answers_, ElementsAre(Why::kDropped, Why::kDropped));
}

TEST_F(WorkBoardTest, AnAnswerMayWaitAgain) {
  board_.Add("bank-a", 1, kUntil, [this](Why) { Wait("bank-a", 2); });
  board_.Wake("bank-a", 2);
  EXPECT_EQ(board_.size(), 1u);
  board_.Wake("bank-a", 3);
  EXPECT_THAT(answers_, ElementsAre(Why::kChanged));
}

TEST_F(WorkBoardTest, ThreadsThatCompeteAnswerEachOnce) {
  constexpr int kWaiters = 500;
  std::vector<std::atomic<int>> counts(kWaiters);
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < kWaiters; i += 2) {
        const uint64_t id =
            board_.Add("bank-a", 1, kUntil, [&counts, i](Why) { ++counts[i]; });
        if (i % 3 == 0) board_.Drop(id);
      }
    });
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) board_.Wake("bank-a", 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  board_.CloseAll();
  for (const std::atomic<int>& count : counts) EXPECT_EQ(count.load(), 1);
}

}  // namespace
}  // namespace consilium

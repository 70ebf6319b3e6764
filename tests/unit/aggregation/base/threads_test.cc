#include "consilium/base/threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <numeric>
#include <optional>
#include <vector>

#include "tests/support/manual_executor.h"

namespace consilium {
namespace {

TEST(ThreadPoolTest, TheDestructorRunsEverythingScheduled) {
  std::atomic<int> ran{0};
  {
    ThreadPool pool(3);
    for (int i = 0; i < 100; ++i) {
      pool.Schedule([&] {
        ++ran;
        pool.Schedule([&] { ++ran; });
      });
    }
  }
  EXPECT_EQ(ran, 200);
}

TEST(ThreadPoolTest, ParallelForVisitsEveryIndexOnce) {
  ThreadPool pool(3);
  for (const size_t count : {0u, 1u, 2u, 3u, 4u, 1000u}) {
    std::vector<std::atomic<int>> visits(count);
    pool.ParallelFor(count, [&](size_t i) { ++visits[i]; });
    for (const auto& visit : visits) EXPECT_EQ(visit, 1);
  }
}

TEST(ThreadPoolTest, ParallelForWorksInsideATaskOfABusyPool) {
  ThreadPool pool(1);
  std::promise<int> result;
  pool.Schedule([&] {
    std::atomic<int> sum{0};
    pool.ParallelFor(10, [&](size_t i) {
      pool.ParallelFor(10,
                       [&](size_t j) { sum += static_cast<int>(i * 10 + j); });
    });
    result.set_value(sum);
  });
  EXPECT_EQ(result.get_future().get(), 4950);
}

TEST(ThreadPoolTest, TasksRunOnSeveralThreadsAtOnce) {
  ThreadPool pool(2);
  std::promise<void> left;
  std::promise<void> right;
  // Each waits for the other: one thread alone would never finish.
  pool.ParallelFor(2, [&](size_t i) {
    (i == 0 ? left : right).set_value();
    (i == 0 ? right : left).get_future().wait();
  });
  EXPECT_EQ(pool.threads(), 2u);
}

TEST(StrandTest, TasksRunInOrderAndNeverTogether) {
  ThreadPool pool(4);
  Strand strand(&pool);
  std::vector<int> order;  // no lock: the strand is the lock
  int inside = 0;
  for (int i = 0; i < 5000; ++i) {
    strand.Schedule([&, i] {
      EXPECT_EQ(++inside, 1);
      order.push_back(i);
      --inside;
    });
  }
  strand.Drain();
  std::vector<int> expected(5000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(StrandTest, EachProducersOrderIsKept) {
  ThreadPool pool(2);
  Strand strand(&pool);
  std::vector<int> last(4, -1);
  {
    ThreadPool producers(4);
    producers.ParallelFor(4, [&](size_t who) {
      for (int i = 0; i < 1000; ++i) {
        strand.Schedule([&last, who, i] {
          EXPECT_EQ(last[who], i - 1);
          last[who] = i;
        });
      }
    });
  }
  strand.Drain();
  EXPECT_THAT(last, ::testing::Each(999));
}

TEST(StrandTest, ATaskThatSchedulesComesBackLater) {
  ManualExecutor executor;
  Strand strand(&executor);
  std::vector<int> order;
  strand.Schedule([&] {
    strand.Schedule([&] { order.push_back(3); });
    order.push_back(1);
  });
  strand.Schedule([&] { order.push_back(2); });
  executor.RunAll();
  EXPECT_THAT(order, ::testing::ElementsAre(1, 2, 3));
}

TEST(StrandTest, ALongQueueYieldsToOtherStrands) {
  ManualExecutor executor;
  Strand busy(&executor);
  Strand other(&executor);
  int done = 0;
  int done_when_other_ran = -1;
  for (int i = 0; i < 1000; ++i) busy.Schedule([&] { ++done; });
  other.Schedule([&] { done_when_other_ran = done; });
  executor.RunAll();
  EXPECT_EQ(done, 1000);
  EXPECT_GT(done_when_other_ran, 0);
  EXPECT_LT(done_when_other_ran, 1000);
}

TEST(StrandTest, KnowsWhenItRuns) {
  ManualExecutor executor;
  Strand strand(&executor);
  Strand other(&executor);
  EXPECT_FALSE(strand.RunsHere());
  bool own = false;
  bool foreign = true;
  strand.Schedule([&] {
    own = strand.RunsHere();
    foreign = other.RunsHere();
  });
  executor.RunAll();
  EXPECT_TRUE(own);
  EXPECT_FALSE(foreign);
  EXPECT_FALSE(strand.RunsHere());
}

TEST(StrandTest, TasksOutliveTheStrand) {
  ManualExecutor executor;
  bool ran = false;
  {
    Strand strand(&executor);
    strand.Schedule([&] { ran = true; });
  }
  executor.RunAll();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace consilium

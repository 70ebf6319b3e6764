#include "consilium/base/cancel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;

TEST(CancelTest, ADefaultTokenIsNeverCancelled) {
  const CancelToken token;
  EXPECT_FALSE(token.cancelled());
  EXPECT_THAT(token.status(), IsOk());
  bool ran = false;
  {
    const CancelRegistration hold = token.OnCancel([&] { ran = true; });
  }
  EXPECT_FALSE(ran);
  EXPECT_FALSE(token.WaitFor(absl::ZeroDuration()));
}

TEST(CancelTest, TheFirstReasonStays) {
  CancelSource source;
  const CancelToken token = source.token();
  EXPECT_THAT(token.status(), IsOk());
  source.Cancel("deadline of the round");
  source.Cancel("something later");
  EXPECT_TRUE(token.cancelled());
  EXPECT_THAT(token.status(), StatusIs(absl::StatusCode::kCancelled,
                                       std::string("deadline of the round")));
}

TEST(CancelTest, CallbacksRunOnceInOrderBeforeCancelReturns) {
  CancelSource source;
  std::vector<int> order;
  const auto first = source.token().OnCancel([&] { order.push_back(1); });
  const auto second = source.token().OnCancel([&] { order.push_back(2); });
  source.Cancel("now");
  EXPECT_THAT(order, ElementsAre(1, 2));
  const auto late = source.token().OnCancel([&] { order.push_back(3); });
  source.Cancel("again");
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(CancelTest, AReleasedCallbackDoesNotRun) {
  CancelSource source;
  int ran = 0;
  auto gone = source.token().OnCancel([&] { ran += 1; });
  auto moved = source.token().OnCancel([&] { ran += 10; });
  const CancelRegistration kept = std::move(moved);
  gone.Release();
  gone.Release();
  source.Cancel("now");
  EXPECT_EQ(ran, 10);
}

TEST(CancelTest, ACallbackMayReleaseItself) {
  CancelSource source;
  std::optional<CancelRegistration> hold;
  hold = source.token().OnCancel([&] { hold.reset(); });
  source.Cancel("now");
  EXPECT_FALSE(hold.has_value());
}

TEST(CancelTest, ReleaseWaitsForARunningCallback) {
  CancelSource source;
  std::promise<void> entered;
  std::promise<void> go_on;
  std::atomic<bool> finished{false};
  std::optional<CancelRegistration> hold = source.token().OnCancel([&] {
    entered.set_value();
    go_on.get_future().wait();
    finished = true;
  });
  std::thread canceller([&] { source.Cancel("now"); });
  entered.get_future().wait();
  std::thread helper([&] { go_on.set_value(); });
  hold.reset();
  EXPECT_TRUE(finished);
  canceller.join();
  helper.join();
}

TEST(CancelTest, AParentCancelsItsChildrenButNotTheReverse) {
  CancelSource parent;
  CancelSource child(parent.token());
  CancelSource sibling(parent.token());
  child.Cancel("only this");
  EXPECT_FALSE(parent.token().cancelled());
  EXPECT_FALSE(sibling.token().cancelled());
  parent.Cancel("everything");
  EXPECT_THAT(child.token().status(),
              StatusIs(absl::StatusCode::kCancelled, std::string("only this")));
  EXPECT_THAT(sibling.token().status(), StatusIs(absl::StatusCode::kCancelled,
                                                 std::string("everything")));
  const CancelSource late(parent.token());
  EXPECT_TRUE(late.token().cancelled());
}

TEST(CancelTest, TokensOutliveTheirSource) {
  CancelToken token;
  {
    const CancelSource source;
    token = source.token();
  }
  EXPECT_FALSE(token.cancelled());
}

TEST(CancelTest, AWaiterWakesWhenCancelled) {
  CancelSource source;
  auto waiter = std::async(std::launch::async, [token = source.token()] {
    return token.WaitFor(absl::InfiniteDuration());
  });
  source.Cancel("now");
  EXPECT_TRUE(waiter.get());
  EXPECT_TRUE(source.token().WaitFor(absl::ZeroDuration()));
}

}  // namespace
}  // namespace consilium

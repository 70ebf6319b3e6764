#include "coordinator/app/readiness.h"

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/support/fake_clock.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kNotReady = absl::StatusCode::kUnavailable;

class ReadinessTest : public StoreTest {
 protected:
  absl::Status Later() {
    clock_.Advance(options_.check_interval);
    return readiness_->Check();
  }
  void SetUp() override {
    StoreTest::SetUp();
    SetUpReadiness();
  }
  void SetUpReadiness() {
    readiness_ = std::make_unique<Readiness>(
        store_.get(), &clock_, [this] { return overdue_; }, options_);
  }

  const Readiness::Options options_;
  FakeClock clock_;
  absl::Duration overdue_ = absl::ZeroDuration();
  std::unique_ptr<Readiness> readiness_;
};

TEST_F(ReadinessTest, AStoreThatTakesWritesIsReady) {
  const int64_t before = store_->history().stats().commits;
  EXPECT_OK(readiness_->Check());
  EXPECT_EQ(store_->history().stats().commits, before + 1);
  // Asked again at once, it does not write again.
  EXPECT_OK(readiness_->Check());
  EXPECT_EQ(store_->history().stats().commits, before + 1);
  EXPECT_OK(Later());
  EXPECT_EQ(store_->history().stats().commits, before + 2);
  EXPECT_OK(Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
    EXPECT_EQ(row.name, "cards");
    EXPECT_EQ(row.current_version, 0);
    return absl::OkStatus();
  }));
}

TEST_F(ReadinessTest, AStuckEngineIsNamed) {
  overdue_ = options_.engine_late_after;
  EXPECT_OK(readiness_->Check());
  overdue_ = absl::Seconds(90);
  EXPECT_THAT(readiness_->Check(),
              StatusIs(kNotReady,
                       AllOf(HasSubstr("not turned for 1m 30s"),
                             HasSubstr("readiness.engine_late_after is 30s"))));
  overdue_ = absl::ZeroDuration();
  EXPECT_OK(readiness_->Check());
}

TEST_F(ReadinessTest, TooLittleFreeSpaceIsNamedWithTheKey) {
  store_->space().SetMinFreeBytes(int64_t{1} << 60);
  EXPECT_THAT(readiness_->Check(),
              StatusIs(kNotReady, AllOf(HasSubstr("are free in /data"),
                                        HasSubstr("storage.min_free_bytes"))));
  store_->space().SetMinFreeBytes(0);
  // The answer is remembered for a while, then found again.
  EXPECT_THAT(readiness_->Check(), StatusIs(kNotReady));
  EXPECT_OK(Later());
}

TEST_F(ReadinessTest, AStoreThatTakesNoWritesIsNotReadyUntilItDoes) {
  disk_.fs().FailAt(1, absl::UnavailableError("the disk is gone"));
  EXPECT_THAT(readiness_->Check(),
              StatusIs(kNotReady, HasSubstr("the history takes no writes")));
  EXPECT_OK(Later());
}

// Somebody who asks for free space waits, once.
class SlowDisk final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    if (slow.exchange(false)) {
      asked.Notify();
      go_on.WaitForNotification();
    }
    return ForwardingFileSystem::FreeSpace(path);
  }
  std::atomic<bool> slow = false;
  absl::Notification asked;
  absl::Notification go_on;
};

TEST_F(ReadinessTest, WhileOneCallWaitsForTheDiskOthersAnswerWhatWasFound) {
  SlowDisk slow(&disk_.fs());
  StoreOptions options = disk_.Options();
  options.fs = &slow;
  Reopen(options);
  SetUpReadiness();
  slow.slow = true;
  absl::Status found;
  std::thread looks([&] { found = readiness_->Check(); });
  slow.asked.WaitForNotification();
  EXPECT_THAT(readiness_->Check(),
              StatusIs(kNotReady, HasSubstr("for the first time")));
  slow.go_on.Notify();
  looks.join();
  EXPECT_OK(found);
  EXPECT_OK(readiness_->Check());
  readiness_.reset();
  store_.reset();
}

}  // namespace
}  // namespace consilium

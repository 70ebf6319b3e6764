// The reference institution's loop against a real coordinator, whose operator
// suspends it between training and upload, and resumes it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client_sdk/app/log.h"
#include "client_sdk/app/run_loop.h"
#include "consilium/base/mutex.h"
#include "tests/integration/harness.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using client::internal::TrainedUpdate;
using testing::ElementsAre;
using testing::HasSubstr;
using Change = v1::SetInstitutionStateRequest;

// Every element moves by a constant; the hook runs after the first training.
class ConstantTrainer final : public client::internal::Trainer {
 public:
  ConstantTrainer(const Layout& layout, float value,
                  std::function<void()> after_first)
      : layout_(layout), value_(value), after_first_(std::move(after_first)) {}

  std::string Describe() const override { return "adds a constant"; }
  absl::Status CheckLayout(const Layout&) const override {
    return absl::OkStatus();
  }
  bool CanEvaluate() const override { return false; }
  absl::StatusOr<std::unique_ptr<TrainedUpdate>> Train(
      const client::TrainTask& task, const client::Parameters&, const Progress&,
      const CancelToken&) override {
    trained.push_back(task.round);
    if (after_first_) std::exchange(after_first_, nullptr)();
    return std::make_unique<Constant>(layout_, value_);
  }
  absl::StatusOr<client::internal::Measured> Evaluate(
      const client::Parameters&) override {
    return absl::UnimplementedError("no data");
  }

  std::vector<uint64_t> trained;

 private:
  class Constant final : public TrainedUpdate {
   public:
    Constant(const Layout& layout, float value) {
      update_.report.examples = 100;
      values_.reserve(layout.slots().size());
      for (const TensorSlot& slot : layout.slots()) {
        values_.emplace_back(static_cast<size_t>(slot.elements), value);
        update_.tensors.push_back({slot.name, values_.back()});
      }
    }
    const client::Update& update() const override { return update_; }

   private:
    std::vector<std::vector<float>> values_;
    client::Update update_;
  };

  const Layout& layout_;
  const float value_;
  std::function<void()> after_first_;
};

class SuspendedInstitutionTest : public testing::Test {
 protected:
  SuspendedInstitutionTest() {
    for (const char* name : {"bank-a", "bank-b", "bank-c"}) {
      federation_.Enroll(name);
    }
    client_ = federation_.Connect("bank-a");
    b_ = federation_.Connect("bank-b");
    c_ = federation_.Connect("bank-c");
  }
  ~SuspendedInstitutionTest() override {
    stop_.Cancel("the test is over");
    if (loop_.joinable()) loop_.join();
  }

  // bank-a's process, suspended as soon as it has trained once.
  void Begin() {
    loop_ = std::thread([this] {
      EXPECT_OK(client::internal::RunInstitution(
          *client_, trainer_, {}, *SystemClock(), log_, stop_.token()));
    });
  }
  void End() {
    stop_.Cancel("seen enough");
    loop_.join();
  }
  // Until such a line came; fails the test after a minute.
  void WaitForLine(const std::string& text) {
    const absl::Time until = absl::Now() + absl::Minutes(1);
    MutexLock lock(&mu_);
    while (lines_.find(text) == std::string::npos) {
      const absl::Duration left = until - absl::Now();
      ASSERT_GT(left, absl::ZeroDuration()) << text << " is not in\n" << lines_;
      changed_.WaitFor(&mu_, left);
    }
  }

  TestFederation federation_;
  std::unique_ptr<client::Client> client_, b_, c_;
  Mutex mu_;
  CondVar changed_;
  std::string lines_ ABSL_GUARDED_BY(mu_);
  client::internal::Log log_{client::internal::LogOptions{},
                             [this](std::string_view line) {
                               MutexLock lock(&mu_);
                               lines_.append(line).append("\n");
                               changed_.SignalAll();
                             },
                             [] { return absl::Now(); }};
  ConstantTrainer trainer_{
      federation_.layout(), 5.0f, [this] {
        EXPECT_OK(federation_.SetState("bank-a", Change::SUSPEND, "review"));
      }};
  CancelSource stop_;
  std::thread loop_;
};

TEST_F(SuspendedInstitutionTest, DeliversWithoutARestartOnceItIsResumed) {
  const uint64_t round = federation_.StartRound();
  Begin();
  WaitForLine("is held back: bank-a is suspended");
  ASSERT_OK(federation_.SetState("bank-a", Change::RESUME, ""));
  WaitForLine("that was held back is committed");
  Contribute(*b_, 1.0f);
  Contribute(*c_, 3.0f);
  const v1::RoundInfo end = federation_.WaitForEnd(round);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(Member(end, "bank-a").state(), "committed");
  End();
  EXPECT_THAT(trainer_.trained, ElementsAre(round));
  EXPECT_EQ(federation_.CurrentParameters(*b_).front(), 3.0f);
}

TEST_F(SuspendedInstitutionTest, DropsWhatNoRoundTakesAnyMoreAndSaysWhy) {
  const uint64_t round = federation_.StartRound();
  Begin();
  WaitForLine("is held back: bank-a is suspended");
  Contribute(*b_, 1.0f);
  Contribute(*c_, 3.0f);
  EXPECT_EQ(federation_.WaitForEnd(round).phase(), "promoted");
  ASSERT_OK(federation_.SetState("bank-a", Change::RESUME, ""));
  const uint64_t next = federation_.StartRound();
  WaitForLine("is dropped, the coordinator refuses it: LATE: round 1 is over");
  Contribute(*b_, 1.0f);
  Contribute(*c_, 1.0f);
  EXPECT_EQ(Member(federation_.WaitForEnd(next), "bank-a").state(),
            "committed");
  End();
  EXPECT_THAT(trainer_.trained, ElementsAre(round, next));
}

}  // namespace
}  // namespace consilium

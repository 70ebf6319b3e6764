// The connection is cut at every chunk boundary of an upload, in the middle of
// every chunk, and in place of every answer. The SDK goes on by itself with
// the same bytes: nobody trains again and the average is exact.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "tests/integration/checks.h"
#include "tests/integration/cutting_proxy.h"
#include "tests/integration/harness.h"
#include "tests/integration/hooked_transport.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

using testing::ElementsAre;

// Where an institution's connection is cut while it hands in.
struct Cut {
  std::string institution;
  // Called when everything is ready for Submit().
  std::function<void(CuttingProxy&)> arm;
  // Or at this step of the SDK; empty: none.
  std::string step;
};

// What an institution did, on any thread of the SDK.
class Steps {
 public:
  void Add(std::string_view step) {
    MutexLock lock(&mu_);
    steps_.emplace_back(step);
  }
  std::vector<std::string> Take() {
    MutexLock lock(&mu_);
    return std::exchange(steps_, {});
  }

 private:
  Mutex mu_;
  std::vector<std::string> steps_ ABSL_GUARDED_BY(mu_);
};

class ConnectionCutTest : public testing::Test {
 protected:
  // Institutions that hand in at a time.
  static constexpr int kThreads = 6;
  int64_t Elements() const { return federation_.layout().total_elements(); }

  struct Seen {
    int cuts = 0;
    int64_t sent_bytes = 0;  // by Submit()
    int64_t replies = 0;     // pieces, to Submit()
    std::vector<std::string> steps;
  };

  // One institution for each cut, all in one round; each cut must happen.
  void Run(const std::vector<Cut>& cuts) {
    for (const Cut& cut : cuts) federation_.Enroll(cut.institution);
    const uint64_t round =
        federation_.StartRound({{"quorum", Cat(cuts.size())}});
    std::vector<Delta> deltas;
    for (const Cut& cut : cuts) {
      deltas.push_back(
          {cut.institution, deltas.size() + 1, 50 + deltas.size()});
    }
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (size_t at = next++; at < cuts.size(); at = next++) {
          EXPECT_EQ(HandIn(cuts[at], deltas[at]).cuts, 1)
              << cuts[at].institution;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ExpectExactMean(federation_, round, deltas);
    ExpectStoreIsWhole(federation_);
    EXPECT_EQ(federation_.engine().store().space().reserved_bytes(), 0);
  }

  // A round of bank-a alone.
  Seen RunAlone(const std::function<void(CuttingProxy&)>& arm) {
    const Delta delta{"bank-a", 99, 1};
    const uint64_t round = federation_.StartRound({{"quorum", "1"}});
    const Seen seen = HandIn({"bank-a", arm, ""}, delta);
    ExpectExactMean(federation_, round, {delta});
    return seen;
  }
  // Undisturbed ones: the fewest bytes and pieces. bank-a then rests.
  Seen Record() {
    federation_.Enroll("bank-a");
    Seen fewest = RunAlone(nullptr);
    for (int i = 0; i < 2; ++i) {
      const Seen seen = RunAlone(nullptr);
      EXPECT_EQ(seen.cuts, 0);
      fewest.sent_bytes = std::min(fewest.sent_bytes, seen.sent_bytes);
      fewest.replies = std::min(fewest.replies, seen.replies);
    }
    return fewest;
  }
  void Rest(const std::string& institution) {
    ASSERT_OK(federation_.SetState(institution,
                                   v1::SetInstitutionStateRequest::SUSPEND,
                                   "has done its part"));
  }

  // For any thread.
  Seen HandIn(const Cut& cut, const Delta& delta) {
    SCOPED_TRACE(cut.institution);
    CuttingProxy proxy(federation_.port());
    client::ClientOptions options = federation_.OptionsFor(cut.institution);
    options.coordinator = Cat("127.0.0.1:", proxy.port());
    Steps steps;
    std::atomic<bool> armed{false};
    auto client =
        ConnectHooked(options, PosixFileSystem(), [&](std::string_view step) {
          if (armed && step == cut.step) {
            armed = false;
            proxy.CutNow();
          }
          steps.Add(step);
        });
    EXPECT_OK(client.status());
    if (!client.ok()) return {};
    const client::TrainTask task = WaitForTask(**client);
    Seen seen;
    const int64_t sent_before = proxy.sent_bytes();
    const int64_t replies_before = proxy.replies();
    steps.Take();
    armed = !cut.step.empty();
    if (cut.arm) cut.arm(proxy);
    int64_t filled = 0;
    const auto outcome =
        Submit(**client, task, federation_.layout(), delta, &filled);
    seen.steps = steps.Take();
    seen.sent_bytes = proxy.sent_bytes() - sent_before;
    seen.replies = proxy.replies() - replies_before;
    EXPECT_OK(outcome.status());
    EXPECT_TRUE(outcome.ok() &&
                std::holds_alternative<client::Receipt>(*outcome));
    EXPECT_EQ(filled, Elements()) << "trained more than once";
    seen.cuts = proxy.cuts();
    return seen;
  }

  TestFederation federation_;
};

TEST_F(ConnectionCutTest, AroundEachCallAndEachChunk) {
  std::vector<std::string> steps = Record().steps;
  Rest("bank-a");
  // How many acknowledgements there are is up to the machine.
  std::erase(steps, "take an acknowledgement");
  ASSERT_THAT(
      steps,
      ElementsAre("call BeginUpload", "after BeginUpload", "send chunk 0",
                  "after chunk 0", "send chunk 1", "after chunk 1",
                  "send chunk 2", "after chunk 2", "send chunk 3",
                  "after chunk 3", "call CommitUpload", "after CommitUpload"));
  std::vector<Cut> cuts;
  for (const std::string& step : steps) {
    cuts.push_back({Cat("step-", cuts.size()), nullptr, step});
  }
  cuts.push_back({"step-ack", nullptr, "take an acknowledgement"});
  Run(cuts);
}

TEST_F(ConnectionCutTest, InTheMiddleOfEachChunk) {
  const int64_t sent = Record().sent_bytes;
  Rest("bank-a");
  ASSERT_GT(sent, Elements() * 4);
  // A few bytes more or less of HTTP/2 are up to the machine.
  constexpr int64_t kSlack = 2048;
  constexpr int64_t kStride = 120'000;  // some for each chunk of 1 MiB
  std::vector<Cut> cuts;
  for (int64_t at = 0; at < sent - kSlack; at += kStride) {
    cuts.push_back({Cat("up-", at),
                    [at](CuttingProxy& proxy) { proxy.CutAfterSent(at); }, ""});
  }
  Run(cuts);
}

TEST_F(ConnectionCutTest, InPlaceOfEachAnswer) {
  const int64_t replies = Record().replies;
  WalkSteps({.known = replies}, [&](int64_t n) {
    return RunAlone([n](CuttingProxy& proxy) { proxy.CutAtReply(n); }).cuts > 0;
  });
  ExpectStoreIsWhole(federation_);
}

// Not once but again and again: each connection lives for half a chunk more
// than the one before, and the upload still comes to its end.
TEST_F(ConnectionCutTest, AgainAndAgain) {
  federation_.Enroll("bank-a");
  const uint64_t round = federation_.StartRound({{"quorum", "1"}});
  CuttingProxy proxy(federation_.port());
  client::ClientOptions options = federation_.OptionsFor("bank-a");
  options.coordinator = Cat("127.0.0.1:", proxy.port());
  int64_t next_cut = 100'000;
  options.observer = [&](const client::Event& event) {
    if (event.severity != client::Event::Severity::kWarning) return;
    // A lost connection: the next one is cut later.
    next_cut += 500'000;
    proxy.CutAfterSent(next_cut);
  };
  auto client = client::Client::Connect(options);
  ASSERT_OK(client.status());
  const client::TrainTask task = WaitForTask(**client);
  proxy.CutAfterSent(next_cut);
  const Delta delta{"bank-a", 9, 77};
  const auto outcome = Submit(**client, task, federation_.layout(), delta);
  ASSERT_OK(outcome.status());
  EXPECT_TRUE(std::holds_alternative<client::Receipt>(*outcome));
  EXPECT_GE(proxy.cuts(), 2);
  ExpectExactMean(federation_, round, {delta});
  ExpectStoreIsWhole(federation_);
}

}  // namespace
}  // namespace consilium

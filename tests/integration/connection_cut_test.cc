// The connection is cut at every chunk boundary of an upload, in the middle of
// every chunk, and in place of every answer. The SDK goes on by itself with
// the same bytes: nobody trains again and the average is exact.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "consilium/aggregation/codec.h"
#include "consilium/base/strings.h"
#include "tests/integration/checks.h"
#include "tests/integration/cutting_proxy.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

// Where an institution's connection is cut while it hands in. `arm` is called
// when everything is ready for Submit().
struct Cut {
  std::string institution;
  std::function<void(CuttingProxy&)> arm;
};

class ConnectionCutTest : public testing::Test {
 protected:
  // Institutions that hand in at a time.
  static constexpr int kThreads = 6;
  static constexpr int64_t kF32Frame = kF32ElementsPerFrame * 4;
  int64_t Elements() const { return federation_.layout().total_elements(); }

  // One institution for each cut, all in one round.
  void Run(const std::vector<Cut>& cuts, int must_happen) {
    for (const Cut& cut : cuts) federation_.Enroll(cut.institution);
    const uint64_t round =
        federation_.StartRound({{"quorum", Cat(cuts.size())}});
    std::vector<Delta> deltas;
    for (const Cut& cut : cuts) {
      deltas.push_back(
          {cut.institution, deltas.size() + 1, 50 + deltas.size()});
    }
    std::atomic<int> happened{0};
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (size_t at = next++; at < cuts.size(); at = next++) {
          happened += HandIn(cuts[at], deltas[at]);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_GE(happened.load(), must_happen);
    ExpectExactMean(federation_, round, deltas);
    ExpectStoreIsWhole(federation_);
    EXPECT_EQ(federation_.engine().store().space().reserved_bytes(), 0);
  }

  // Returns how often the connection was cut. `sent`: what Submit() took on
  // the wire. For any thread.
  int HandIn(const Cut& cut, const Delta& delta, int64_t* sent = nullptr) {
    SCOPED_TRACE(cut.institution);
    CuttingProxy proxy(federation_.port());
    client::ClientOptions options = federation_.OptionsFor(cut.institution);
    options.coordinator = Cat("127.0.0.1:", proxy.port());
    auto client = client::Client::Connect(options);
    EXPECT_OK(client.status());
    if (!client.ok()) return 0;
    const client::TrainTask task = WaitForTask(**client);
    const int64_t sent_before = proxy.sent_bytes();
    if (cut.arm) cut.arm(proxy);
    int64_t filled = 0;
    const auto outcome =
        Submit(**client, task, federation_.layout(), delta, &filled);
    if (sent != nullptr) *sent = proxy.sent_bytes() - sent_before;
    EXPECT_OK(outcome.status());
    EXPECT_TRUE(outcome.ok() &&
                std::holds_alternative<client::Receipt>(*outcome));
    EXPECT_EQ(filled, Elements()) << "trained more than once";
    return proxy.cuts();
  }

  TestFederation federation_;
};

TEST_F(ConnectionCutTest, WhileChunksGoUp) {
  // An undisturbed upload, for what TLS and HTTP/2 put around the payload.
  federation_.Enroll("plain");
  const uint64_t first = federation_.StartRound({{"quorum", "1"}});
  const Delta plain{"plain", 99, 1};
  int64_t sent = 0;
  ASSERT_EQ(HandIn({"plain", nullptr}, plain, &sent), 0);
  ExpectExactMean(federation_, first, {plain});
  ASSERT_OK(federation_.SetState(
      "plain", v1::SetInstitutionStateRequest::SUSPEND, "has done its part"));

  // Begin and commit take some hundred bytes each; chunks follow one another.
  constexpr int64_t kCalls = 600;
  const std::vector<int64_t> frames = {64, kF32Frame, kF32Frame,
                                       Elements() * 4 - 2 * kF32Frame};
  std::vector<int64_t> boundaries = {0};
  for (const int64_t frame : frames) {
    boundaries.push_back(boundaries.back() + frame);
  }
  const double around = static_cast<double>(sent - 2 * kCalls) /
                        static_cast<double>(boundaries.back());
  std::vector<Cut> cuts;
  const auto add = [&](int64_t at) {
    at = std::max<int64_t>(at, 0);
    cuts.push_back({Cat("up-", at),
                    [at](CuttingProxy& proxy) { proxy.CutAfterSent(at); }});
  };
  const auto on_wire = [&](int64_t payload) {
    return kCalls + static_cast<int64_t>(around * static_cast<double>(payload));
  };
  for (size_t k = 0; k < boundaries.size(); ++k) {
    for (const int64_t off : {-150, 0, 150}) add(on_wire(boundaries[k]) + off);
    if (k > 0) add(on_wire((boundaries[k] + boundaries[k - 1]) / 2));
  }
  add(0);
  add(sent - 100);
  Run(cuts, static_cast<int>(cuts.size()) - 1);
}

TEST_F(ConnectionCutTest, WhileAnswersComeDown) {
  std::vector<Cut> cuts;
  for (int64_t n = 1; n <= 10; ++n) {
    cuts.push_back(
        {Cat("down-", n), [n](CuttingProxy& proxy) { proxy.CutAtReply(n); }});
  }
  // How many pieces there are is up to the machine.
  Run(cuts, 5);
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

// A coordinator process is killed with SIGKILL before every change of a file
// and on both sides of every commit, in rounds of every ending, while two
// institutions on the real SDK take part over mutual TLS. They go on by
// themselves once it is back, train once, and the result is what it would have
// been.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/store/maintenance.h"
#include "examples/local/local_federation.h"
#include "proto/wire/status.h"
#include "tests/crash/kill_switch.h"
#include "tests/crash/sdk_institution.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using Conduct = SdkInstitution::Conduct;

constexpr double kMaxWeight = 1e7;
constexpr float kDeltaA = 0.125f;
constexpr float kDeltaB = -1.0f / 3.0f;
constexpr uint64_t kExamplesA = 300;
constexpr uint64_t kExamplesB = 77;
constexpr absl::Duration kLong = absl::Minutes(2);

Layout RoundLayout() {
  return *Layout::Create(
      {{"trunk", {6, 7}, DType::kF32, *GroupName::Parse("shared")},
       {"expert", {11}, DType::kF32, *GroupName::Parse("expert/0/0")}});
}

// base + sum(u x) / sum(u), rounded once, as the fold promises.
float Average(float base) {
  const int64_t a = *QuantizeWeight(kExamplesA, kMaxWeight);
  const int64_t b = *QuantizeWeight(kExamplesB, kMaxWeight);
  const double sum = static_cast<double>(a) * static_cast<double>(kDeltaA) +
                     static_cast<double>(b) * static_cast<double>(kDeltaB);
  return static_cast<float>(static_cast<double>(base) +
                            sum / static_cast<double>(a + b));
}

// Of a version with this value everywhere.
Sha256Digest DigestOf(const Layout& layout, float value) {
  FaultFileSystem fs;
  const auto file = fs.Open("/v", {.write = true, .create = true});
  std::vector<float> values;
  return WriteVersionFile(
             layout, layout.ComputeId(Sha256HasherFactory()),
             [&](const TensorSlot& slot)
                 -> absl::StatusOr<std::span<const float>> {
               values.assign(static_cast<size_t>(slot.elements), value);
               return std::span<const float>(values);
             },
             Sha256HasherFactory(), file->get())
      ->digest;
}

class KillCoordinatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string switch_path = dir_ / "switch";
    ASSERT_OK_AND_ASSIGN(kill_, KillSwitch::Create(switch_path));
    LocalFederationOptions options;
    options.directory = dir_ / "federation";
    options.coordinator_program = JoinPath(OwnFolder(), "crash_coordinator");
    options.environment = {Cat("CONSILIUM_KILL_SWITCH=", switch_path)};
    options.config.storage.min_free_bytes = 0;
    options.config.log.level = LogLevel::kWarn;
    ASSERT_OK_AND_ASSIGN(federation_, LocalFederation::Create(options));
    ASSERT_OK(federation_->SetPolicy(
        {{"quorum", "2"}, {"evaluation.quorum", "2"}, {"deadline", "1h"}}));
    ASSERT_OK(federation_
                  ->ImportVersion(
                      layout_,
                      [&](const TensorSlot& slot)
                          -> absl::StatusOr<std::span<const float>> {
                        zeros_.assign(static_cast<size_t>(slot.elements), 0);
                        return std::span<const float>(zeros_);
                      })
                  .status());
    a_ = Institution("bank-a", kDeltaA, kExamplesA);
    b_ = Institution("bank-b", kDeltaB, kExamplesB);
  }

  void TearDown() override {
    a_.reset();
    b_.reset();
    if (federation_ == nullptr || HasFatalFailure()) return;
    kill_->Arm(0);
    ASSERT_OK(federation_->StopCoordinator());
    CheckHistory();
  }

  std::unique_ptr<SdkInstitution> Institution(const std::string& name,
                                              float delta, uint64_t examples) {
    EXPECT_OK(federation_->Enroll(name));
    client::ClientOptions options;
    options.coordinator = federation_->address();
    options.identity_dir = federation_->InstitutionDir(name);
    options.proxy = "none";
    options.retry.initial = absl::Milliseconds(5);
    options.retry.cap = absl::Milliseconds(100);
    auto institution =
        std::make_unique<SdkInstitution>(options, delta, examples);
    EXPECT_OK(institution->Start());
    return institution;
  }

  // After a kill: the process is gone, a new one is up. It may be killed again
  // while it starts.
  void Revive() {
    ASSERT_EQ(federation_->coordinator().Wait(kLong), 128 + SIGKILL);
    ASSERT_TRUE(kill_->fired());
    labels_.push_back(kill_->label());
    std::printf("killed before: %s\n", kill_->label().c_str());
    // Beyond the end of recovery this arms the round that goes on.
    kill_->Arm(again_ && labels_.size() % 2 == 1
                   ? 1 + static_cast<int64_t>(labels_.size() % 5)
                   : 0);
    ASSERT_OK(federation_->StartCoordinator());
    if (!federation_->WaitUntilUp(kLong).ok()) Revive();
  }

  // Repeats an operator's call until it is answered; `done` says whether an
  // unanswered one was carried out.
  void Insist(const std::function<absl::Status()>& call,
              const std::function<bool()>& done) {
    absl::Status status = call();
    while (!status.ok() && kill_->fired() && !HasFatalFailure()) {
      Revive();
      status = done() ? absl::OkStatus() : call();
    }
    ASSERT_OK(status);
  }

  absl::StatusOr<v1::RoundInfo> Look(uint64_t round) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::GetRoundRequest request;
    request.set_round(round);
    v1::RoundInfo info;
    CONSILIUM_RETURN_IF_ERROR(
        FromGrpc(federation_->admin().GetRound(&context, request, &info)));
    return info;
  }

  // Starts the round, with the kill at its `step`-th step.
  void StartRound(int64_t step) {
    ++round_;
    kill_->Arm(step);
    Insist([&] { return federation_->StartRound().status(); },
           [&] { return Look(round_).ok(); });
  }

  v1::RoundInfo AwaitEnd() {
    for (;;) {
      const auto end = federation_->WatchRound(round_, nullptr, kLong);
      if (end.ok() && end->terminal()) return *end;
      if (kill_->fired()) Revive();
      if (HasFatalFailure()) return {};
      // A stop between two rounds of the watch: look again.
      if (end.ok() || absl::IsUnavailable(end.status())) continue;
      ADD_FAILURE() << end.status();
      return {};
    }
  }

  // A round that the kill meets at its `step`-th step. False: it had fewer.
  bool PromotedRound(int64_t step) {
    StartRound(step);
    if (HasFatalFailure()) return false;
    const v1::RoundInfo end = AwaitEnd();
    const bool fired = labels_.size() > kills_seen_;
    SCOPED_TRACE(Cat("round ", round_, ", killed at step ", step, ": ",
                     fired ? labels_.back() : "not at all"));
    kills_seen_ = labels_.size();
    kill_->Arm(0);
    EXPECT_EQ(end.phase(), "promoted") << end.reason();
    EXPECT_EQ(end.contributions(), 2u);
    value_ = Average(value_);
    EXPECT_EQ(HexEncode(AsBytes(end.candidate().digest())),
              DigestOf(layout_, value_).Hex());
    for (SdkInstitution* const bank : {a_.get(), b_.get()}) {
      const SdkInstitution::Seen seen = bank->SeenIn(round_);
      EXPECT_EQ(seen.trainings, 1);
      EXPECT_EQ(seen.receipts, 1);
      EXPECT_EQ(seen.evaluations, 1);
    }
    ended_[round_] = "promoted";
    return fired;
  }

  // The round ends like this, after at most one kill. False: there was none.
  bool ExpectEnd(const std::string& phase) {
    const v1::RoundInfo end = AwaitEnd();
    const bool fired = labels_.size() > kills_seen_;
    SCOPED_TRACE(Cat("round ", round_, ", killed before ",
                     fired ? labels_.back() : "nothing"));
    kills_seen_ = labels_.size();
    kill_->Arm(0);
    EXPECT_EQ(end.phase(), phase) << end.reason();
    EXPECT_EQ(a_->SeenIn(round_).trainings, 1);
    ended_[round_] = phase;
    return fired;
  }

  absl::Status Cancel() {
    grpc::ClientContext context;
    v1::CancelRoundRequest request;
    request.set_round(round_);
    request.set_reason("wrong data");
    v1::RoundInfo info;
    return FromGrpc(federation_->admin().CancelRound(&context, request, &info));
  }

  // What the stopped coordinator left: consistent, each fact once.
  void CheckHistory() {
    StoreOptions options;
    options.data_dir = JoinPath(federation_->coordinator_dir(), "data");
    options.min_free_bytes = 0;
    ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
    ASSERT_OK_AND_ASSIGN(const CheckReport report,
                         CheckStore(*store, {.deep = true}));
    for (const CheckProblem& problem : report.problems) {
      ADD_FAILURE() << problem.kind << " " << problem.object << ": "
                    << problem.detail;
    }
    ASSERT_OK(store->history().Read([&](ReadTx& tx) -> absl::Status {
      for (const auto& [round, phase] : ended_) {
        SCOPED_TRACE(Cat("round ", round));
        const auto id = static_cast<int64_t>(round);
        CONSILIUM_ASSIGN_OR_RETURN(const RoundRow row, GetRound(tx, id));
        EXPECT_EQ(row.state, phase);
        CONSILIUM_ASSIGN_OR_RETURN(const auto metrics, ListMetrics(tx, id));
        std::map<std::string, int> times;
        for (const MetricRow& m : metrics) {
          ++times[Cat("metric ", ToString(m.phase), " ", m.name, " ",
                      m.institution_id.value_or(0))];
        }
        CONSILIUM_ASSIGN_OR_RETURN(const auto events,
                                   ListRoundEvents(tx, id, {.limit = 1000}));
        for (const RoundEventRow& event : events) {
          if (event.institution.empty()) ++times[event.kind];
        }
        CONSILIUM_ASSIGN_OR_RETURN(const auto contributions,
                                   ListContributions(tx, {.round = id}));
        for (const ContributionRow& c : contributions) {
          ++times[Cat("contribution of ", c.institution_id)];
        }
        for (const auto& [what, count] : times) {
          EXPECT_EQ(count, 1) << what;
        }
      }
      return absl::OkStatus();
    }));
  }

  const Layout layout_ = RoundLayout();
  TempDir dir_;
  std::unique_ptr<KillSwitch> kill_;
  std::unique_ptr<LocalFederation> federation_;
  std::unique_ptr<SdkInstitution> a_;
  std::unique_ptr<SdkInstitution> b_;
  std::vector<float> zeros_;
  bool again_ = false;
  std::vector<std::string> labels_;
  size_t kills_seen_ = 0;
  uint64_t round_ = 0;
  float value_ = 0;
  std::map<uint64_t, std::string> ended_;
};

class KillInPromotedRoundTest : public KillCoordinatorTest,
                                public testing::WithParamInterface<int64_t> {};

// Shards run beside each other; each walks every fourth step.
constexpr int64_t kShards = 4;

TEST_P(KillInPromotedRoundTest, ARoundIsPromotedWhereverItWasKilled) {
  bool more = true;
  for (int64_t step = GetParam(); more && !HasFailure(); step += kShards) {
    more = PromotedRound(step);
  }
  EXPECT_GT(labels_.size(), 5u);
}

INSTANTIATE_TEST_SUITE_P(Shard, KillInPromotedRoundTest,
                         testing::Range(int64_t{1}, kShards + 1));

// The way to the other endings begins like the one above: here the kill comes
// on both sides of each commit that follows the deciding act.
TEST_F(KillCoordinatorTest, ARoundIsRejectedWhereverItWasKilled) {
  b_->Behave(Conduct::kDeclineEvaluation);
  a_->Behave(Conduct::kDeclineEvaluation);
  bool fired = true;
  // The fold, one commit of its result, and one for each that declines.
  for (int64_t step = 1; fired && !HasFailure(); ++step) {
    b_->Hold();
    StartRound(0);
    a_->AwaitOutcome(round_);
    kill_->Arm(step);
    b_->Release();
    fired = ExpectEnd("rejected");
    EXPECT_EQ(b_->SeenIn(round_).trainings, 1);
  }
  EXPECT_GT(labels_.size(), 12u);
}

TEST_F(KillCoordinatorTest, ARoundFailsWhereverItWasKilled) {
  b_->Behave(Conduct::kDeclineTraining);
  bool fired = true;
  for (int64_t step = 1; fired && !HasFailure(); ++step) {
    b_->Hold();
    StartRound(0);
    a_->AwaitOutcome(round_);
    kill_->Arm(step);
    b_->Release();
    fired = ExpectEnd("failed");
  }
  EXPECT_GE(labels_.size(), 2u);
}

TEST_F(KillCoordinatorTest, ARoundIsCancelledWhereverItWasKilled) {
  bool fired = true;
  for (int64_t step = 1; fired && !HasFailure(); ++step) {
    b_->Hold();
    StartRound(0);
    a_->AwaitOutcome(round_);
    kill_->Arm(step);
    Insist([&] { return Cancel(); },
           [&] {
             const auto info = Look(round_);
             return info.ok() && info->phase() == "cancelled";
           });
    b_->Release();
    fired = ExpectEnd("cancelled");
    EXPECT_EQ(b_->SeenIn(round_).trainings, 0);
  }
  EXPECT_GE(labels_.size(), 2u);
}

// Every round of the walk is killed once more while the coordinator recovers.
TEST_F(KillCoordinatorTest, ARoundIsPromotedAlthoughRecoveryWasKilledToo) {
  again_ = true;
  for (int64_t step = 5; step < 45 && !HasFailure(); step += 4) {
    PromotedRound(step);
  }
}

}  // namespace
}  // namespace consilium

// The process of an institution is killed with SIGKILL at every step of a
// round: before each call and after its answer, around each chunk and each
// acknowledgement, while it trains, encodes and evaluates, and before every
// change of its outbox and cache. Started again, it goes on from its outbox: it
// trains again only where no complete outbox was written, and its contribution
// counts once.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "client_sdk/session/outbox.h"
#include "client_sdk/session/session.h"
#include "consilium/base/strings.h"
#include "tests/crash/kill_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {
namespace {

class KillClientTest : public KillTest,
                       public testing::WithParamInterface<int64_t> {
 protected:
  void SetUp() override {
    KillTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_OK_AND_ASSIGN(client_kill_, KillSwitch::Create(switch_path()));
    b_ = StartInstitution("bank-b", kDeltaB, kExamplesB);
  }
  void TearDown() override {
    b_.reset();
    KillTest::TearDown();
  }

  std::string switch_path() const { return dir_ / "client-switch"; }

  std::unique_ptr<Process> StartClient(uint64_t round) {
    auto process =
        Process::Start({program("crash_client"), federation_->address(),
                        federation_->InstitutionDir("bank-a"), Cat(round),
                        absl::StrFormat("%.9g", kDeltaA), Cat(kExamplesA)},
                       federation_->logs_dir() + "/bank-a.log",
                       {Cat("CONSILIUM_KILL_SWITCH=", switch_path())});
    EXPECT_THAT(process, IsOk());
    return process.ok() ? *std::move(process) : nullptr;
  }

  // What is trained is safe: in the outbox, or with the coordinator.
  bool UpdateIsSafe(uint64_t round) {
    const auto outbox = client::internal::SummarizeOutbox(
        PosixFileSystem(),
        client::internal::OutboxDirectory(OptionsFor("bank-a")));
    EXPECT_THAT(outbox, IsOk());
    if (outbox.ok() && !outbox->empty()) return true;
    const auto info = Look(round);
    EXPECT_THAT(info, IsOk());
    if (!info.ok()) return false;
    for (const v1::MemberInfo& member : info->members()) {
      if (member.institution() == "bank-a" && member.state() == "committed") {
        return true;
      }
    }
    return info->phase() == "evaluating" || info->terminal();
  }

  // A round whose client is killed at its `step`-th step, counted from when it
  // has nothing in outbox and cache. False: it had fewer.
  bool RunRound(uint64_t round, int64_t step) {
    EXPECT_OK(PosixFileSystem()->RemoveTree(
        client::internal::StateDirectory(OptionsFor("bank-a"))));
    client_kill_->ResetCount();
    client_kill_->Arm(step);
    EXPECT_OK(federation_->StartRound().status());
    std::unique_ptr<Process> client = StartClient(round);
    if (client == nullptr) return false;
    int exit = client->Wait(kKillTestTimeout);
    const bool killed = client_kill_->fired();
    SCOPED_TRACE(Cat("round ", round, ", step ", step, ", killed before: ",
                     killed ? client_kill_->label() : "nothing"));
    int64_t trainings = 1;
    if (killed) {
      EXPECT_EQ(exit, 128 + SIGKILL);
      const bool safe = UpdateIsSafe(round);
      trainings = client_kill_->count() + (safe ? 0 : 1);
      client_kill_->Arm(0);
      client = StartClient(round);
      if (client == nullptr) return false;
      exit = client->Wait(kKillTestTimeout);
    }
    EXPECT_EQ(exit, 0) << "see " << federation_->logs_dir();
    if (!killed) steps_ = client_kill_->Trace();
    EXPECT_EQ(client_kill_->count(), trainings);
    const auto end = federation_->WatchRound(round, nullptr, kKillTestTimeout);
    EXPECT_THAT(end, IsOk());
    if (end.ok()) ExpectEnd(*end, "promoted");
    return killed && !HasFailure();
  }

  std::unique_ptr<KillSwitch> client_kill_;
  std::vector<std::string> steps_;  // of the last client that was not killed
  std::unique_ptr<SdkInstitution> b_;
};

// Shards run beside each other; each walks every fourth step.
constexpr int64_t kShards = 4;

TEST_P(KillClientTest, ARoundIsPromotedWhereverItsClientWasKilled) {
  uint64_t round = 0;
  ASSERT_FALSE(RunRound(++round, 0));
  ExpectSteps(steps_, {"call Hello",
                       "after Hello",
                       "call WaitForWork",
                       "call Download",
                       "part of a download",
                       "after Download",
                       "train",
                       "call ReportProgress",
                       "encode",
                       "/outbox/",
                       "rename to ",
                       "call BeginUpload",
                       "after BeginUpload",
                       "send chunk 0",
                       "send chunk 1",
                       "send chunk 2",
                       "take an acknowledgement",
                       "call CommitUpload",
                       "after CommitUpload",
                       "remove ",
                       "evaluate",
                       "call ReportEvaluation",
                       "after ReportEvaluation"});
  WalkSteps({.known = static_cast<int64_t>(steps_.size()),
             .first = GetParam(),
             .stride = kShards},
            [&](int64_t step) { return RunRound(++round, step); });
}

INSTANTIATE_TEST_SUITE_P(Shard, KillClientTest,
                         testing::Range(int64_t{1}, kShards + 1));

}  // namespace
}  // namespace consilium

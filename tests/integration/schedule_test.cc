// Rounds that begin by themselves, and how that survives failures, pauses and
// restarts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>

#include "proto/wire/status.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

v1::ScheduleInfo SetSchedule(TestFederation& federation,
                             const std::string& kind,
                             const std::string& expression = "",
                             const std::string& zone = "") {
  v1::SetScheduleRequest request;
  request.set_kind(kind);
  request.set_expression(expression);
  request.set_time_zone(zone);
  v1::ScheduleInfo response;
  grpc::ClientContext context;
  EXPECT_THAT(
      FromGrpc(federation.admin().SetSchedule(&context, request, &response)),
      IsOk());
  return response;
}

v1::ScheduleInfo Pause(TestFederation& federation, bool paused) {
  v1::PauseScheduleRequest request;
  request.set_paused(paused);
  v1::ScheduleInfo response;
  grpc::ClientContext context;
  EXPECT_THAT(
      FromGrpc(federation.admin().PauseSchedule(&context, request, &response)),
      IsOk());
  return response;
}

// 0: none yet.
uint64_t Newest(TestFederation& federation) {
  v1::ListRoundsRequest request;
  v1::ListRoundsResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(
      FromGrpc(federation.admin().ListRounds(&context, request, &response)),
      IsOk());
  return response.rounds_size() == 0 ? 0 : response.rounds(0).round();
}

// The newest round there is, once it is this one or a later one. Watches
// whatever round is live, so it also sees one that opens by itself.
v1::RoundInfo WaitForRound(TestFederation& federation, uint64_t round) {
  v1::WatchRoundRequest request;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  auto reader = federation.admin().WatchRound(&context, request);
  v1::RoundInfo info;
  while (reader->Read(&info) && info.round() < round) {
  }
  context.TryCancel();
  EXPECT_GE(info.round(), round);
  return info;
}

void RunRound(TimedFederation& f, uint64_t round) {
  EXPECT_EQ(WaitForRound(*f, round).round(), round);
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 1);
  EXPECT_EQ(f->WaitForEnd(round).phase(), "promoted");
}

TEST(ScheduleTest, ManualOpensNothing) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  f.Advance(absl::Hours(48));
  EXPECT_EQ(Newest(*f), 0u);
  const auto work = f["bank-a"].WaitForWork(absl::ZeroDuration());
  ASSERT_THAT(work, IsOk());
  EXPECT_THAT(std::get<client::Idle>(*work).reason,
              HasSubstr("waiting for the operator"));
}

TEST(ScheduleTest, WhoWaitsHearsOfAnotherSchedule) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  EXPECT_THAT(f["bank-a"].WaitForWork(absl::ZeroDuration()), IsOk());
  // The SDK reports each new reason while it waits.
  std::promise<void> heard;
  bool told = false;
  client::ClientOptions options = f->OptionsFor("bank-b");
  options.state_dir = JoinPath(f->dir(), "another-process");
  options.observer = [&](const client::Event& event) {
    if (!told && event.text.find("scheduled round") != std::string::npos) {
      told = true;
      heard.set_value();
    }
  };
  const auto b = client::Client::Connect(options);
  ASSERT_THAT(b.status(), IsOk());
  std::thread waiting(
      [&] { (*b)->WaitForWork(absl::Minutes(5)).IgnoreError(); });
  while (f->engine().board().size() == 0) std::this_thread::yield();
  SetSchedule(*f, "every", "1h");
  heard.get_future().wait();
  (*b)->Cancel("enough");
  waiting.join();
}

TEST(ScheduleTest, EveryKeepsToItsGrid) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "every", "1h");
  f.Advance(absl::Minutes(59));
  EXPECT_EQ(Newest(*f), 0u);
  const auto work = f["bank-a"].WaitForWork(absl::ZeroDuration());
  ASSERT_THAT(work, IsOk());
  EXPECT_THAT(std::get<client::Idle>(*work).reason,
              HasSubstr("next scheduled round"));
  f.Advance(absl::Minutes(1));
  RunRound(f, 1);
  EXPECT_EQ(RoundOf(*f, 1).trigger(), "every");
  f.Advance(absl::Minutes(59));
  EXPECT_EQ(Newest(*f), 1u);
  f.Advance(absl::Minutes(1));
  EXPECT_EQ(Newest(*f), 2u);
}

// A failed round says why, and the schedule goes on with the next one.
TEST(ScheduleTest, AFailedRoundIsFollowedByTheNext) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "every", "1h");
  f.Advance(absl::Hours(1));
  Contribute(f["bank-a"], 1);
  f.Advance(absl::Minutes(10));
  const v1::RoundInfo failed = RoundOf(*f, 1);
  EXPECT_EQ(failed.phase(), "failed");
  EXPECT_THAT(failed.reason(), HasSubstr("bank-b missing"));
  f.Advance(absl::Minutes(50));
  RunRound(f, 2);
}

// A fire that meets a running round waits for its end, and does not pile up.
TEST(ScheduleTest, ALongRoundDelaysTheNextOne) {
  TimedFederation f({{"deadline", "5h"}}, {"bank-a", "bank-b"});
  SetSchedule(*f, "every", "1h");
  f.Advance(absl::Hours(1));
  f.Advance(absl::Hours(1));
  f.Advance(absl::Hours(1));
  EXPECT_EQ(Newest(*f), 1u);
  RunRound(f, 1);
  EXPECT_EQ(WaitForRound(*f, 2).phase(), "open");  // at once, and only one
  RunRound(f, 2);
  f.Advance(absl::Minutes(59));
  EXPECT_EQ(Newest(*f), 2u);
}

TEST(ScheduleTest, CronFollowsTheTimeZone) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  absl::TimeZone berlin;
  ASSERT_TRUE(absl::LoadTimeZone("Europe/Berlin", &berlin));
  const v1::ScheduleInfo schedule =
      SetSchedule(*f, "cron", "30 3 * * *", "Europe/Berlin");
  absl::CivilDay day(absl::ToCivilDay(f.now(), berlin));
  absl::Time due;
  do {
    due = absl::FromCivil(
        absl::CivilMinute(day.year(), day.month(), day.day(), 3, 30), berlin);
    ++day;
  } while (due <= f.now());
  EXPECT_EQ(schedule.next_at(), absl::ToUnixMicros(due));
  f.Advance(due - f.now() - absl::Seconds(1));
  EXPECT_EQ(Newest(*f), 0u);
  f.Advance(absl::Seconds(1));
  EXPECT_EQ(RoundOf(*f, 1).trigger(), "cron");
}

TEST(ScheduleTest, ContinuousBeginsWhenTheRoundBeforeEnds) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "continuous");
  RunRound(f, 1);
  RunRound(f, 2);
  EXPECT_EQ(WaitForRound(*f, 3).round(), 3u);
  EXPECT_EQ(RoundOf(*f, 3).trigger(), "continuous");
}

// Members that all decline would otherwise make it spin.
TEST(ScheduleTest, ContinuousPausesAfterAFailure) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "continuous");
  WaitForRound(*f, 1);
  ASSERT_OK(f["bank-a"].Decline(WaitForTask(f["bank-a"]), "busy"));
  EXPECT_EQ(f->WaitForEnd(1).phase(), "failed");
  f.Advance(absl::ZeroDuration());
  EXPECT_EQ(Newest(*f), 1u);
  f.Advance(f->config().failure_pause - absl::Seconds(1));
  EXPECT_EQ(Newest(*f), 1u);
  f.Advance(absl::Seconds(1));
  EXPECT_EQ(Newest(*f), 2u);
}

// Nor may one spin that cannot even begin a round.
TEST(ScheduleTest, ContinuousWaitsForMembers) {
  TimedFederation f({}, {"bank-a"});
  SetSchedule(*f, "continuous");
  f.Advance(absl::ZeroDuration());
  EXPECT_EQ(Newest(*f), 0u);
  f->Enroll("bank-b");
  f.Advance(f->config().failure_pause);
  EXPECT_EQ(Newest(*f), 1u);
}

TEST(ScheduleTest, WhatPassesWhilePausedIsDropped) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "every", "1h");
  EXPECT_TRUE(Pause(*f, true).paused());
  f.Advance(absl::Minutes(150));
  EXPECT_EQ(Newest(*f), 0u);
  const auto work = f["bank-a"].WaitForWork(absl::ZeroDuration());
  ASSERT_THAT(work, IsOk());
  EXPECT_THAT(std::get<client::Idle>(*work).reason, HasSubstr("paused"));
  // Nor does a restart forget that it is paused.
  f->Restart();
  f.Advance(absl::Minutes(20));
  EXPECT_EQ(Newest(*f), 0u);
  EXPECT_FALSE(Pause(*f, false).paused());
  f.Advance(absl::Minutes(9));
  EXPECT_EQ(Newest(*f), 0u);  // 179 minutes since the schedule was set
  f.Advance(absl::Minutes(1));
  EXPECT_EQ(Newest(*f), 1u);
}

TEST(ScheduleTest, APausedScheduleLetsALiveRoundGoOn) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "continuous");
  WaitForRound(*f, 1);
  Pause(*f, true);
  RunRound(f, 1);
  f.Advance(absl::Hours(1));
  EXPECT_EQ(Newest(*f), 1u);
  Pause(*f, false);
  RunRound(f, 2);
}

// However many fires were missed, one round begins.
TEST(ScheduleTest, MissedWhileDownCollapse) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  SetSchedule(*f, "every", "1h");
  f->Stop();
  f.AdvanceStopped(absl::Hours(5) + absl::Minutes(30));
  f->StartAgain();
  f.Advance(absl::ZeroDuration());
  RunRound(f, 1);
  f.Advance(absl::Minutes(29));
  EXPECT_EQ(Newest(*f), 1u);
  f.Advance(absl::Minutes(1));
  EXPECT_EQ(Newest(*f), 2u);
}

}  // namespace
}  // namespace consilium

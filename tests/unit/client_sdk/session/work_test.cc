// Waiting for work, and what the coordinator signs about it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "consilium/secure/sha256.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

TEST(WorkTest, IdleComesBackWithItsReasonAfterTheWait) {
  Harness h;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  const absl::Duration before = h.clock.Monotonic();
  ASSERT_OK_AND_ASSIGN(Work work, session->WaitForWork(absl::Minutes(5), {}));
  EXPECT_EQ(std::get<Idle>(work).reason, "no round is open");
  EXPECT_GE(h.clock.Monotonic() - before, absl::Minutes(5));
  // Polls of a minute each, as the coordinator grants, and the first.
  EXPECT_LE(h.coordinator.steps(), 9);
  EXPECT_THAT(h.events, Contains("waiting: no round is open").Times(1));
}

TEST(WorkTest, ATaskHoldsWhatWasSigned) {
  Harness h;
  h.coordinator.OpenRound(5);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_EQ(task.federation, "cards");
  EXPECT_EQ(task.round, 5u);
  EXPECT_EQ(task.attempt, 1u);
  EXPECT_EQ(task.base.number, 5u);
  EXPECT_EQ(task.min_examples, 3u);
  EXPECT_TRUE(task.sealed);
  EXPECT_EQ(task.parameters.at("epochs"), "2");
  EXPECT_EQ(task.layout_digest, h.coordinator.layout_digest());
}

TEST(WorkTest, AForgedAnnouncementIsNeverTaken) {
  const std::vector<std::function<void(TrainOffer&)>> forgeries = {
      [](TrainOffer& o) { o.terms.statement.round = 9; },
      [](TrainOffer& o) { o.terms.statement.attempt = 2; },
      [](TrainOffer& o) { o.terms.statement.sealing_public_key.reset(); },
      [](TrainOffer& o) {
        o.terms.statement.sealing_public_key->bytes[0] ^= std::byte{1};
      },
      [](TrainOffer& o) {
        o.terms.statement.base.digest.bytes[0] ^= std::byte{1};
      },
      [](TrainOffer& o) { o.terms.statement.federation = "hospitals"; },
      [](TrainOffer& o) { o.terms.statement.weight_max = 2e6; },
      [](TrainOffer& o) { o.terms.signature.bytes[63] ^= std::byte{1}; },
  };
  for (const auto& forge : forgeries) {
    Harness h;
    h.coordinator.OpenRound(1);
    h.coordinator.Edit(forge);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    EXPECT_THAT(h.Task(*session), StatusIs(absl::StatusCode::kUnauthenticated));
    EXPECT_THAT(h.sleeper.slept(), IsEmpty());
  }
}

TEST(WorkTest, AForgedCandidateIsNeverTaken) {
  Harness h;
  EvaluateOffer offer =
      h.coordinator.EvaluationOf(1, {2, Sha256("candidate"), 100});
  h.coordinator.OfferEvaluation(offer);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(Work work, session->WaitForWork(absl::Minutes(1), {}));
  EXPECT_EQ(std::get<EvaluateTask>(work).candidate.number, 2u);

  offer.task.candidate.number = 3;
  h.coordinator.OfferEvaluation(offer);
  EXPECT_THAT(session->WaitForWork(absl::Minutes(1), {}),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

// Version 0 was imported, and averaged upon, after this session had greeted.
TEST(WorkTest, ACandidateOfALayoutThatCameLaterIsTaken) {
  Harness h;
  h.coordinator.HideLayout(true);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  h.coordinator.HideLayout(false);
  h.coordinator.OfferEvaluation(
      h.coordinator.EvaluationOf(1, {2, Sha256("candidate"), 100}));
  ASSERT_OK_AND_ASSIGN(Work work, session->WaitForWork(absl::Minutes(1), {}));
  EXPECT_EQ(std::get<EvaluateTask>(work).candidate.number, 2u);
}

// A certificate lasts for weeks after its renewal is due.
TEST(WorkTest, ARenewalThatFailsDoesNotHoldUpTheRest) {
  TempDir directory;
  Harness h{PosixFileSystem()};
  h.options.identity_dir = directory.path();
  h.options.state_dir = directory / "state";
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  h.coordinator.Answer("RenewCertificate",
                       absl::ResourceExhaustedError("too many renewals"));
  EXPECT_THAT(session->Renew({}), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("too many renewals")));
  EXPECT_THAT(h.sleeper.slept(), testing::SizeIs(2));
}

TEST(WorkTest, ARoundWithOurContributionIsNoWork) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  const int64_t steps = h.coordinator.steps();
  ASSERT_OK_AND_ASSIGN(Work work, session->WaitForWork(absl::Minutes(5), {}));
  EXPECT_THAT(std::get<Idle>(work).reason, HasSubstr("has this contribution"));
  // The fake answers at once each time; the session does not spin.
  EXPECT_LE(h.coordinator.steps() - steps, 100);
  EXPECT_THAT(h.sleeper.slept(), Not(IsEmpty()));
}

TEST(WorkTest, AnAbsentCoordinatorIsAReasonWhileThePolicyAllows) {
  Harness h;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  h.coordinator.SetUnreachable(true);
  const absl::Duration before = h.clock.Monotonic();
  ASSERT_OK_AND_ASSIGN(Work work, session->WaitForWork(absl::Minutes(5), {}));
  EXPECT_THAT(std::get<Idle>(work).reason, HasSubstr("does not answer"));
  EXPECT_EQ(h.clock.Monotonic() - before, absl::Minutes(5));

  h.coordinator.SetUnreachable(false);
  h.coordinator.OpenRound(3);
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_EQ(task.round, 3u);
}

TEST(WorkTest, GivingUpCountsOverSeveralCalls) {
  Harness h;
  h.options.retry.give_up_after = absl::Minutes(12);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  h.coordinator.SetUnreachable(true);
  EXPECT_THAT(session->WaitForWork(absl::Minutes(5), {}), IsOk());
  EXPECT_THAT(session->WaitForWork(absl::Minutes(5), {}), IsOk());
  EXPECT_THAT(session->WaitForWork(absl::Minutes(5), {}),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("retry.give_up_after")));
}

TEST(WorkTest, AnotherInstitutionsGreetingIsRefused) {
  Harness h;
  InstitutionIdentity identity = h.coordinator.Identity();
  identity.name.name = "bank-b";
  ASSERT_OK_AND_ASSIGN(auto lock, LockState(h.fs, h.options));
  EXPECT_THAT(
      Session::Create({.options = h.options,
                       .lock = std::move(lock),
                       .identity = identity,
                       .transport = h.coordinator.NewTransport(),
                       .deps = {.fs = h.fs,
                                .clock = &h.clock,
                                .sleeper = &h.sleeper,
                                .random = &h.random,
                                .later = &h.later},
                       .runner = nullptr},
                      {}),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("bank-b")));
}

TEST(WorkTest, OneProcessAtATime) {
  Harness h;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  EXPECT_THAT(h.Connect(), StatusIs(absl::StatusCode::kFailedPrecondition));
  session.reset();
  EXPECT_THAT(h.Connect(), IsOk());
}

TEST(WorkTest, ProgressIsNotWorthFailingFor) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_THAT(session->ReportProgress(task, 0.5, "half", {}),
              IsOkAndHolds(false));
  h.coordinator.SetUnreachable(true);
  EXPECT_THAT(session->ReportProgress(
                  task, std::numeric_limits<double>::quiet_NaN(), "?", {}),
              IsOkAndHolds(true));
  EXPECT_THAT(h.sleeper.slept(), IsEmpty());
}

TEST(WorkTest, DecliningAndEvaluatingAreRetried) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.FailAt(1, Fault::kReplyLost);
  EXPECT_OK(session->Decline({task.round, task.attempt}, "no data", false, {}));
  EXPECT_THAT(h.coordinator.log(), Contains("no data").Times(2));
  // Cut between characters, and fit for the wire whatever the caller gives.
  EXPECT_OK(session->Decline({task.round, task.attempt},
                             std::string(999, 'x') + "\xC3\xA9", false, {}));
  EXPECT_THAT(h.coordinator.log(), Contains(std::string(999, 'x')));
  EXPECT_OK(session->Decline({task.round, task.attempt}, "caf\xE9", false, {}));
  EXPECT_THAT(h.coordinator.log(), Contains("caf?"));

  h.coordinator.FailAt(1, Fault::kRequestLost);
  EvaluateTask evaluate;
  evaluate.round = 1;
  ASSERT_OK(session->ReportEvaluation(evaluate, 9, {{"auc", 0.8}}, {}));
  EXPECT_THAT(h.coordinator.log(), Contains("9 examples, 1 metrics"));
  EXPECT_THAT(session->ReportEvaluation(evaluate, 9, {{"auc", NAN}}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("auc")));
}

TEST(WorkTest, TheLayoutIsFetchedOnceAndChecked) {
  Harness h;
  { ASSERT_OK(h.Connect()); }
  const uint64_t once = h.coordinator.downloaded();
  EXPECT_EQ(once, h.coordinator.layout().CanonicalText().size());
  { ASSERT_OK(h.Connect()); }
  EXPECT_EQ(h.coordinator.downloaded(), once);

  Harness other;
  other.coordinator.objects()[other.coordinator.layout_digest()][30] ^= 1;
  EXPECT_THAT(other.Connect(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(WorkTest, OptionsAreChecked) {
  ClientOptions good;
  good.coordinator = "a:1";
  good.identity_dir = "/id";
  EXPECT_OK(ValidateOptions(good));
  EXPECT_EQ(StateDirectory(good), "/id/state");
  const std::vector<std::pair<std::string, std::function<void(ClientOptions&)>>>
      bad = {
          {"coordinator", [](ClientOptions& o) { o.coordinator.clear(); }},
          {"identity_dir", [](ClientOptions& o) { o.identity_dir.clear(); }},
          {"retry.initial",
           [](ClientOptions& o) { o.retry.initial = absl::ZeroDuration(); }},
          {"retry.cap",
           [](ClientOptions& o) { o.retry.cap = absl::Milliseconds(1); }},
          {"retry.cap",
           [](ClientOptions& o) { o.retry.cap = absl::InfiniteDuration(); }},
          {"retry.multiplier",
           [](ClientOptions& o) { o.retry.multiplier = 0; }},
          {"retry.multiplier",
           [](ClientOptions& o) {
             o.retry.multiplier = std::numeric_limits<double>::infinity();
           }},
          {"control_timeout",
           [](ClientOptions& o) { o.control_timeout = absl::ZeroDuration(); }},
          {"stall_timeout",
           [](ClientOptions& o) { o.stall_timeout = absl::ZeroDuration(); }},
          {"cached_versions", [](ClientOptions& o) { o.cached_versions = 0; }},
          {"outbox_sync_delay",
           [](ClientOptions& o) { o.outbox_sync_delay = -absl::Seconds(1); }},
      };
  for (const auto& [name, spoil] : bad) {
    ClientOptions options = good;
    spoil(options);
    EXPECT_THAT(ValidateOptions(options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
  }
}

}  // namespace
}  // namespace consilium::client::internal

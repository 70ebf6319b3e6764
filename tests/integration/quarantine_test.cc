// Quarantine before and after the fact, replay, suspension, revocation.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "proto/wire/status.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Change = v1::SetInstitutionStateRequest;

std::string ContributionId(TestFederation& federation, uint64_t round,
                           const std::string& institution) {
  v1::ListContributionsRequest request;
  request.set_round(round);
  request.set_institution(institution);
  v1::ListContributionsResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(FromGrpc(federation.admin().ListContributions(&context, request,
                                                            &response)),
              IsOk());
  if (response.contributions_size() != 1) {
    ADD_FAILURE() << response.contributions_size() << " of " << institution;
    return "";
  }
  return response.contributions(0).id();
}

v1::ReplayRoundResponse Replay(TestFederation& federation, uint64_t round,
                               const std::vector<std::string>& exclude = {}) {
  v1::ReplayRoundRequest request;
  request.set_round(round);
  for (const std::string& name : exclude) request.add_exclude(name);
  v1::ReplayRoundResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(
      FromGrpc(federation.admin().ReplayRound(&context, request, &response)),
      IsOk());
  return response;
}

std::vector<std::string> Contributors(TestFederation& federation,
                                      uint64_t version) {
  const v1::VersionInfo info = VersionOf(federation, version);
  return {info.contributors().begin(), info.contributors().end()};
}

// Three members; 1, 2 and 6 with equal weights, so that leaving one out shows.
void RunRound(TimedFederation& f) {
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 2);
  Contribute(f["bank-c"], 6);
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
}

TEST(QuarantineTest, AfterTheFactEveryDependentVersionIsFlagged) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  RunRound(f);
  RunRound(f);
  // A second candidate of round 1 without bank-a; and an open round.
  EXPECT_EQ(Replay(*f, 1, {"bank-a"}).candidate().number(), 3u);
  const uint64_t open = f->StartRound();
  const std::string id = ContributionId(*f, 1, "bank-c");
  ASSERT_OK(f->engine().QuarantineContribution("op", id, "mislabelled"));
  for (const uint64_t version : {1, 2, 3}) {
    EXPECT_TRUE(VersionOf(*f, version).tainted()) << version;
  }
  EXPECT_FALSE(VersionOf(*f, 0).tainted());
  EXPECT_THAT(VersionOf(*f, 1).reason(),
              AllOf(HasSubstr("bank-c"), HasSubstr("mislabelled")));
  // What the open round makes stands on it too.
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 1);
  Contribute(f["bank-c"], 1);
  ASSERT_EQ(f->WaitForEnd(open).phase(), "promoted");
  EXPECT_TRUE(VersionOf(*f, 4).tainted());
  // The status of the coordinator warns.
  v1::StatusInfo status;
  grpc::ClientContext context;
  ASSERT_THAT(
      FromGrpc(f->admin().GetStatus(&context, v1::GetStatusRequest(), &status)),
      IsOk());
  ASSERT_EQ(status.warnings_size(), 1);
  EXPECT_THAT(status.warnings(0), HasSubstr("quarantined contribution"));
}

TEST(QuarantineTest, ReplayComparesAndLeavesOut) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  RunRound(f);
  EXPECT_THAT(Contributors(*f, 1), ElementsAre("bank-a", "bank-b", "bank-c"));
  v1::ReplayRoundResponse same = Replay(*f, 1);
  EXPECT_TRUE(same.equal());
  EXPECT_FALSE(same.has_candidate());
  const std::string id = ContributionId(*f, 1, "bank-c");
  ASSERT_OK(f->engine().QuarantineContribution("op", id, "mislabelled"));
  // What the version holds has not changed.
  same = Replay(*f, 1);
  EXPECT_TRUE(same.equal());
  EXPECT_EQ(same.contributions_size(), 3);
  EXPECT_THAT(Contributors(*f, 1), ElementsAre("bank-a", "bank-b", "bank-c"));
  // The new candidate is what the others give, and hangs on the same base.
  const v1::ReplayRoundResponse without = Replay(*f, 1, {"bank-c"});
  EXPECT_FALSE(without.equal());
  ASSERT_TRUE(without.has_candidate());
  const uint64_t number = without.candidate().number();
  const v1::VersionInfo candidate = VersionOf(*f, number);
  EXPECT_EQ(candidate.state(), "candidate");
  EXPECT_FALSE(candidate.tainted());
  EXPECT_EQ(candidate.parent(), 0u);
  EXPECT_THAT(Contributors(*f, number), ElementsAre("bank-a", "bank-b"));
  // A round on the tainted version ends when the clean one takes its place.
  const uint64_t open = f->StartRound();
  ASSERT_OK(f->engine().PromoteVersion("op", static_cast<int64_t>(number),
                                       "without bank-c"));
  const v1::RoundInfo ended = RoundOf(*f, open);
  EXPECT_EQ(ended.phase(), "cancelled");
  EXPECT_THAT(ended.reason(), AllOf(HasSubstr("base version 1 was abandoned"),
                                    HasSubstr("version 2 was promoted")));
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 1.5f);
}

// A contribution that was quarantined before the fold is no part of a replay,
// whatever happens to another one later.
TEST(QuarantineTest, ReplayFoldsWhatTheVersionHolds) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-c"], 6);
  ASSERT_OK(f->engine().QuarantineContribution(
      "op", ContributionId(*f, id, "bank-c"), "before"));
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 2);
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  ASSERT_OK(f->engine().QuarantineContribution(
      "op", ContributionId(*f, id, "bank-b"), "after"));
  const v1::ReplayRoundResponse replay = Replay(*f, id);
  EXPECT_TRUE(replay.equal());
  EXPECT_EQ(replay.contributions_size(), 2);
}

TEST(QuarantineTest, ReleaseBringsAContributionBack) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-a"], 1);
  const std::string contribution = ContributionId(*f, id, "bank-a");
  ASSERT_OK(f->engine().QuarantineContribution("op", contribution, "odd"));
  EXPECT_EQ(RoundOf(*f, id).contributions(), 0u);
  EXPECT_THAT(Member(RoundOf(*f, id), "bank-a").reason(), HasSubstr("odd"));
  ASSERT_OK(f->engine().ReleaseContribution("op", contribution, "checked"));
  EXPECT_EQ(RoundOf(*f, id).contributions(), 1u);
  Contribute(f["bank-b"], 3);
  ASSERT_OK(f["bank-c"].Decline(WaitForTask(f["bank-c"]), "busy"));
  EXPECT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 2.0f);
}

// An operator's mistake can be undone.
TEST(QuarantineTest, ReleaseAfterTheFactClearsTheVersions) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  RunRound(f);
  RunRound(f);
  const std::string first = ContributionId(*f, 1, "bank-c");
  const std::string second = ContributionId(*f, 2, "bank-a");
  ASSERT_OK(f->engine().QuarantineContribution("op", first, "mislabelled"));
  ASSERT_OK(f->engine().QuarantineContribution("op", second, "odd"));
  ASSERT_OK(f->engine().ReleaseContribution("op", first, "checked"));
  EXPECT_FALSE(VersionOf(*f, 1).tainted());
  EXPECT_EQ(VersionOf(*f, 1).reason(), "");
  EXPECT_TRUE(VersionOf(*f, 2).tainted());  // the other one is in it
  ASSERT_OK(f->engine().ReleaseContribution("op", second, "checked"));
  EXPECT_FALSE(VersionOf(*f, 2).tainted());
  EXPECT_THAT(Contributors(*f, 2), ElementsAre("bank-a", "bank-b", "bank-c"));
  // One that never counted stays out.
  const uint64_t id = f->StartRound();
  Contribute(f["bank-c"], 6);
  const std::string third = ContributionId(*f, id, "bank-c");
  ASSERT_OK(f->engine().QuarantineContribution("op", third, "odd"));
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 1);
  ASSERT_EQ(f->WaitForEnd(id).phase(), "promoted");
  EXPECT_THAT(f->engine().ReleaseContribution("op", third, "too late"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("quarantined before the fold")));
}

TEST(SuspensionTest, ItStopsNewWorkAndLetsAnUploadFinish) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  const uint64_t id = f->StartRound();
  const client::TrainTask waiting = WaitForTask(f["bank-c"]);
  HeldSubmit held(f["bank-b"], WaitForTask(f["bank-b"]), 3, 100);
  ASSERT_OK(f->SetState("bank-b", Change::SUSPEND, "data under review"));
  ASSERT_OK(f->SetState("bank-c", Change::SUSPEND, "data under review"));
  ExpectReceipt(held.Finish());
  EXPECT_THAT(ExpectRefusal(SubmitConstant(f["bank-c"], waiting, 9, 100),
                            client::RefusalCode::kSuspended),
              HasSubstr("suspended"));
  Contribute(f["bank-a"], 1);
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(Member(end, "bank-c").state(), "removed");
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 2.0f);
  // Left out of the next round, and told why; back in after `resume`.
  EXPECT_THAT(TryStartRound(*f), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("quorum is 2, only 1")));
  const auto work = f["bank-b"].WaitForWork(absl::ZeroDuration());
  ASSERT_THAT(work, IsOk());
  EXPECT_THAT(std::get<client::Idle>(*work).reason, HasSubstr("suspended"));
  ASSERT_OK(f->SetState("bank-b", Change::RESUME, ""));
  const uint64_t next = f->StartRound();
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 1);
  EXPECT_EQ(f->WaitForEnd(next).phase(), "promoted");
}

TEST(RevocationTest, ItTakesBackWhatIsNotYetAveraged) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c", "bank-d"});
  const uint64_t id = f->StartRound();
  Contribute(f["bank-c"], 100);
  HeldSubmit held(f["bank-d"], WaitForTask(f["bank-d"]), 100, 100);
  ASSERT_OK(f->SetState("bank-c", Change::REVOKE, "key lost"));
  ASSERT_OK(f->SetState("bank-d", Change::REVOKE, "key lost"));
  EXPECT_EQ(Member(RoundOf(*f, id), "bank-c").state(), "removed");
  EXPECT_THAT(held.Finish().status(),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(f["bank-c"].WaitForWork(absl::Seconds(30)).status(),
              StatusIs(absl::StatusCode::kUnauthenticated));
  Contribute(f["bank-a"], 1);
  Contribute(f["bank-b"], 2);
  const v1::RoundInfo end = f->WaitForEnd(id);
  EXPECT_EQ(end.phase(), "promoted") << end.reason();
  EXPECT_EQ(f->CurrentParameters(f["bank-a"]).front(), 1.5f);
  EXPECT_THAT(Contributors(*f, 1), ElementsAre("bank-a", "bank-b"));
  EXPECT_THAT(
      f->SetState("bank-c", Change::RESUME, ""),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("final")));
}

// What it gave to earlier versions stays in them.
TEST(RevocationTest, EarlierVersionsKeepTheirContributions) {
  TimedFederation f({}, {"bank-a", "bank-b", "bank-c"});
  RunRound(f);
  ASSERT_OK(f->SetState("bank-c", Change::REVOKE, "left"));
  EXPECT_FALSE(VersionOf(*f, 1).tainted());
  EXPECT_TRUE(Replay(*f, 1).equal());
  EXPECT_EQ(f->engine().current_version()->number, 1);
}

TEST(RevocationTest, AWaitingClientHearsItAtOnce) {
  TimedFederation f({}, {"bank-a", "bank-b"});
  absl::Status heard;
  std::thread waiting([&] {
    // A long poll, which time does not end here.
    heard = f["bank-b"].WaitForWork(absl::Minutes(5)).status();
  });
  while (f->engine().board().size() == 0) std::this_thread::yield();
  ASSERT_OK(f->SetState("bank-b", Change::REVOKE, "key lost"));
  waiting.join();
  EXPECT_THAT(heard, StatusIs(absl::StatusCode::kUnauthenticated));
}

}  // namespace
}  // namespace consilium

#include "tests/crash/round_play.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/round_json.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr absl::Duration kBeyondRetention = absl::Hours(24 * 15);

RoundPhase PhaseOf(Ending ending) {
  switch (ending) {
    case Ending::kPromoted:
      return RoundPhase::kPromoted;
    case Ending::kRejected:
      return RoundPhase::kRejected;
    case Ending::kFailed:
      return RoundPhase::kFailed;
    case Ending::kCancelled:
      return RoundPhase::kCancelled;
  }
  return RoundPhase::kFailed;
}

absl::StatusOr<std::optional<RoundRow>> RowOf(EngineWorld& world,
                                              int64_t round) {
  std::optional<RoundRow> row;
  CONSILIUM_RETURN_IF_ERROR(
      world.store().history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, FindRound(tx, round));
        return absl::OkStatus();
      }));
  return row;
}

absl::StatusOr<RoundState> StateOf(EngineWorld& world, int64_t round) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<RoundRow> row,
                             RowOf(world, round));
  if (!row.has_value()) return absl::NotFoundError("the round is gone");
  return RoundStateFromJson(row->state_json);
}

}  // namespace

RoundPlay::RoundPlay(int64_t round, Ending ending)
    : round_(round),
      ending_(ending),
      a_({.name = "bank-a",
          .delta = 0.125f,
          .examples = 300,
          .groups = {"shared", "expert/0/0"}}),
      b_({.name = "bank-b",
          .delta = -1.0f / 3.0f,
          .examples = 77,
          .groups = {"shared", "expert/0/1"},
          .send_ahead = true}) {}

absl::Status RoundPlay::Run(EngineWorld& world) {
  if (!world.up()) CONSILIUM_RETURN_IF_ERROR(world.Boot());
  world.engine().Poll();
  CONSILIUM_RETURN_IF_ERROR(Start(world));
  hook_();
  CONSILIUM_RETURN_IF_ERROR(Collect(world));
  hook_();
  CONSILIUM_RETURN_IF_ERROR(AwaitFold(world));
  if (folded_at_ == 0) folded_at_ = world.fs().ops();
  hook_();
  CONSILIUM_RETURN_IF_ERROR(Evaluate(world));
  CONSILIUM_RETURN_IF_ERROR(CheckEnd(world));
  hook_();
  CONSILIUM_RETURN_IF_ERROR(Retain(world));
  // A retention that fails is only logged.
  return world.fs().crashed() ? absl::UnavailableError("the power is off")
                              : absl::OkStatus();
}

absl::Status RoundPlay::Start(EngineWorld& world) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<RoundRow> row,
                             RowOf(world, round_));
  if (row.has_value()) {
    told_started_ = true;  // an operator who got no answer looks
    return absl::OkStatus();
  }
  EXPECT_FALSE(told_started_) << "the round that was started is gone";
  CONSILIUM_ASSIGN_OR_RETURN(
      const int64_t id,
      world.engine().StartRound("operator", {}, {}, "manual", ""));
  EXPECT_EQ(id, round_);
  told_started_ = true;
  return absl::OkStatus();
}

absl::Status RoundPlay::Restart(EngineWorld& world) {
  if (restarted_) return absl::OkStatus();
  restarted_ = true;
  world.Down();
  CONSILIUM_RETURN_IF_ERROR(world.Boot());
  world.engine().Poll();
  return absl::OkStatus();
}

absl::Status RoundPlay::Collect(EngineWorld& world) {
  CONSILIUM_RETURN_IF_ERROR(a_.Contribute(world, round_));
  if (contributed_at_ == 0) contributed_at_ = world.fs().ops();
  hook_();
  if (ending_ == Ending::kFailed && !told_declined_) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::optional<Refused> refused,
        world.engine().Decline(world.CallerFor(b_.name()), round_, "holiday",
                               /*evaluation=*/false));
    // Refused: it was told before, and the round ended of it.
    (void)refused;
    told_declined_ = true;
  } else if (ending_ == Ending::kCancelled && !told_cancelled_) {
    CONSILIUM_ASSIGN_OR_RETURN(const RoundState state, StateOf(world, round_));
    if (!IsTerminal(state.phase)) {
      CONSILIUM_RETURN_IF_ERROR(b_.BeginUpload(world, round_));
      CONSILIUM_RETURN_IF_ERROR(Restart(world));
      CONSILIUM_RETURN_IF_ERROR(
          world.engine().CancelRound("operator", round_, "wrong data"));
    }
    told_cancelled_ = true;
  } else if (ending_ == Ending::kPromoted || ending_ == Ending::kRejected) {
    CONSILIUM_RETURN_IF_ERROR(Restart(world));
    CONSILIUM_RETURN_IF_ERROR(b_.Contribute(world, round_));
  }
  return absl::OkStatus();
}

absl::Status RoundPlay::AwaitFold(EngineWorld& world) {
  for (;;) {
    const uint64_t rings = world.bell().rings();
    const auto live = world.engine().LiveRoundOf(round_);
    if (!live.has_value() || live->state.phase != RoundPhase::kAggregating) {
      return absl::OkStatus();
    }
    if (world.fs().crashed()) return absl::UnavailableError("power is off");
    if (!live->trouble.empty() || live->wait.reason == WaitReason::kFoldRetry) {
      return absl::UnavailableError(world.LastError());
    }
    world.bell().WaitBeyond(rings);
  }
}

absl::Status RoundPlay::Evaluate(EngineWorld& world) {
  const bool decline = ending_ == Ending::kRejected;
  CONSILIUM_RETURN_IF_ERROR(a_.Evaluate(world, round_, decline));
  return b_.Evaluate(world, round_, decline);
}

absl::Status RoundPlay::CheckEnd(EngineWorld& world) {
  CONSILIUM_ASSIGN_OR_RETURN(const RoundState state, StateOf(world, round_));
  if (state.phase != PhaseOf(ending_)) {
    EXPECT_FALSE(told_ended_) << "the end of the round was forgotten";
    return absl::InternalError(Cat("round ", round_, " is ",
                                   RoundPhaseName(state.phase), ": ",
                                   state.reason));
  }
  told_ended_ = true;
  if (a_.has_receipt() && ending_ == Ending::kPromoted) {
    CONSILIUM_RETURN_IF_ERROR(a_.AskAgain(world));
    CONSILIUM_RETURN_IF_ERROR(b_.AskAgain(world));
  }
  return absl::OkStatus();
}

absl::Status RoundPlay::Retain(EngineWorld& world) {
  world.clock().Advance(kBeyondRetention);
  world.engine().Poll();
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<RoundRow> row,
                             RowOf(world, round_));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> spools,
                             world.store().spools().List());
  CONSILIUM_ASSIGN_OR_RETURN(const CheckReport report,
                             CheckStore(world.store(), {}));
  // A retention that met an error is finished by the next one.
  if (row->round_key_state != RoundKeyState::kDestroyed || !spools.empty() ||
      !report.clean()) {
    return absl::UnavailableError(world.LastError());
  }
  EXPECT_FALSE(world.store().round_keys().Exists(round_, 1));
  return absl::OkStatus();
}

void RoundPlay::ExpectContributions(ReadTx& tx) {
  std::map<std::string, ContributionState> states;
  ASSERT_OK_AND_ASSIGN(const auto rows,
                       ListContributions(tx, {.round = round_}));
  for (const ContributionRow& row : rows) {
    ASSERT_OK_AND_ASSIGN(const InstitutionRow institution,
                         GetInstitution(tx, row.institution_id));
    EXPECT_TRUE(states.emplace(institution.name, row.state).second)
        << institution.name << " has two contributions";
    if (institution.name == a_.name() && a_.has_receipt()) {
      EXPECT_FALSE(row.receipt.empty());
    }
  }
  std::map<std::string, ContributionState> wanted;
  switch (ending_) {
    case Ending::kPromoted:
    case Ending::kRejected:
      wanted = {{"bank-a", ContributionState::kFolded},
                {"bank-b", ContributionState::kFolded}};
      break;
    case Ending::kFailed:
      wanted = {{"bank-a", ContributionState::kExpired}};
      break;
    case Ending::kCancelled:
      wanted = {{"bank-a", ContributionState::kExpired},
                {"bank-b", ContributionState::kExpired}};
      break;
  }
  EXPECT_EQ(states, wanted);
}

void RoundPlay::ExpectRows(ReadTx& tx,
                           const std::optional<Sha256Digest>& digest) {
  ASSERT_OK_AND_ASSIGN(const RoundRow row, GetRound(tx, round_));
  EXPECT_EQ(row.state, RoundPhaseName(PhaseOf(ending_)));
  ExpectContributions(tx);

  const bool folded =
      ending_ == Ending::kPromoted || ending_ == Ending::kRejected;
  EXPECT_EQ(row.candidate_version.has_value(), folded);
  ASSERT_OK_AND_ASSIGN(const auto versions, ListVersions(tx));
  int made = 0;
  for (const VersionRow& version : versions) {
    if (version.round != round_) continue;
    ++made;
    EXPECT_EQ(version.digest, digest);
    EXPECT_EQ(version.state, ending_ == Ending::kPromoted
                                 ? VersionState::kPromoted
                                 : VersionState::kRejected);
  }
  EXPECT_EQ(made, folded ? 1 : 0);
  ASSERT_OK_AND_ASSIGN(const FederationRow federation, GetFederation(tx));
  if (ending_ == Ending::kPromoted) {
    EXPECT_EQ(federation.current_version, row.candidate_version);
  } else {
    EXPECT_EQ(federation.current_version, row.base_version);
  }

  // Each fact once, however often it was stored or told.
  std::set<std::string> seen;
  ASSERT_OK_AND_ASSIGN(const auto metrics, ListMetrics(tx, round_));
  for (const MetricRow& m : metrics) {
    EXPECT_TRUE(seen.insert(Cat(ToString(m.phase), " ", m.name, " ",
                                m.institution_id.value_or(0)))
                    .second)
        << "metric " << m.name << " is there twice";
  }
  // Training of each committed one; evaluation of both; three of the fold.
  EXPECT_EQ(metrics.size(), ending_ == Ending::kPromoted   ? 7u
                            : ending_ == Ending::kRejected ? 5u
                                                           : 1u);
  ASSERT_OK_AND_ASSIGN(const auto events,
                       ListRoundEvents(tx, round_, {.limit = 1000}));
  seen.clear();
  for (const RoundEventRow& event : events) {
    if (!event.institution.empty() || event.kind == "alert") continue;
    EXPECT_TRUE(seen.insert(event.kind).second)
        << "the round was " << event.kind << " twice";
  }
}

void RoundPlay::ExpectKept(EngineWorld& world,
                           const std::optional<Sha256Digest>& digest) {
  EXPECT_EQ(a_.trainings(), 1);
  EXPECT_EQ(b_.trainings(), ending_ == Ending::kFailed ? 0 : 1);
  EXPECT_OK(world.store().history().Read([&](ReadTx& tx) -> absl::Status {
    ExpectRows(tx, digest);
    return absl::OkStatus();
  }));
  world.ExpectClean();
}

std::optional<Sha256Digest> RoundPlay::CandidateOf(EngineWorld& world,
                                                   int64_t round) {
  std::optional<Sha256Digest> digest;
  EXPECT_OK(world.store().history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const RoundRow row, GetRound(tx, round));
    if (!row.candidate_version.has_value()) return absl::OkStatus();
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow version,
                               GetVersion(tx, *row.candidate_version));
    digest = version.digest;
    return absl::OkStatus();
  }));
  return digest;
}

}  // namespace consilium

#include "tests/crash/operator_kill.h"

#include <algorithm>

#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/support/step_walk.h"

namespace consilium {

using Stub = v1::AdminService::Stub;

void OperatorKillTest::SetUp() {
  CoordinatorKillTest::SetUp();
  if (HasFatalFailure()) return;
  values_[CurrentVersion().version().number()] = value_;
  NextRound();
}

void OperatorKillTest::NextRound() {
  StartRound(0);
  if (HasFailure()) return;
  EndsAs("promoted");
  values_[CurrentVersion().version().number()] = value_;
}

void OperatorKillTest::Finish(const std::string& phase, Folded folded) {
  b_->Release();
  EndsAs(phase, folded);
  if (phase == "promoted") {
    values_[CurrentVersion().version().number()] = value_;
  }
}

void OperatorKillTest::WalkThrough(const Act& act) {
  SCOPED_TRACE(act.audit);
  const auto run = [&](int64_t step) {
    if (act.prepare) act.prepare();
    if (HasFailure()) return false;
    const bool killed = Perform(act, step);
    SCOPED_TRACE(Cat("step ", step, ", killed before: ",
                     killed ? killed_at().back() : "nothing"));
    if (!HasFailure() && act.expect) act.expect();
    if (!HasFailure()) act.finish();
    return killed && !HasFailure();
  };
  // Twice, since one of them may write down who was seen, too.
  int64_t known = KillSwitch::kTraced;
  for (int i = 0; i < 2 && !HasFailure(); ++i) {
    run(0);
    ExpectSteps(steps_, act.steps);
    known = std::min(known, static_cast<int64_t>(steps_.size()));
  }
  if (HasFailure()) return;
  WalkToEach(known, act.steps, steps_, run);
}

bool OperatorKillTest::Perform(const Act& act, int64_t step) {
  const std::string before = Picture();
  const uint64_t audited = LastAudit();
  kill_->Arm(step);
  const absl::Status told = act.call();
  kill_->Disarm();
  steps_ = kill_->Trace();
  const bool killed = kill_->fired();
  if (killed) Revive();
  if (HasFailure()) return killed;
  SCOPED_TRACE(
      Cat("step ", step, ", killed before: ", killed ? kill_->label() : "-"));
  EXPECT_TRUE(killed || told.ok()) << told;
  // All of it, or nothing.
  const int happened = AuditedSince(audited, act.audit);
  EXPECT_EQ(happened, told.ok() ? 1 : std::min(happened, 1));
  const std::string found = Picture();
  EXPECT_EQ(found != before, act.changes && happened > 0)
      << "before:\n"
      << before << "found:\n"
      << found;
  ExpectWholeStore();
  // Who got no answer asks again.
  const absl::Status again = act.call();
  if (happened == 0 || act.repeats) {
    EXPECT_OK(again);
  } else {
    EXPECT_TRUE(again.ok() || absl::IsFailedPrecondition(again)) << again;
    EXPECT_TRUE(again.ok() || !again.message().empty());
    EXPECT_EQ(Picture(), found);
  }
  return killed;
}

std::string OperatorKillTest::Picture() {
  std::string text;
  v1::ListVersionsRequest list_versions;
  list_versions.set_limit(1000);
  v1::ListVersionsResponse versions;
  EXPECT_OK(Ask(&Stub::ListVersions, list_versions, &versions));
  for (const v1::VersionInfo& version : versions.versions()) {
    CatInto(text, "version ", version.version().number(), " ", version.state(),
            version.current() ? ", current" : "",
            version.tainted() ? ", tainted" : "");
    for (const std::string& name : version.contributors()) {
      CatInto(text, ", ", name);
    }
    CatInto(text, "\n");
  }
  for (uint64_t id = 1; id <= round_; ++id) {
    const absl::StatusOr<v1::RoundInfo> round = Look(id);
    EXPECT_THAT(round, IsOk());
    if (!round.ok()) break;
    CatInto(text, "round ", id, " ", round->phase(), ", until ",
            round->deadline(), "\n");
    v1::ListContributionsRequest request;
    request.set_round(id);
    v1::ListContributionsResponse contributions;
    EXPECT_OK(Ask(&Stub::ListContributions, request, &contributions));
    for (const v1::ContributionInfo& c : contributions.contributions()) {
      CatInto(text, "  ", c.institution(), " ", c.state(), "\n");
    }
  }
  v1::ListInstitutionsResponse institutions;
  EXPECT_OK(Ask(&Stub::ListInstitutions, v1::ListInstitutionsRequest(),
                &institutions));
  for (const v1::InstitutionInfo& i : institutions.institutions()) {
    CatInto(text, i.name(), " ", i.state(), "\n");
  }
  return text;
}

uint64_t OperatorKillTest::LastAudit() {
  v1::TailAuditRequest request;
  request.set_limit(1);
  v1::TailAuditResponse response;
  EXPECT_OK(Ask(&Stub::TailAudit, request, &response));
  return response.entries_size() == 1 ? response.entries(0).seq() : 0;
}

int OperatorKillTest::AuditedSince(uint64_t sequence,
                                   const std::string& action) {
  v1::TailAuditRequest request;
  request.set_after(sequence);
  request.set_limit(1000);
  v1::TailAuditResponse response;
  EXPECT_OK(Ask(&Stub::TailAudit, request, &response));
  return static_cast<int>(std::count_if(
      response.entries().begin(), response.entries().end(),
      [&](const v1::AuditEntry& entry) { return entry.action() == action; }));
}

void OperatorKillTest::ExpectWholeStore() {
  v1::CheckDatabaseRequest request;
  request.set_deep(true);
  v1::CheckDatabaseResponse response;
  EXPECT_OK(Ask(&Stub::CheckDatabase, request, &response));
  EXPECT_TRUE(response.ok());
  for (const std::string& finding : response.findings()) {
    ADD_FAILURE() << finding;
  }
  v1::VerifyAuditResponse audit;
  EXPECT_OK(Ask(&Stub::VerifyAudit, v1::VerifyAuditRequest(), &audit));
  EXPECT_TRUE(audit.ok()) << audit.finding();
}

v1::ContributionInfo OperatorKillTest::ContributionOf(
    const std::string& institution) {
  v1::ListContributionsRequest request;
  request.set_round(round_);
  request.set_institution(institution);
  v1::ListContributionsResponse response;
  EXPECT_OK(Ask(&Stub::ListContributions, request, &response));
  EXPECT_EQ(response.contributions_size(), 1);
  return response.contributions_size() == 1 ? response.contributions(0)
                                            : v1::ContributionInfo();
}

v1::VersionInfo OperatorKillTest::Version(uint64_t number) {
  v1::GetVersionRequest request;
  request.set_number(number);
  v1::VersionInfo version;
  EXPECT_OK(Ask(&Stub::GetVersion, request, &version));
  return version;
}

v1::VersionInfo OperatorKillTest::CurrentVersion() {
  v1::FederationInfo federation;
  EXPECT_OK(Ask(&Stub::GetFederation, v1::GetFederationRequest(), &federation));
  return Version(federation.current().number());
}

absl::Status OperatorKillTest::Quarantine(const std::string& id) {
  v1::QuarantineContributionRequest request;
  request.set_id(id);
  request.set_reason("mislabelled");
  v1::ContributionInfo response;
  return Ask(&Stub::QuarantineContribution, request, &response);
}

absl::Status OperatorKillTest::Release(const std::string& id) {
  v1::ReleaseContributionRequest request;
  request.set_id(id);
  request.set_reason("looked at");
  v1::ContributionInfo response;
  return Ask(&Stub::ReleaseContribution, request, &response);
}

absl::Status OperatorKillTest::SetState(
    const std::string& institution,
    v1::SetInstitutionStateRequest::Change change) {
  v1::SetInstitutionStateRequest request;
  request.set_name(institution);
  request.set_change(change);
  v1::InstitutionInfo response;
  return Ask(&Stub::SetInstitutionState, request, &response);
}

absl::Status OperatorKillTest::Import(float value) {
  std::vector<float> memory;
  return federation_
      ->ImportVersion(layout_,
                      [&](const TensorSlot& slot)
                          -> absl::StatusOr<std::span<const float>> {
                        memory.assign(static_cast<size_t>(slot.elements),
                                      value);
                        return std::span<const float>(memory);
                      })
      .status();
}

}  // namespace consilium

#include "coordinator/store/round_state.h"

#include <optional>
#include <string>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/round/round_json.h"

namespace consilium {
namespace {

// The columns of a round are a projection of its state.
absl::Status StoreRound(WriteTx& tx, const RoundState& state) {
  CONSILIUM_ASSIGN_OR_RETURN(RoundRow row, GetRound(tx, state.id));
  row.attempt = state.attempt;
  row.state = std::string(RoundPhaseName(state.phase));
  row.reason = state.reason;
  row.candidate_version = state.candidate;
  row.opened_at = state.opened_at;
  row.deadline = state.deadline;
  row.closed_at = state.closed_at;
  row.eval_deadline = state.evaluation_deadline;
  row.finished_at = state.finished_at;
  row.state_json = RoundStateToJson(state);
  return UpdateRound(tx, row);
}

absl::Status StoreMembers(WriteTx& tx, const RoundState& before,
                          const RoundState& after) {
  for (const RoundMember& member : after.members) {
    const RoundMember* const old = FindMember(before, member.institution);
    if (old != nullptr && *old == member) continue;
    CohortMemberRow row;
    row.round = after.id;
    row.attempt = after.attempt;
    CONSILIUM_ASSIGN_OR_RETURN(const std::optional<InstitutionRow> institution,
                               FindInstitution(tx, member.institution));
    if (!institution.has_value()) {
      return absl::NotFoundError(
          Cat("institution ", Quoted(member.institution), " is not known"));
    }
    row.institution_id = institution->id;
    row.state = std::string(MemberStateName(member.state));
    row.reason = member.reason;
    row.progress = member.progress;
    row.progress_text = member.progress_text;
    row.updated_at = member.updated_at;
    CONSILIUM_RETURN_IF_ERROR(UpsertCohortMember(tx, row));
    if (old == nullptr || old->state != member.state) {
      CONSILIUM_RETURN_IF_ERROR(AppendRoundNote(
          tx, after, after.clock, std::string(MemberStateName(member.state)),
          member.institution, member.reason));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StoreRoundState(WriteTx& tx, const RoundState& before,
                             const RoundState& after) {
  CONSILIUM_RETURN_IF_ERROR(StoreRound(tx, after));
  CONSILIUM_RETURN_IF_ERROR(StoreMembers(tx, before, after));
  if (after.phase == before.phase) return absl::OkStatus();
  return AppendRoundNote(tx, after, after.clock,
                         std::string(RoundPhaseName(after.phase)), "",
                         after.reason);
}

absl::Status AppendRoundNote(WriteTx& tx, const RoundState& state,
                             absl::Time at, std::string kind,
                             std::string institution, std::string detail) {
  RoundEventRow row;
  row.round = state.id;
  row.attempt = state.attempt;
  row.at = at;
  row.kind = std::move(kind);
  row.institution = std::move(institution);
  row.detail = std::move(detail);
  return AppendRoundEvent(tx, row).status();
}

}  // namespace consilium

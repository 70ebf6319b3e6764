// What operators do. Each change and its audit entry are one transaction.

#include <string>
#include <utility>
#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/token.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/tables.h"
#include "nlohmann/json.hpp"

namespace consilium {
AuditEntry NewAudit(absl::Time at, std::string actor, std::string action,
                    std::string object, std::string detail) {
  AuditEntry entry;
  entry.at = at;
  entry.actor = std::move(actor);
  entry.action = std::move(action);
  entry.object = std::move(object);
  entry.detail = std::move(detail);
  return entry;
}

absl::Status Engine::Audit(const std::string& actor, const std::string& action,
                           const std::string& object,
                           const std::string& detail) {
  const absl::Time now = deps_.clock->Now();
  return deps_.store->history().Write([&](WriteTx& tx) {
    return AppendAudit(tx, NewAudit(now, actor, action, object, detail))
        .status();
  });
}

absl::StatusOr<Engine::Invitation> Engine::Invite(const std::string& actor,
                                                  const std::string& name,
                                                  PeerRole role,
                                                  absl::Duration lifetime,
                                                  const Settings& labels) {
  const bool staff = role != PeerRole::kInstitution;
  CONSILIUM_RETURN_IF_ERROR(ValidateName(PeerRoleName(role), name));
  if (lifetime == absl::ZeroDuration()) lifetime = options_.token_lifetime;
  const absl::Time now = deps_.clock->Now();
  const EnrollmentToken token = EnrollmentToken::Generate(*deps_.random);
  MutexLock lock(&mu_);  // so that no other state comes in between
  InstitutionRow row;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto found, FindInstitution(tx, name));
        if (found.has_value()) {
          row = *found;
          if (row.state == InstitutionState::kRevoked) {
            return absl::FailedPreconditionError(
                Cat(name,
                    " was revoked, which is final; invite it under "
                    "another name"));
          }
          // One name, one role: what it did stays attributable.
          if (row.role != PeerRoleName(role)) {
            if (row.state != InstitutionState::kInvited) {
              return absl::FailedPreconditionError(
                  Cat(name, " has enrolled as ", row.role, "; invite the ",
                      PeerRoleName(role), " under another name"));
            }
            row.role = std::string(PeerRoleName(role));
            CONSILIUM_RETURN_IF_ERROR(
                SetInstitutionRole(tx, row.id, row.role, now));
          }
          CONSILIUM_RETURN_IF_ERROR(DeleteUnusedTokens(tx, row.id).status());
        } else {
          row.name = name;
          row.role = std::string(PeerRoleName(role));
          row.label_json = nlohmann::json(labels).dump();
          row.created_at = now;
          row.updated_at = now;
          CONSILIUM_ASSIGN_OR_RETURN(row.id, InsertInstitution(tx, row));
        }
        TokenRow stored;
        stored.token_hash = token.Hash().Hex();
        stored.institution_id = row.id;
        stored.role = std::string(PeerRoleName(role));
        stored.expires_at = now + lifetime;
        stored.created_at = now;
        stored.created_by = actor;
        CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, stored));
        return AppendAudit(tx, NewAudit(now, actor,
                                        staff ? "operator.invite"
                                              : "institution.invite",
                                        name,
                                        Cat("role ", stored.role, ", until ",
                                            FormatTime(stored.expires_at))))
            .status();
      }));
  peers_.Put(row);
  return Invitation{token.ToText(), now + lifetime};
}

absl::Status Engine::RevokeStaff(const std::string& actor,
                                 const std::string& name,
                                 const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);  // as in Invite()
  InstitutionRow row;
  std::vector<CertificateRow> certificates;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto found, FindInstitution(tx, name));
        if (!found.has_value() ||
            found->role == PeerRoleName(PeerRole::kInstitution)) {
          return absl::NotFoundError(Cat("there is no operator or auditor ",
                                         Quoted(name),
                                         "; see `consilium operator list`"));
        }
        row = *found;
        if (row.role == PeerRoleName(PeerRole::kOperator) &&
            row.state == InstitutionState::kActive) {
          CONSILIUM_ASSIGN_OR_RETURN(
              const int64_t others, CountOtherOperators(tx, row.id, WallNow()));
          if (others == 0) {
            return absl::FailedPreconditionError(
                Cat(name,
                    " is the last operator, and nobody could undo it; "
                    "first `consilium operator invite` another one, who "
                    "then enrols"));
          }
        }
        CONSILIUM_RETURN_IF_ERROR(
            SetInstitutionState(tx, row.id, InstitutionState::kRevoked, now));
        row.state = InstitutionState::kRevoked;
        CONSILIUM_ASSIGN_OR_RETURN(certificates, ListCertificates(tx, row.id));
        CONSILIUM_RETURN_IF_ERROR(
            RevokeCertificatesOf(tx, row.id, now, reason).status());
        CONSILIUM_RETURN_IF_ERROR(DeleteUnusedTokens(tx, row.id).status());
        return AppendAudit(
                   tx, NewAudit(now, actor, "operator.revoke", name, reason))
            .status();
      }));
  peers_.Put(row);
  for (const CertificateRow& certificate : certificates) {
    peers_.RevokeSerial(certificate.serial);
  }
  deps_.listener->OnCertificateExpiry(CertificateKind::kMember, name,
                                      absl::InfinitePast());
  Log("info", 0, name,
      Cat("operator.revoke", reason.empty() ? "" : ": ", reason));
  // Whoever watches is looked at once more.
  TellWatchers(0);
  return absl::OkStatus();
}

absl::Status Engine::SetInstitution(const std::string& actor,
                                    const std::string& name,
                                    InstitutionState state,
                                    const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  std::string action = "institution.resume";
  if (state == InstitutionState::kSuspended) action = "institution.suspend";
  if (state == InstitutionState::kRevoked) action = "institution.revoke";
  const bool revoked = state == InstitutionState::kRevoked;
  const std::string why = reason.empty() ? action : reason;
  MutexLock lock(&mu_);
  InstitutionRow row;
  std::vector<CertificateRow> certificates;
  std::vector<Stepped> steps;
  const auto event = [&]() -> RoundEvent {
    if (state == InstitutionState::kActive) return MemberRestored{name};
    return MemberRemoved{
        name, revoked ? Removal::kRevoked : Removal::kSuspended, why};
  };
  const auto end_upload = [&](WriteTx& tx,
                              const Transition& done) -> absl::Status {
    if (!revoked) return absl::OkStatus();
    // A committed one follows from the round's own rules.
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::optional<ContributionRow> upload,
        FindLiveContribution(tx, done.state.id, done.state.attempt, row.id));
    if (!upload.has_value() || upload->state != ContributionState::kUploading) {
      return absl::OkStatus();
    }
    return SetContributionState(tx, upload->id, ContributionState::kQuarantined,
                                Cat("revoked: ", why));
  };
  std::vector<LiveRound*> rounds;
  for (const auto& [id, live] : rounds_) {
    if (FindMember(live->state, name) != nullptr &&
        !IsTerminal(live->state.phase)) {
      rounds.push_back(live.get());
    }
  }
  // One transaction: no round counts on an institution that is out.
  CONSILIUM_RETURN_IF_ERROR(deps_.store->history().Write([&](WriteTx& tx)
                                                             -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto found, FindInstitution(tx, name));
    if (!found.has_value()) {
      return absl::NotFoundError(Cat("there is no institution ", Quoted(name),
                                     "; see `consilium institution list`"));
    }
    row = *found;
    if (row.role != PeerRoleName(PeerRole::kInstitution)) {
      return absl::FailedPreconditionError(
          Cat(name, " is an ", row.role, "; see `consilium operator revoke`"));
    }
    if (row.state == InstitutionState::kInvited && !revoked) {
      return absl::FailedPreconditionError(
          Cat(name, " is invited and has not enrolled yet"));
    }
    CONSILIUM_RETURN_IF_ERROR(SetInstitutionState(tx, row.id, state, now));
    row.state = state;
    if (revoked) {
      CONSILIUM_ASSIGN_OR_RETURN(certificates, ListCertificates(tx, row.id));
      CONSILIUM_RETURN_IF_ERROR(
          RevokeCertificatesOf(tx, row.id, now, reason).status());
      CONSILIUM_RETURN_IF_ERROR(DeleteUnusedTokens(tx, row.id).status());
    }
    steps.clear();
    for (LiveRound* const live : rounds) {
      CONSILIUM_ASSIGN_OR_RETURN(
          Transition t, StoreStep(tx, live->state, event(), now, end_upload));
      steps.push_back({live, std::move(t)});
    }
    return AppendAudit(tx, NewAudit(now, actor, action, name, reason)).status();
  }));
  peers_.Put(row);
  for (const CertificateRow& certificate : certificates) {
    peers_.RevokeSerial(certificate.serial);
  }
  for (const LiveRound* const live : rounds) {
    if (!revoked) continue;
    hub_.CloseUploads(
        live->state.id, {name},
        Refused{RefusalCode::kSuspended,
                Cat(name, " was revoked", reason.empty() ? "" : ": ", reason)});
  }
  CarryOut(steps);
  if (revoked) {
    board_.WakeAll(name);
    deps_.listener->OnCertificateExpiry(CertificateKind::kMember, name,
                                        absl::InfinitePast());
  }
  Log("info", 0, name, Cat(action, reason.empty() ? "" : ": ", reason));
  AfterChange(0);
  return absl::OkStatus();
}

absl::StatusOr<Settings> Engine::Policy() {
  Settings out;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        CONSILIUM_ASSIGN_OR_RETURN(
            const FederationPolicy policy,
            FederationPolicy::FromJson(row.policy_json,
                                       options_.round_defaults));
        out = policy.ToSettings();
        return absl::OkStatus();
      }));
  return out;
}

absl::Status Engine::SetPolicy(const std::string& actor,
                               const Settings& changes,
                               const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  return deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(FederationRow row, GetFederation(tx));
    CONSILIUM_ASSIGN_OR_RETURN(
        FederationPolicy policy,
        FederationPolicy::FromJson(row.policy_json, options_.round_defaults));
    CONSILIUM_RETURN_IF_ERROR(policy.Set(changes));
    row.policy_json = policy.ToJson();
    CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, row));
    std::string detail = reason;
    for (const auto& [key, value] : changes) {
      CatInto(detail, detail.empty() ? "" : "; ", key, "=", value);
    }
    return AppendAudit(tx, NewAudit(now, actor, "federation.set",
                                    options_.federation, detail))
        .status();
  });
}

absl::Status Engine::ExtendRound(const std::string& actor, int64_t round,
                                 absl::Duration by, const std::string& reason) {
  MutexLock lock(&mu_);
  CONSILIUM_ASSIGN_OR_RETURN(LiveRound* const live, GetLive(round));
  const std::optional<absl::Time> deadline = WaitsUntil(live->state);
  if (!deadline.has_value()) {
    return absl::FailedPreconditionError(Cat("round ", round, " is ",
                                             RoundPhaseName(live->state.phase),
                                             " and has no deadline to extend"));
  }
  const absl::Time until = *deadline + by;
  const absl::Time now = deps_.clock->Now();
  const std::string why = reason.empty() ? "" : Cat(": ", reason);
  const auto record = [&](WriteTx& tx, const Transition& t) -> absl::Status {
    RoundEventRow event;
    event.round = round;
    event.attempt = t.state.attempt;
    event.at = t.state.clock;
    event.kind = "extended";
    event.detail = Cat("until ", FormatTime(until), why);
    CONSILIUM_RETURN_IF_ERROR(AppendRoundEvent(tx, event).status());
    return AppendAudit(
               tx, NewAudit(now, actor, "round.extend", Cat("round ", round),
                            Cat("by ", FormatDuration(by), why)))
        .status();
  };
  return Step(
             *live,
             [&](WriteTx&) -> absl::StatusOr<RoundEvent> {
               return Extend{until};
             },
             record)
      .status();
}

absl::Status Engine::CloseRound(const std::string& actor, int64_t round,
                                const std::string& reason) {
  MutexLock lock(&mu_);
  CONSILIUM_ASSIGN_OR_RETURN(LiveRound* const live, GetLive(round));
  return StepAs(*live, CloseNow{}, actor, "round.close", reason).status();
}

absl::Status Engine::CancelRound(const std::string& actor, int64_t round,
                                 const std::string& reason) {
  MutexLock lock(&mu_);
  CONSILIUM_ASSIGN_OR_RETURN(LiveRound* const live, GetLive(round));
  return StepAs(*live,
                consilium::Cancel{reason.empty() ? "cancelled by the operator"
                                                 : reason},
                actor, "round.cancel", reason)
      .status();
}

std::optional<LiveRoundView> Engine::LiveRoundOf(int64_t round) {
  LiveRoundView view;
  {
    MutexLock lock(&mu_);
    const LiveRound* const live = FindLive(round);
    if (live == nullptr) return std::nullopt;
    view.state = live->state;
    view.trouble = live->trouble;
  }
  view.wait = WhyWaiting(view.state, deps_.clock->Now());
  if (!view.trouble.empty()) {
    view.wait.sentence = Cat(view.trouble, "; trying again every ",
                             FormatDuration(options_.failure_pause.get()), "; ",
                             view.wait.sentence);
  }
  view.uploads = hub_.ProgressOf(round);
  return view;
}

std::vector<int64_t> Engine::LiveRounds() {
  std::vector<int64_t> ids;
  MutexLock lock(&mu_);
  for (const auto& [id, live] : rounds_) {
    if (!IsTerminal(live->state.phase)) ids.push_back(id);
  }
  return ids;
}

}  // namespace consilium

#include "coordinator/rpc/admin_queries.h"

#include <algorithm>
#include <map>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/group_report.h"
#include "coordinator/round/round_json.h"
#include "coordinator/rpc/own_certificates.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/tables.h"
#include "nlohmann/json.hpp"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr uint32_t kDefaultPage = 50;
constexpr uint32_t kMaxPage = 10000;

int64_t PageSize(uint32_t limit) {
  return limit == 0 ? kDefaultPage : std::min(limit, kMaxPage);
}

void SetVersion(const VersionRow& row, v1::VersionRef* out) {
  out->set_number(static_cast<uint64_t>(row.number));
  out->set_digest(BytesOf(row.digest));
  out->set_bytes(static_cast<uint64_t>(row.blob_bytes));
}

int64_t Micros(const std::optional<absl::Time>& time) {
  return time.has_value() ? MicrosOf(*time) : 0;
}

void AddMetrics(const std::vector<WeightedMetric>& metrics,
                std::string_view prefix,
                google::protobuf::RepeatedPtrField<v1::NamedValue>* out) {
  for (const WeightedMetric& metric : metrics) {
    v1::NamedValue& value = *out->Add();
    value.set_name(Cat(prefix, metric.name));
    value.set_value(metric.mean);
  }
}

absl::Status AddGroups(
    const std::string& json,
    google::protobuf::RepeatedPtrField<v1::GroupReport>* out) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<GroupOutcome> groups,
                             GroupReportFromJson(json));
  for (const GroupOutcome& group : groups) {
    v1::GroupReport& report = *out->Add();
    report.set_group(group.group);
    report.set_contributors(static_cast<uint32_t>(group.contributors));
    report.set_weight(group.weight);
    report.set_held(group.held);
  }
  return absl::OkStatus();
}

void AddLabels(const std::string& json,
               google::protobuf::Map<std::string, std::string>* out) {
  const auto labels = nlohmann::json::parse(json, nullptr, false);
  if (!labels.is_object()) return;
  for (const auto& [key, value] : labels.items()) {
    if (value.is_string()) (*out)[key] = value.get<std::string>();
  }
}

}  // namespace

absl::StatusOr<std::string> AdminQueries::NameOf(ReadTx& tx,
                                                 int64_t institution_id) {
  CONSILIUM_ASSIGN_OR_RETURN(const InstitutionRow row,
                             GetInstitution(tx, institution_id));
  return row.name;
}

v1::CertificateInfo AdminQueries::CertificateOf(
    const CertificateRow& row) const {
  v1::CertificateInfo out;
  out.set_serial(row.serial);
  out.set_subject(row.subject_uri);
  out.set_role(row.role);
  out.set_not_before(MicrosOf(row.not_before));
  out.set_not_after(MicrosOf(row.not_after));
  out.set_fingerprint(row.fingerprint);
  const absl::Time due =
      RenewFrom(row.not_before, row.not_after, renew_before_);
  out.set_state(row.revoked_at.has_value() ? "revoked"
                : row.not_after <= now_    ? "expired"
                : due <= now_              ? "expiring"
                                           : "valid");
  return out;
}

absl::Status AdminQueries::Federation(v1::FederationInfo* out) {
  Sha256Digest layout_digest;
  int64_t layout_bytes = 0;
  const absl::Status read =
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        out->set_name(row.name);
        if (row.layout_bytes > 0) {
          out->set_layout_digest(BytesOf(row.layout_digest));
        }
        layout_digest = row.layout_digest;
        layout_bytes = row.layout_bytes;
        out->set_created_at(MicrosOf(row.created_at));
        if (row.current_version.has_value()) {
          CONSILIUM_ASSIGN_OR_RETURN(const VersionRow version,
                                     GetVersion(tx, *row.current_version));
          SetVersion(version, out->mutable_current());
        }
        if (engine_ == nullptr) {
          CONSILIUM_ASSIGN_OR_RETURN(
              const FederationPolicy policy,
              FederationPolicy::FromJson(row.policy_json, RoundConfig()));
          const Settings settings = policy.ToSettings();
          out->mutable_policy()->insert(settings.begin(), settings.end());
        }
        return absl::OkStatus();
      });
  CONSILIUM_RETURN_IF_ERROR(read);
  const auto describe = [out](const Layout& layout) {
    out->set_layout_slots(layout.slots().size());
    out->set_layout_groups(layout.groups().size());
    out->set_layout_elements(static_cast<uint64_t>(layout.total_elements()));
  };
  if (engine_ != nullptr) {
    const std::shared_ptr<const FederationLayout> layout = engine_->layout();
    if (layout != nullptr) describe(layout->layout);
  } else if (layout_bytes > 0) {
    CONSILIUM_ASSIGN_OR_RETURN(const Layout layout,
                               StoredLayout(layout_digest, layout_bytes));
    describe(layout);
  }
  if (engine_ != nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(const Settings policy, engine_->Policy());
    out->mutable_policy()->insert(policy.begin(), policy.end());
    out->set_signing_public_key(engine_->signing_key().verify_key().ToString());
    out->set_sealing(engine_->options().sealing);
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::FillInstitution(ReadTx& tx,
                                           const InstitutionRow& row,
                                           bool certificates,
                                           v1::InstitutionInfo* out) {
  out->set_name(row.name);
  out->set_state(std::string(ToString(row.state)));
  out->set_role(row.role);
  AddLabels(row.label_json, out->mutable_labels());
  out->set_created_at(MicrosOf(row.created_at));
  out->set_last_seen_at(LastSeen(row));
  if (engine_ != nullptr) {
    if (const auto peer = engine_->peers().Find(row.name); peer != nullptr) {
      out->set_connected(engine_->Connected(*peer));
      out->set_software(peer->software());
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListCertificates(tx, row.id));
  for (const CertificateRow& certificate : rows) {
    if (!certificate.revoked_at.has_value()) {
      out->set_certificate_not_after(std::max(out->certificate_not_after(),
                                              MicrosOf(certificate.not_after)));
    }
    if (certificates) *out->add_certificates() = CertificateOf(certificate);
  }
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t counted,
                             CountCountedContributions(tx, row.id));
  out->set_contributions(static_cast<uint64_t>(counted));
  return absl::OkStatus();
}

absl::Status AdminQueries::Institutions(v1::ListInstitutionsResponse* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListInstitutions(tx));
    for (const InstitutionRow& row : rows) {
      if (row.role == PeerRoleName(PeerRole::kOperator)) continue;
      CONSILIUM_RETURN_IF_ERROR(
          FillInstitution(tx, row, false, out->add_institutions()));
    }
    return absl::OkStatus();
  });
}

int64_t AdminQueries::LastSeen(const InstitutionRow& row) const {
  if (engine_ != nullptr) {
    const auto peer = engine_->peers().Find(row.name);
    const auto seen = peer == nullptr ? std::nullopt : engine_->LastSeen(*peer);
    if (seen.has_value()) return MicrosOf(*seen);
  }
  return Micros(row.last_seen_at);
}

absl::Status AdminQueries::FillOperator(ReadTx& tx, const InstitutionRow& row,
                                        v1::OperatorInfo* out) {
  out->set_name(row.name);
  out->set_role(row.role);
  out->set_state(std::string(ToString(row.state)));
  out->set_created_at(MicrosOf(row.created_at));
  out->set_last_seen_at(LastSeen(row));
  CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListCertificates(tx, row.id));
  for (const CertificateRow& certificate : rows) {
    if (!certificate.revoked_at.has_value()) {
      out->set_certificate_not_after(std::max(out->certificate_not_after(),
                                              MicrosOf(certificate.not_after)));
    }
    *out->add_certificates() = CertificateOf(certificate);
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Operators(v1::ListOperatorsResponse* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListInstitutions(tx));
    for (const InstitutionRow& row : rows) {
      if (row.role == PeerRoleName(PeerRole::kInstitution)) continue;
      CONSILIUM_RETURN_IF_ERROR(FillOperator(tx, row, out->add_operators()));
    }
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::Operator(const std::string& name,
                                    v1::OperatorInfo* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, name));
    if (!row.has_value()) {
      return absl::NotFoundError(Cat("there is no operator ", Quoted(name),
                                     "; see `consilium operator list`"));
    }
    return FillOperator(tx, *row, out);
  });
}

absl::Status AdminQueries::Institution(const std::string& name,
                                       v1::InstitutionInfo* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, name));
    if (!row.has_value() || row->role == PeerRoleName(PeerRole::kOperator)) {
      return absl::NotFoundError(Cat("there is no institution ", Quoted(name),
                                     "; see `consilium institution list`"));
    }
    return FillInstitution(tx, *row, true, out);
  });
}

void AdminQueries::FillLive(v1::RoundInfo* out) {
  if (engine_ == nullptr) return;
  const auto live = engine_->LiveRoundOf(static_cast<int64_t>(out->round()));
  if (!live.has_value()) return;
  out->set_waiting_for(live->wait.sentence);
  for (v1::MemberInfo& member : *out->mutable_members()) {
    const RoundMember* const now =
        FindMember(live->state, member.institution());
    if (now != nullptr) {
      member.set_state(std::string(MemberStateName(now->state)));
      member.set_reason(now->reason);
      member.set_progress(now->progress.value_or(-1));
      member.set_progress_text(now->progress_text);
      member.set_updated_at(MicrosOf(now->updated_at));
      member.set_evaluated(now->evaluation == EvaluationState::kReported);
    }
    const auto upload = live->uploads.find(member.institution());
    if (upload != live->uploads.end()) {
      member.set_uploaded_bytes(
          static_cast<uint64_t>(upload->second.received_bytes));
      member.set_payload_bytes(
          static_cast<uint64_t>(upload->second.payload_bytes));
      if (upload->second.payload_bytes > 0) {
        member.set_progress(std::min(
            1.0, static_cast<double>(upload->second.received_bytes) /
                     static_cast<double>(upload->second.payload_bytes)));
      }
    }
    if (const auto peer = engine_->peers().Find(member.institution());
        peer != nullptr) {
      member.set_connected(engine_->Connected(*peer));
    }
  }
}

absl::Status AdminQueries::FillRound(ReadTx& tx, const RoundRow& row,
                                     bool members, v1::RoundInfo* out) {
  out->set_round(static_cast<uint64_t>(row.id));
  out->set_attempt(static_cast<uint32_t>(row.attempt));
  out->set_phase(row.state);
  out->set_reason(row.reason);
  out->set_terminal(row.finished_at.has_value());
  CONSILIUM_ASSIGN_OR_RETURN(const VersionRow base,
                             GetVersion(tx, row.base_version));
  SetVersion(base, out->mutable_base());
  if (row.candidate_version.has_value()) {
    CONSILIUM_ASSIGN_OR_RETURN(const VersionRow candidate,
                               GetVersion(tx, *row.candidate_version));
    SetVersion(candidate, out->mutable_candidate());
    if (members) {
      CONSILIUM_RETURN_IF_ERROR(
          AddGroups(candidate.report_json, out->mutable_groups()));
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(const RoundConfig config,
                             RoundConfigFromJson(row.config_json));
  Settings training;
  // A state that does not parse hides nothing else of the round.
  if (const auto state = RoundStateFromJson(row.state_json);
      members && state.ok()) {
    training = state->training;
    out->set_elements_per_frame(
        static_cast<uint32_t>(state->elements_per_frame));
  }
  const Settings settings = SettingsOf(config, training);
  out->mutable_settings()->insert(settings.begin(), settings.end());
  out->set_planned_at(MicrosOf(row.planned_at));
  out->set_opened_at(Micros(row.opened_at));
  out->set_deadline(Micros(row.deadline));
  out->set_closed_at(Micros(row.closed_at));
  out->set_eval_deadline(Micros(row.eval_deadline));
  out->set_finished_at(Micros(row.finished_at));
  out->set_trigger(row.trigger);
  out->set_sealed(row.round_key_state != RoundKeyState::kNone);
  out->set_round_key_state(std::string(ToString(row.round_key_state)));
  ContributionQuery query;
  query.round = row.id;
  query.attempt = row.attempt;
  CONSILIUM_ASSIGN_OR_RETURN(const auto contributions,
                             ListContributions(tx, query));
  for (const ContributionRow& c : contributions) {
    if (c.state != ContributionState::kCommitted &&
        c.state != ContributionState::kFolded) {
      continue;
    }
    out->set_contributions(out->contributions() + 1);
    out->set_contributed_bytes(out->contributed_bytes() +
                               static_cast<uint64_t>(c.payload_bytes));
  }
  for (const MetricPhase phase :
       {MetricPhase::kTrain, MetricPhase::kEvaluate, MetricPhase::kAggregate}) {
    const std::string prefix = Cat(ToString(phase), ".");
    if (phase == MetricPhase::kAggregate) {
      CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                                 ListMetrics(tx, row.id, phase));
      for (const MetricRow& metric : rows) {
        v1::NamedValue& value = *out->add_metrics();
        value.set_name(Cat(prefix, metric.name));
        value.set_value(metric.value);
      }
      continue;
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto means,
                               WeightedMeans(tx, row.id, row.attempt, phase));
    AddMetrics(means, prefix, out->mutable_metrics());
  }
  if (!members) return absl::OkStatus();
  CONSILIUM_ASSIGN_OR_RETURN(const auto cohort,
                             ListCohort(tx, row.id, row.attempt));
  for (const CohortMemberRow& m : cohort) {
    v1::MemberInfo& member = *out->add_members();
    CONSILIUM_ASSIGN_OR_RETURN(*member.mutable_institution(),
                               NameOf(tx, m.institution_id));
    member.set_state(m.state);
    member.set_reason(m.reason);
    member.set_progress(m.progress.value_or(-1));
    member.set_progress_text(m.progress_text);
    member.set_updated_at(MicrosOf(m.updated_at));
    for (const ContributionRow& c : contributions) {
      if (c.institution_id != m.institution_id) continue;
      member.set_payload_bytes(static_cast<uint64_t>(c.payload_bytes));
      if (c.committed_at.has_value()) {
        member.set_uploaded_bytes(static_cast<uint64_t>(c.payload_bytes));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Rounds(const v1::ListRoundsRequest& request,
                                  v1::ListRoundsResponse* out) {
  Page page;
  page.descending = true;
  page.limit = PageSize(request.limit());
  if (request.before() > 0) {
    page.after = static_cast<int64_t>(request.before());
  }
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListRounds(tx, page));
    for (const RoundRow& row : rows) {
      CONSILIUM_RETURN_IF_ERROR(FillRound(tx, row, false, out->add_rounds()));
    }
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::Round(uint64_t round, bool events,
                                 v1::RoundInfo* out) {
  CONSILIUM_RETURN_IF_ERROR(
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        std::optional<RoundRow> row;
        if (round == 0) {
          CONSILIUM_ASSIGN_OR_RETURN(row, FindLatestRound(tx));
        } else {
          CONSILIUM_ASSIGN_OR_RETURN(
              row, FindRound(tx, static_cast<int64_t>(round)));
        }
        if (!row.has_value()) {
          return absl::NotFoundError(
              round == 0 ? "there is no round yet; start one with `consilium "
                           "round start`"
                         : Cat("there is no round ", round,
                               "; see `consilium round list`"));
        }
        CONSILIUM_RETURN_IF_ERROR(FillRound(tx, *row, true, out));
        if (!events) return absl::OkStatus();
        Page page;
        page.limit = kMaxPage;
        page.descending = true;
        CONSILIUM_ASSIGN_OR_RETURN(auto rows,
                                   ListRoundEvents(tx, row->id, page));
        std::reverse(rows.begin(), rows.end());
        for (const RoundEventRow& e : rows) {
          v1::RoundEvent& event = *out->add_events();
          event.set_at(MicrosOf(e.at));
          event.set_kind(e.kind);
          event.set_institution(e.institution);
          event.set_detail(e.detail);
        }
        return absl::OkStatus();
      }));
  FillLive(out);
  return absl::OkStatus();
}

absl::Status AdminQueries::FillContribution(ReadTx& tx,
                                            const ContributionRow& row,
                                            v1::ContributionInfo* out) {
  out->set_id(row.id);
  out->set_round(static_cast<uint64_t>(row.round));
  out->set_attempt(static_cast<uint32_t>(row.attempt));
  CONSILIUM_ASSIGN_OR_RETURN(*out->mutable_institution(),
                             NameOf(tx, row.institution_id));
  out->set_state(std::string(ToString(row.state)));
  out->set_reason(row.reason);
  out->set_payload_digest(BytesOf(row.payload_digest));
  out->set_payload_bytes(static_cast<uint64_t>(row.payload_bytes));
  out->set_sealed(row.sealed);
  out->set_examples(static_cast<uint64_t>(row.examples.value_or(0)));
  out->set_norm(row.norm.value_or(0));
  out->set_begun_at(MicrosOf(row.begun_at));
  out->set_committed_at(Micros(row.committed_at));
  out->set_spool_present(!row.spool_path.empty());
  if (!row.receipt.empty()) {
    CONSILIUM_ASSIGN_OR_RETURN(const SignedReceipt receipt,
                               SignedReceipt::Decode(row.receipt));
    ToProto(receipt.statement, receipt.signature, out->mutable_receipt());
  }
  CONSILIUM_ASSIGN_OR_RETURN(const auto metrics,
                             ListMetrics(tx, row.round, MetricPhase::kTrain));
  for (const MetricRow& m : metrics) {
    if (m.institution_id != row.institution_id) continue;
    v1::NamedValue& value = *out->add_metrics();
    value.set_name(m.name);
    value.set_value(m.value);
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Contributions(
    const v1::ListContributionsRequest& request,
    v1::ListContributionsResponse* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    ContributionQuery query;
    query.limit = PageSize(request.limit());
    if (request.round() > 0) {
      query.round = static_cast<int64_t>(request.round());
    } else {
      CONSILIUM_ASSIGN_OR_RETURN(const auto latest, FindLatestRound(tx));
      if (!latest.has_value()) return absl::OkStatus();
      query.round = latest->id;
    }
    if (!request.institution().empty()) {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row,
                                 FindInstitution(tx, request.institution()));
      if (!row.has_value()) {
        return absl::NotFoundError(
            Cat("there is no institution ", Quoted(request.institution())));
      }
      query.institution_id = row->id;
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListContributions(tx, query));
    for (const ContributionRow& row : rows) {
      CONSILIUM_RETURN_IF_ERROR(
          FillContribution(tx, row, out->add_contributions()));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<std::string> AdminQueries::ContributionId(
    const std::string& prefix) {
  std::vector<std::string> found;
  CONSILIUM_RETURN_IF_ERROR(
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto exact,
                                   FindContribution(tx, prefix));
        if (exact.has_value()) {
          found.push_back(exact->id);
          return absl::OkStatus();
        }
        CONSILIUM_ASSIGN_OR_RETURN(found, FindContributionIds(tx, prefix, 2));
        return absl::OkStatus();
      }));
  if (found.size() == 1) return found.front();
  return absl::NotFoundError(Cat(found.empty() ? "no" : "more than one",
                                 " contribution begins with ", Quoted(prefix),
                                 "; see `consilium contribution list`"));
}

absl::Status AdminQueries::Contribution(const std::string& id,
                                        v1::ContributionInfo* out) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string whole, ContributionId(id));
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindContribution(tx, whole));
    if (!row.has_value()) return absl::NotFoundError(whole);
    return FillContribution(tx, *row, out);
  });
}

}  // namespace consilium

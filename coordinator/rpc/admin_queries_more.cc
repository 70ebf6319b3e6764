// Versions, schedule, certificates, checks, audit, status.

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/group_report.h"
#include "coordinator/metrics/process_stats.h"
#include "coordinator/rpc/admin_queries.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/tables.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr uint32_t kMaxPage = 10000;

// What somebody must do about the newest certificate of a member.
std::string MemberAdvice(const v1::CertificateInfo& c) {
  const auto peer = PeerName::Parse(c.subject());
  if (!peer.ok() || (c.state() != "expiring" && c.state() != "expired")) {
    return "";
  }
  const bool institution = peer->role == PeerRole::kInstitution;
  if (c.state() == "expiring") {
    return institution ? "renews itself while `consilium-client run` runs there"
                       : "its holder runs `consilium cert renew`";
  }
  return Cat("`consilium ", institution ? "institution" : "operator",
             " invite ", peer->name,
             peer->role == PeerRole::kAuditor ? " --role auditor" : "",
             "`, then enrol again");
}

}  // namespace

absl::Status AdminQueries::FillVersion(ReadTx& tx, const VersionRow& row,
                                       std::optional<int64_t> current,
                                       bool details, v1::VersionInfo* out) {
  v1::VersionRef& ref = *out->mutable_version();
  ref.set_number(static_cast<uint64_t>(row.number));
  ref.set_digest(BytesOf(row.digest));
  ref.set_bytes(static_cast<uint64_t>(row.blob_bytes));
  out->set_has_parent(row.parent.has_value());
  out->set_parent(static_cast<uint64_t>(row.parent.value_or(0)));
  out->set_round(static_cast<uint64_t>(row.round.value_or(0)));
  out->set_state(std::string(ToString(row.state)));
  out->set_current(current == row.number);
  out->set_tainted(row.tainted);
  out->set_reason(row.reason);
  out->set_created_at(MicrosOf(row.created_at));
  if (row.promoted_at) out->set_promoted_at(MicrosOf(*row.promoted_at));
  out->set_signature(row.signature);
  out->set_blob_present(!row.pruned_at.has_value());
  if (row.round.has_value()) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto means, WeightedMeans(tx, *row.round, row.attempt.value_or(1),
                                        MetricPhase::kEvaluate, row.number));
    for (const WeightedMetric& metric : means) {
      v1::NamedValue& value = *out->add_metrics();
      value.set_name(metric.name);
      value.set_value(metric.mean);
    }
  }
  if (!details) return absl::OkStatus();
  CONSILIUM_ASSIGN_OR_RETURN(const auto groups,
                             GroupReportFromJson(row.report_json));
  for (const GroupOutcome& group : groups) {
    v1::GroupReport& report = *out->add_groups();
    report.set_group(group.group);
    report.set_contributors(static_cast<uint32_t>(group.contributors));
    report.set_weight(group.weight);
    report.set_held(group.held);
  }
  CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                             VersionContributions(tx, row.number));
  for (const ContributionRow& c : rows) {
    CONSILIUM_ASSIGN_OR_RETURN(*out->add_contributors(),
                               NameOf(tx, c.institution_id));
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Versions(uint32_t limit,
                                    v1::ListVersionsResponse* out) {
  Page page;
  page.descending = true;
  page.limit = limit == 0 ? 50 : std::min(limit, kMaxPage);
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation,
                               GetFederation(tx));
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListVersions(tx, page));
    for (const VersionRow& row : rows) {
      CONSILIUM_RETURN_IF_ERROR(FillVersion(tx, row, federation.current_version,
                                            false, out->add_versions()));
    }
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::Version(uint64_t number, v1::VersionInfo* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation,
                               GetFederation(tx));
    CONSILIUM_ASSIGN_OR_RETURN(const auto row,
                               FindVersion(tx, static_cast<int64_t>(number)));
    if (!row.has_value()) {
      return absl::NotFoundError(Cat("there is no version ", number,
                                     "; see `consilium version list`"));
    }
    return FillVersion(tx, *row, federation.current_version, true, out);
  });
}

absl::StatusOr<Layout> AdminQueries::StoredLayout(const Sha256Digest& digest,
                                                  int64_t bytes) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             store_.blobs().Open(digest, bytes));
  std::string text(static_cast<size_t>(bytes), '\0');
  CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
      file.get(), 0,
      std::as_writable_bytes(std::span(text.data(), text.size()))));
  return Layout::Parse(text);
}

CancelToken AdminQueries::Cancelled() const {
  return engine_ == nullptr ? CancelToken() : engine_->stop_token();
}

absl::Status AdminQueries::Diff(uint64_t a, uint64_t b,
                                v1::DiffVersionsResponse* out) {
  VersionRow rows[2];
  Sha256Digest layout_digest;
  int64_t layout_bytes = 0;
  CONSILIUM_RETURN_IF_ERROR(
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        layout_digest = row.layout_digest;
        layout_bytes = row.layout_bytes;
        CONSILIUM_ASSIGN_OR_RETURN(rows[0],
                                   GetVersion(tx, static_cast<int64_t>(a)));
        CONSILIUM_ASSIGN_OR_RETURN(rows[1],
                                   GetVersion(tx, static_cast<int64_t>(b)));
        return absl::OkStatus();
      }));
  std::unique_ptr<File> files[2];
  for (int i = 0; i < 2; ++i) {
    CONSILIUM_ASSIGN_OR_RETURN(files[i],
                               OpenVersionBlob(store_.blobs(), rows[i]));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const Layout layout,
                             StoredLayout(layout_digest, layout_bytes));
  int64_t offsets[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const VersionFileInfo info,
        ReadVersionFile(files[i].get(), layout, layout_digest));
    offsets[i] = info.data_offset;
  }
  struct Sums {
    double delta = 0, base = 0, max_abs = 0;
    uint64_t elements = 0, changed = 0;
  };
  const CancelToken cancel = Cancelled();
  std::vector<Sums> sums(layout.groups().size());
  constexpr int64_t kBlock = int64_t{1} << 16;
  std::vector<float> x(kBlock), y(kBlock);
  for (const TensorSlot& slot : layout.slots()) {
    Sums& sum = sums[slot.group];
    for (int64_t done = 0; done < slot.elements; done += kBlock) {
      CONSILIUM_RETURN_IF_ERROR(cancel.status());
      const size_t n =
          static_cast<size_t>(std::min(kBlock, slot.elements - done));
      const int64_t at = 4 * (slot.first_element + done);
      CONSILIUM_RETURN_IF_ERROR(
          ReadExactlyAt(files[0].get(), offsets[0] + at,
                        std::as_writable_bytes(std::span(x.data(), n))));
      CONSILIUM_RETURN_IF_ERROR(
          ReadExactlyAt(files[1].get(), offsets[1] + at,
                        std::as_writable_bytes(std::span(y.data(), n))));
      for (size_t i = 0; i < n; ++i) {
        const double d = static_cast<double>(y[i]) - x[i];
        sum.delta += d * d;
        sum.base += static_cast<double>(x[i]) * x[i];
        sum.max_abs = std::max(sum.max_abs, std::fabs(d));
        sum.changed += d != 0 ? 1 : 0;
      }
      sum.elements += n;
    }
  }
  for (size_t g = 0; g < sums.size(); ++g) {
    v1::GroupDiff& diff = *out->add_groups();
    diff.set_group(layout.groups()[g].ToString());
    diff.set_norm(std::sqrt(sums[g].delta));
    diff.set_relative(sums[g].base > 0 ? std::sqrt(sums[g].delta / sums[g].base)
                                       : 0);
    diff.set_max_abs(sums[g].max_abs);
    diff.set_elements(sums[g].elements);
    diff.set_changed(sums[g].changed);
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Schedule(v1::ScheduleInfo* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const ScheduleRow row, GetSchedule(tx));
    out->set_kind(row.kind);
    out->set_expression(row.expression);
    out->set_time_zone(row.time_zone);
    out->set_paused(row.paused);
    if (row.next_at.has_value()) out->set_next_at(MicrosOf(*row.next_at));
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::Certificates(bool all,
                                        v1::ListCertificatesResponse* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListCertificates(tx));
    std::map<std::string, absl::Time> newest;  // by subject
    for (const CertificateRow& row : rows) {
      if (row.revoked_at.has_value()) continue;
      absl::Time& until =
          newest.try_emplace(row.subject_uri, absl::InfinitePast())
              .first->second;
      until = std::max(until, row.not_after);
    }
    for (const CertificateRow& row : rows) {
      v1::CertificateInfo info = CertificateOf(row);
      if (const auto last = newest.find(row.subject_uri);
          last != newest.end() && last->second == row.not_after) {
        info.set_advice(MemberAdvice(info));
      }
      if (all || info.state() == "valid" || info.state() == "expiring") {
        *out->add_certificates() = info;
      }
    }
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::Check(bool deep, v1::CheckDatabaseResponse* out) {
  CheckOptions options;
  options.deep = deep;
  options.cancel = Cancelled();
  CONSILIUM_ASSIGN_OR_RETURN(const CheckReport report,
                             CheckStore(store_, options));
  out->set_ok(report.clean());
  for (const CheckProblem& problem : report.problems) {
    out->add_findings(Cat(problem.kind, ": ", problem.object, ": ",
                          problem.detail, "; ", problem.fix));
  }
  out->set_rows_checked(static_cast<uint64_t>(report.rounds + report.versions +
                                              report.contributions +
                                              report.audit_entries));
  out->set_blobs_checked(static_cast<uint64_t>(report.blobs));
  return absl::OkStatus();
}

absl::Status AdminQueries::AuditTail(const v1::TailAuditRequest& request,
                                     v1::TailAuditResponse* out) {
  return store_.history().Read([&](ReadTx& tx) -> absl::Status {
    Page page;
    page.limit = static_cast<int64_t>(
        request.limit() == 0 ? 50
                             : std::min<uint64_t>(request.limit(), kMaxPage));
    page.descending = request.after() == 0;
    if (request.after() > 0) page.after = static_cast<int64_t>(request.after());
    CONSILIUM_ASSIGN_OR_RETURN(auto rows, ListAudit(tx, page));
    if (page.descending) std::reverse(rows.begin(), rows.end());
    for (const AuditEntry& row : rows) {
      v1::AuditEntry& entry = *out->add_entries();
      entry.set_seq(row.seq);
      entry.set_at(MicrosOf(row.at));
      entry.set_actor(row.actor);
      entry.set_action(row.action);
      entry.set_object(row.object);
      entry.set_detail(row.detail);
      entry.set_hash(row.hash.Hex());
    }
    return absl::OkStatus();
  });
}

absl::Status AdminQueries::AuditCheck(v1::VerifyAuditResponse* out) {
  AuditHead head;
  std::string federation;
  const absl::Status read =
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        federation = row.name;
        CONSILIUM_ASSIGN_OR_RETURN(head, VerifyAudit(tx, Cancelled()));
        return absl::OkStatus();
      });
  if (absl::IsDataLoss(read)) {
    out->set_ok(false);
    out->set_finding(std::string(read.message()));
    return absl::OkStatus();
  }
  CONSILIUM_RETURN_IF_ERROR(read);
  out->set_ok(true);
  out->set_entries(head.seq);
  out->set_head_hash(head.hash.Hex());
  if (engine_ != nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const Signature signature,
        SignStatement(engine_->signing_key(),
                      AuditHeadStatement{federation, head.seq, head.hash}));
    out->set_head_signature(signature.ToString());
  }
  return absl::OkStatus();
}

absl::Status AdminQueries::Status(v1::StatusInfo* out) {
  v1::FederationInfo federation;
  CONSILIUM_RETURN_IF_ERROR(Federation(&federation));
  out->set_federation(federation.name());
  out->set_protocol(kProtocolMax);
  // The clock of rounds, so that a deadline minus this is the wait.
  out->set_server_time(MicrosOf(engine_ != nullptr ? engine_->Now() : now_));
  if (federation.has_current()) *out->mutable_current() = federation.current();
  CONSILIUM_RETURN_IF_ERROR(Schedule(out->mutable_schedule()));
  v1::ListInstitutionsResponse institutions;
  CONSILIUM_RETURN_IF_ERROR(Institutions(&institutions));
  for (const v1::InstitutionInfo& info : institutions.institutions()) {
    if (info.state() == "active" && info.role() == "institution") {
      out->set_institutions_active(out->institutions_active() + 1);
    }
    if (info.connected() && info.role() == "institution") {
      out->set_institutions_connected(out->institutions_connected() + 1);
    }
    const int64_t until = info.certificate_not_after();
    if (info.state() == "active" && info.role() == "institution" && until > 0 &&
        TimeOf(until) - now_ < std::min(renew_before_, absl::Hours(24 * 7))) {
      out->add_warnings(Cat("the certificate of ", info.name(), " ends ",
                            FormatTime(TimeOf(until)),
                            "; its client should have renewed it"));
    }
  }
  v1::ListOperatorsResponse staff;
  CONSILIUM_RETURN_IF_ERROR(Operators(&staff));
  for (const v1::OperatorInfo& info : staff.operators()) {
    const int64_t until = info.certificate_not_after();
    if (info.state() != "active" || until == 0) continue;
    const absl::Duration left = TimeOf(until) - now_;
    if (left <= absl::ZeroDuration()) {
      out->add_warnings(Cat("the certificate of ", info.role(), " ",
                            info.name(), " ended ", FormatTime(TimeOf(until)),
                            "; invite and enrol anew, or revoke"));
    } else if (left < renew_before_) {
      out->add_warnings(Cat("the certificate of ", info.role(), " ",
                            info.name(), " ends ", FormatTime(TimeOf(until)),
                            "; its holder runs `consilium cert renew`"));
    }
  }
  v1::RoundInfo last;
  const absl::Status found = Round(0, false, &last);
  if (found.ok()) {
    *(last.terminal() ? out->mutable_last_round() : out->mutable_live_round()) =
        last;
  } else if (!absl::IsNotFound(found)) {
    return found;
  }
  CONSILIUM_RETURN_IF_ERROR(
      store_.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto blobs, ListLiveBlobs(tx));
        for (const BlobRef& blob : blobs) {
          out->set_blob_bytes(out->blob_bytes() +
                              static_cast<uint64_t>(blob.bytes));
        }
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow row, GetFederation(tx));
        if (!row.current_version.has_value()) return absl::OkStatus();
        CONSILIUM_ASSIGN_OR_RETURN(const VersionRow current,
                                   GetVersion(tx, *row.current_version));
        if (current.tainted) {
          out->add_warnings(
              Cat("the current version ", current.number,
                  " depends on a quarantined contribution: ", current.reason));
        }
        return absl::OkStatus();
      }));
  const auto free = store_.fs()->FreeSpace(store_.data_dir());
  if (free.ok()) out->set_disk_free_bytes(static_cast<uint64_t>(*free));
  if (engine_ == nullptr) return absl::OkStatus();
  out->set_started_at(MicrosOf(engine_->started_at()));
  out->set_disk_reserved_bytes(
      static_cast<uint64_t>(store_.space().reserved_bytes()));
  out->set_spool_bytes(static_cast<uint64_t>(engine_->uploads().SpoolBytes()));
  out->set_sealing(engine_->options().sealing);
  if (!engine_->options().sealing) {
    out->add_warnings(
        "sealing is off: uploads lie on the coordinator's disk "
        "unencrypted");
  }
  out->set_resident_bytes(
      static_cast<uint64_t>(ReadProcessStats().resident_bytes));
  return absl::OkStatus();
}

}  // namespace consilium

// The store, told as admin messages. Shared by AdminService and by the command
// line when it works offline on a stopped coordinator's store.

#ifndef CONSILIUM_COORDINATOR_RPC_ADMIN_QUERIES_H_
#define CONSILIUM_COORDINATOR_RPC_ADMIN_QUERIES_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/v1/admin.pb.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/store.h"

namespace consilium {

// Reads only. `engine` may be null (offline): then nothing is live or
// connected. Every function takes its own snapshot. Thread-safe.
//
// Errors of all: NOT_FOUND naming what there is not, and where to look;
// INVALID_ARGUMENT for a bad page; those of the store.
class AdminQueries {
 public:
  AdminQueries(Store* store, Engine* engine, absl::Time now,
               absl::Duration renew_before)
      : store_(*store),
        engine_(engine),
        now_(now),
        renew_before_(renew_before) {}

  absl::Status Status(v1::StatusInfo* out);
  absl::Status Federation(v1::FederationInfo* out);
  absl::Status Institutions(v1::ListInstitutionsResponse* out);
  absl::Status Institution(const std::string& name, v1::InstitutionInfo* out);
  // Operators and auditors.
  absl::Status Operators(v1::ListOperatorsResponse* out);
  absl::Status Operator(const std::string& name, v1::OperatorInfo* out);
  absl::Status Rounds(const v1::ListRoundsRequest& request,
                      v1::ListRoundsResponse* out);
  // `events`: the newest 10000, oldest first.
  absl::Status Round(uint64_t round, bool events, v1::RoundInfo* out);
  absl::Status Contributions(const v1::ListContributionsRequest& request,
                             v1::ListContributionsResponse* out);
  absl::Status Contribution(const std::string& id, v1::ContributionInfo* out);
  // The one id that begins with `prefix`.
  absl::StatusOr<std::string> ContributionId(const std::string& prefix);
  absl::Status Versions(uint32_t limit, v1::ListVersionsResponse* out);
  absl::Status Version(uint64_t number, v1::VersionInfo* out);
  absl::Status Diff(uint64_t a, uint64_t b, v1::DiffVersionsResponse* out);
  absl::Status Schedule(v1::ScheduleInfo* out);
  absl::Status Certificates(bool all, v1::ListCertificatesResponse* out);
  absl::Status Check(bool deep, v1::CheckDatabaseResponse* out);
  absl::Status AuditTail(const v1::TailAuditRequest& request,
                         v1::TailAuditResponse* out);
  absl::Status AuditCheck(v1::VerifyAuditResponse* out);

 private:
  absl::Status FillRound(ReadTx& tx, const RoundRow& row, bool members,
                         v1::RoundInfo* out);
  absl::Status FillContribution(ReadTx& tx, const ContributionRow& row,
                                v1::ContributionInfo* out);
  absl::Status FillVersion(ReadTx& tx, const VersionRow& row,
                           std::optional<int64_t> current, bool details,
                           v1::VersionInfo* out);
  absl::Status FillInstitution(ReadTx& tx, const InstitutionRow& row,
                               bool certificates, v1::InstitutionInfo* out);
  absl::Status FillOperator(ReadTx& tx, const InstitutionRow& row,
                            v1::OperatorInfo* out);
  // With what the running coordinator knows of it.
  int64_t LastSeen(const InstitutionRow& row) const;
  absl::StatusOr<Layout> StoredLayout(const Sha256Digest& digest,
                                      int64_t bytes);
  // Ends what takes long when the coordinator stops.
  CancelToken Cancelled() const;
  void FillLive(v1::RoundInfo* out);
  v1::CertificateInfo CertificateOf(const CertificateRow& row) const;
  absl::StatusOr<std::string> NameOf(ReadTx& tx, int64_t institution_id);

  Store& store_;
  Engine* const engine_;
  const absl::Time now_;
  const absl::Duration renew_before_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_ADMIN_QUERIES_H_

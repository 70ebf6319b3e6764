#ifndef CONSILIUM_COORDINATOR_STORE_TABLES_H_
#define CONSILIUM_COORDINATOR_STORE_TABLES_H_

// Every statement the coordinator and the CLI run, as functions over a
// transaction (history_store.h). Not thread safe: a transaction belongs to
// one thread.
//
// Errors common to all, besides those named: the storage errors of
// HistoryStore::Read and Write; INVALID_ARGUMENT for a value that the schema
// refuses (unknown state word, NaN, negative size); FAILED_PRECONDITION for a
// reference to a row that does not exist. Find* returns nullopt where Get*
// returns NOT_FOUND.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/secure/audit_chain.h"
#include "coordinator/store/history_store.h"
#include "coordinator/store/records.h"

namespace consilium {

// Pages of a list: rows with a key greater (ascending) or smaller (descending)
// than `after`, at most `limit`.
struct Page {
  std::optional<int64_t> after = std::nullopt;
  int64_t limit = 100;  // 1..10000
  bool descending = false;
};

// --- federation ------------------------------------------------------------

absl::StatusOr<std::optional<FederationRow>> FindFederation(ReadTx& tx);
absl::StatusOr<FederationRow> GetFederation(ReadTx& tx);
// Inserts or replaces the one row.
absl::Status SetFederation(WriteTx& tx, const FederationRow& row);
absl::Status SetFederationPaused(WriteTx& tx, bool paused);
// Errors: FAILED_PRECONDITION when the version is not promoted, or pruned.
absl::Status SetCurrentVersion(WriteTx& tx, int64_t version);

// --- schedule --------------------------------------------------------------

// A store without a row answers with the default: manual, not paused.
absl::StatusOr<ScheduleRow> GetSchedule(ReadTx& tx);
absl::Status SetSchedule(WriteTx& tx, const ScheduleRow& row);

// --- institutions ----------------------------------------------------------

// Returns the new id. Errors: ALREADY_EXISTS for a name in use.
absl::StatusOr<int64_t> InsertInstitution(WriteTx& tx,
                                          const InstitutionRow& row);
// By id, ascending.
absl::StatusOr<std::vector<InstitutionRow>> ListInstitutions(ReadTx& tx);
absl::StatusOr<std::optional<InstitutionRow>> FindInstitution(
    ReadTx& tx, std::string_view name);
absl::StatusOr<InstitutionRow> GetInstitution(ReadTx& tx, int64_t id);
// Any state may follow any other, except that revoked is final
// (FAILED_PRECONDITION). Setting the present state again is a no-op.
absl::Status SetInstitutionState(WriteTx& tx, int64_t id,
                                 InstitutionState state, absl::Time now);
// Of one that has not enrolled yet.
absl::Status SetInstitutionRole(WriteTx& tx, int64_t id, std::string_view role,
                                absl::Time now);
absl::Status TouchInstitution(WriteTx& tx, int64_t id, absl::Time seen_at);

// --- certificates ----------------------------------------------------------

// Errors: ALREADY_EXISTS for a serial in use.
absl::Status InsertCertificate(WriteTx& tx, const CertificateRow& row);
absl::StatusOr<std::optional<CertificateRow>> FindCertificate(
    ReadTx& tx, std::string_view serial);
// By issue time; of one institution when given.
absl::StatusOr<std::vector<CertificateRow>> ListCertificates(
    ReadTx& tx, std::optional<int64_t> institution_id = std::nullopt);
// Operators, but for this one, who hold a certificate that is good at `now`.
absl::StatusOr<int64_t> CountOtherOperators(ReadTx& tx, int64_t id,
                                            absl::Time now);
// Serials revoked and not yet past not_after: the live deny list.
absl::StatusOr<std::vector<std::string>> ListRevokedSerials(ReadTx& tx,
                                                            absl::Time now);
// Idempotent; the first time and reason stay. Errors: NOT_FOUND.
absl::Status RevokeCertificate(WriteTx& tx, std::string_view serial,
                               absl::Time now, std::string_view reason);
// All of an institution's; returns how many were live before.
absl::StatusOr<int64_t> RevokeCertificatesOf(WriteTx& tx,
                                             int64_t institution_id,
                                             absl::Time now,
                                             std::string_view reason);

// --- enrolment tokens ------------------------------------------------------

absl::Status InsertToken(WriteTx& tx, const TokenRow& row);
// Marks the token used and returns it, in this transaction: of two callers
// one wins. Errors: NOT_FOUND unknown hash; FAILED_PRECONDITION used before,
// or expired (now >= expires_at); nothing changes then.
absl::StatusOr<TokenRow> ConsumeToken(WriteTx& tx, std::string_view token_hash,
                                      absl::Time now);
absl::StatusOr<std::optional<TokenRow>> FindToken(ReadTx& tx,
                                                  std::string_view token_hash);
// What a used token was traded for, so that it can be told again.
absl::Status SetTokenIssued(WriteTx& tx, std::string_view token_hash,
                            std::string_view key_hash,
                            std::string_view chain_pem);
absl::StatusOr<std::vector<TokenRow>> ListTokens(ReadTx& tx);
// Unused tokens of an institution stop working; returns how many.
absl::StatusOr<int64_t> DeleteUnusedTokens(WriteTx& tx, int64_t institution_id);
// The same of all institutions.
absl::StatusOr<int64_t> DeleteUnusedTokens(WriteTx& tx);

// --- versions --------------------------------------------------------------

absl::StatusOr<int64_t> NextVersionNumber(ReadTx& tx);  // 0 in an empty store

// Signs the complete row (its number is set by then).
using VersionSigner =
    std::function<absl::StatusOr<std::string>(const VersionRow&)>;
struct InsertedVersion {
  VersionRow row;
  bool inserted = false;  // false: it was there already
};
// Idempotent per (round, attempt, digest): publishing the same result twice
// gives the version it already has. `row.number` and `row.signature` are set
// here; `sign` may be null. Errors: what `sign` returns.
absl::StatusOr<InsertedVersion> InsertVersion(WriteTx& tx, VersionRow row,
                                              const VersionSigner& sign);
absl::StatusOr<std::optional<VersionRow>> FindVersion(ReadTx& tx,
                                                      int64_t number);
absl::StatusOr<VersionRow> GetVersion(ReadTx& tx, int64_t number);
absl::StatusOr<std::optional<VersionRow>> FindVersionByDigest(
    ReadTx& tx, const Sha256Digest& digest);  // the newest that is not pruned
absl::StatusOr<std::vector<VersionRow>> ListVersions(ReadTx& tx,
                                                     const Page& page = {});
// promoted sets promoted_at = now; no state leads back to candidate, and a
// pruned version cannot be promoted (FAILED_PRECONDITION). The current pointer
// is moved by SetCurrentVersion. A tainted version keeps its reason where none
// is given.
absl::Status SetVersionState(WriteTx& tx, int64_t number, VersionState state,
                             std::string_view reason, absl::Time now);
// Children, their children, ...: ascending, without `number` itself.
absl::StatusOr<std::vector<int64_t>> VersionDescendants(ReadTx& tx,
                                                        int64_t number);
// The chain of parents, nearest first, without `number` itself.
absl::StatusOr<std::vector<int64_t>> VersionAncestors(ReadTx& tx,
                                                      int64_t number);
// Marks `number` and all its descendants; returns those newly marked.
absl::StatusOr<std::vector<int64_t>> TaintVersions(WriteTx& tx, int64_t number,
                                                   std::string_view reason);
// What the fold of `number` took in. Idempotent.
absl::Status AddVersionContribution(WriteTx& tx, int64_t number,
                                    std::string_view contribution);
// By institution; empty for an imported version.
absl::StatusOr<std::vector<ContributionRow>> VersionContributions(
    ReadTx& tx, int64_t number);
// Versions that hold the contribution.
absl::StatusOr<std::vector<int64_t>> VersionsWith(
    ReadTx& tx, std::string_view contribution);
// Takes the mark, and `reason` where it is the version's, from those versions
// and their descendants. One that another quarantined contribution leads to
// stays marked, for the reason of that one.
absl::Status ClearTaintWith(WriteTx& tx, std::string_view contribution,
                            std::string_view reason);
// Marks every version that holds the contribution, and their descendants.
absl::Status TaintVersionsWith(WriteTx& tx, std::string_view contribution,
                               std::string_view reason);
absl::Status MarkVersionPruned(WriteTx& tx, int64_t number, absl::Time now);
// Its blob is there again.
absl::Status UnmarkVersionPruned(WriteTx& tx, int64_t number);

struct BlobRef {
  Sha256Digest digest;
  int64_t bytes = 0;

  friend bool operator==(const BlobRef&, const BlobRef&) = default;
};
// Blobs that a version row or the federation's layout still names (each once).
absl::StatusOr<std::vector<BlobRef>> ListLiveBlobs(ReadTx& tx);

// --- rounds ----------------------------------------------------------------

// Returns the id: row.id, or the next one when that is 0.
// Errors: ALREADY_EXISTS for an id in use.
absl::StatusOr<int64_t> InsertRound(WriteTx& tx, const RoundRow& row);
// Writes every column. Errors: NOT_FOUND.
absl::Status UpdateRound(WriteTx& tx, const RoundRow& row);
absl::StatusOr<std::optional<RoundRow>> FindRound(ReadTx& tx, int64_t id);
absl::StatusOr<RoundRow> GetRound(ReadTx& tx, int64_t id);
absl::StatusOr<std::optional<RoundRow>> FindLatestRound(ReadTx& tx);
// state: only rounds in it, when not empty.
absl::StatusOr<std::vector<RoundRow>> ListRounds(ReadTx& tx, const Page& page,
                                                 std::string_view state = {});
// Rounds without finished_at, by id.
absl::StatusOr<std::vector<RoundRow>> ListOpenRounds(ReadTx& tx);
absl::Status SetRoundKeyState(WriteTx& tx, int64_t round, RoundKeyState state);

// Returns the event's id.
absl::StatusOr<int64_t> AppendRoundEvent(WriteTx& tx, const RoundEventRow& row);
// Of all rounds when round is nullopt; page keys are event ids.
absl::StatusOr<std::vector<RoundEventRow>> ListRoundEvents(
    ReadTx& tx, std::optional<int64_t> round, const Page& page = {});

absl::Status UpsertCohortMember(WriteTx& tx, const CohortMemberRow& row);
absl::StatusOr<std::vector<CohortMemberRow>> ListCohort(ReadTx& tx,
                                                        int64_t round,
                                                        int64_t attempt);
// The last round that invited each institution, by id; without those that none
// has. Takes one look-up for each institution, however many rounds there were.
absl::StatusOr<std::map<int64_t, int64_t>> LastInvitations(ReadTx& tx);

// --- contributions ---------------------------------------------------------

// Errors: ALREADY_EXISTS for an id in use, or when this (round, attempt,
// institution) already has a live upload or a committed contribution.
absl::Status InsertContribution(WriteTx& tx, const ContributionRow& row);
// Writes every column but id, round, attempt, institution_id. Same errors,
// and NOT_FOUND.
absl::Status UpdateContribution(WriteTx& tx, const ContributionRow& row);
absl::Status SetContributionState(WriteTx& tx, std::string_view id,
                                  ContributionState state,
                                  std::string_view reason);
absl::StatusOr<std::optional<ContributionRow>> FindContribution(
    ReadTx& tx, std::string_view id);
// The one that counts or may still count: uploading, committed or folded.
// When an upload runs beside a committed one (never in one attempt), the
// committed one is returned.
absl::StatusOr<std::optional<ContributionRow>> FindLiveContribution(
    ReadTx& tx, int64_t round, int64_t attempt, int64_t institution_id);
struct ContributionQuery {
  std::optional<int64_t> round = std::nullopt;
  std::optional<int64_t> attempt = std::nullopt;
  std::optional<int64_t> institution_id = std::nullopt;
  std::optional<ContributionState> state = std::nullopt;
  int64_t limit = 10000;
};
// By round, attempt, institution_id, begun_at. A fold takes them by name.
absl::StatusOr<std::vector<ContributionRow>> ListContributions(
    ReadTx& tx, const ContributionQuery& query);
// Those that begin with `prefix`, ascending, at most `limit`.
absl::StatusOr<std::vector<std::string>> FindContributionIds(
    ReadTx& tx, std::string_view prefix, int64_t limit);
// Those of an institution that count: committed or folded.
absl::StatusOr<int64_t> CountCountedContributions(ReadTx& tx,
                                                  int64_t institution_id);
// Of an institution in all attempts of a round.
absl::StatusOr<int64_t> CountContributions(ReadTx& tx, int64_t round,
                                           int64_t institution_id,
                                           ContributionState state);

// Of the newest round, by the state's word; states without any are left out.
absl::StatusOr<std::map<std::string, int64_t>> CountNewestContributions(
    ReadTx& tx);

// --- metrics ---------------------------------------------------------------

absl::StatusOr<int64_t> InsertMetric(WriteTx& tx, const MetricRow& row);
absl::StatusOr<std::vector<MetricRow>> ListMetrics(
    ReadTx& tx, int64_t round, std::optional<MetricPhase> phase = std::nullopt);
// Weighted by examples over institutions; the latest report of an institution
// counts, reports with no examples do not. By name. Sums run in institution
// order, so the bits are always the same. `version`: only reports about it.
absl::StatusOr<std::vector<WeightedMetric>> WeightedMeans(
    ReadTx& tx, int64_t round, int64_t attempt, MetricPhase phase,
    std::optional<int64_t> version = std::nullopt);

// --- audit -----------------------------------------------------------------

// Appends to the hash chain (secure/audit_chain.h): seq, prev_hash and hash
// are filled here, from the head in the same transaction. Returns the entry.
absl::StatusOr<AuditEntry> AppendAudit(WriteTx& tx, AuditEntry entry);
absl::StatusOr<std::vector<AuditEntry>> ListAudit(ReadTx& tx,
                                                  const Page& page = {});
absl::StatusOr<std::optional<AuditEntry>> FindNewestAudit(
    ReadTx& tx, std::string_view action);
absl::StatusOr<AuditHead> GetAuditHead(ReadTx& tx);  // seq 0: empty log
// Recomputes every hash. Errors: DATA_LOSS naming the first entry that does
// not fit; CANCELLED.
absl::StatusOr<AuditHead> VerifyAudit(ReadTx& tx,
                                      const CancelToken& cancel = {});

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_TABLES_H_

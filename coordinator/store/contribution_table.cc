#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kColumns =
    "id, round, attempt, institution_id, state, reason, manifest, "
    "payload_digest, payload_bytes, spool_path, wrapped_key, sealed, examples, "
    "norm, stats_json, receipt, begun_at, committed_at";

ContributionRow ParseContribution(Statement& row) {
  ContributionRow out;
  out.id = row.Text(0);
  out.round = row.Int(1);
  out.attempt = row.Int(2);
  out.institution_id = row.Int(3);
  out.state = row.Word(4, &ParseContributionState);
  out.reason = row.Text(5);
  out.manifest = row.Blob(6);
  out.payload_digest = row.Digest(7);
  out.payload_bytes = row.Int(8);
  out.spool_path = row.Text(9);
  out.wrapped_key = row.Blob(10);
  out.sealed = row.Bool(11);
  out.examples = row.OptInt(12);
  out.norm = row.OptReal(13);
  out.stats_json = row.Text(14);
  out.receipt = row.Blob(15);
  out.begun_at = row.Time(16);
  out.committed_at = row.OptTime(17);
  return out;
}

// The unique indexes speak of columns; say what they mean.
absl::Status Explain(absl::Status status, const ContributionRow& row) {
  if (status.code() != absl::StatusCode::kAlreadyExists) return status;
  return absl::AlreadyExistsError(
      Cat("contribution ", Quoted(row.id), " cannot be ", ToString(row.state),
          ": its id or spool is taken, or institution #", row.institution_id,
          " already has a live or a committed one in round ", row.round,
          " attempt ", row.attempt));
}

}  // namespace

absl::Status InsertContribution(WriteTx& tx, const ContributionRow& row) {
  return Explain(
      tx.connection().Run(
          "INSERT INTO contribution (id, round, attempt, institution_id, "
          "state, reason, manifest, payload_digest, payload_bytes, "
          "spool_path, wrapped_key, sealed, examples, norm, stats_json, "
          "receipt, begun_at, committed_at) VALUES "
          "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          row.id, row.round, row.attempt, row.institution_id,
          ToString(row.state), TextOrNull{row.reason}, BlobBytes{row.manifest},
          row.payload_digest, row.payload_bytes, TextOrNull{row.spool_path},
          BlobOrNull{row.wrapped_key}, row.sealed, row.examples, row.norm,
          TextOrNull{row.stats_json}, BlobOrNull{row.receipt}, row.begun_at,
          row.committed_at),
      row);
}

absl::Status UpdateContribution(WriteTx& tx, const ContributionRow& row) {
  CONSILIUM_RETURN_IF_ERROR(Explain(
      tx.connection().Run(
          "UPDATE contribution SET state = ?2, reason = ?3, manifest = ?4, "
          "payload_digest = ?5, payload_bytes = ?6, spool_path = ?7, "
          "wrapped_key = ?8, sealed = ?9, examples = ?10, norm = ?11, "
          "stats_json = ?12, receipt = ?13, begun_at = ?14, "
          "committed_at = ?15 WHERE id = ?1",
          row.id, ToString(row.state), TextOrNull{row.reason},
          BlobBytes{row.manifest}, row.payload_digest, row.payload_bytes,
          TextOrNull{row.spool_path}, BlobOrNull{row.wrapped_key}, row.sealed,
          row.examples, row.norm, TextOrNull{row.stats_json},
          BlobOrNull{row.receipt}, row.begun_at, row.committed_at),
      row));
  return MustHaveChanged(tx, Cat("contribution ", Quoted(row.id)));
}

absl::Status SetContributionState(WriteTx& tx, std::string_view id,
                                  ContributionState state,
                                  std::string_view reason) {
  CONSILIUM_ASSIGN_OR_RETURN(
      ContributionRow row,
      Required(FindContribution(tx, id), Cat("contribution ", Quoted(id))));
  row.state = state;
  row.reason = reason;
  return Explain(
      tx.connection().Run(
          "UPDATE contribution SET state = ?, reason = ? WHERE id = ?",
          ToString(state), TextOrNull{reason}, id),
      row);
}

absl::StatusOr<std::optional<ContributionRow>> FindContribution(
    ReadTx& tx, std::string_view id) {
  static const std::string sql =
      Cat("SELECT ", kColumns, " FROM contribution WHERE id = ?");
  return FindOne(tx, sql, ParseContribution, id);
}

absl::StatusOr<std::optional<ContributionRow>> FindLiveContribution(
    ReadTx& tx, int64_t round, int64_t attempt, int64_t institution_id) {
  static const std::string sql =
      Cat("SELECT ", kColumns,
          " FROM contribution WHERE round = ? AND attempt = ? AND "
          "institution_id = ? AND state IN ('uploading', 'committed', "
          "'folded') ORDER BY state = 'uploading' LIMIT 1");
  return FindOne(tx, sql, ParseContribution, round, attempt, institution_id);
}

absl::StatusOr<std::vector<ContributionRow>> VersionContributions(
    ReadTx& tx, int64_t number) {
  static const std::string sql =
      Cat("SELECT ", kColumns,
          " FROM contribution JOIN version_contribution"
          " ON contribution = id WHERE version = ? ORDER BY institution_id");
  return Collect(tx, sql, ParseContribution, number);
}

absl::StatusOr<std::vector<ContributionRow>> ListContributions(
    ReadTx& tx, const ContributionQuery& query) {
  Page page;
  page.limit = query.limit;
  CONSILIUM_RETURN_IF_ERROR(CheckPage(page));
  const std::string_view state =
      query.state.has_value() ? ToString(*query.state) : std::string_view();
  static const std::string rest =
      " (?2 IS NULL OR attempt = ?2) AND "
      "(?3 IS NULL OR institution_id = ?3) AND (?4 = '' OR state = ?4) "
      "ORDER BY round, attempt, institution_id, begun_at, id LIMIT ?5";
  static const std::string of_round =
      Cat("SELECT ", kColumns, " FROM contribution WHERE round = ?1 AND", rest);
  static const std::string of_all =
      Cat("SELECT ", kColumns, " FROM contribution WHERE ?1 IS NULL AND", rest);
  return Collect(tx, query.round.has_value() ? of_round : of_all,
                 ParseContribution, query.round, query.attempt,
                 query.institution_id, state, query.limit);
}

absl::StatusOr<std::map<std::string, int64_t>> CountNewestContributions(
    ReadTx& tx) {
  std::map<std::string, int64_t> counts;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      "SELECT state, COUNT(*) FROM contribution WHERE round = "
      "(SELECT MAX(id) FROM round) GROUP BY state",
      [&](Statement& row) { counts[std::string(row.Text(0))] = row.Int(1); }));
  return counts;
}

absl::StatusOr<std::vector<std::string>> FindContributionIds(
    ReadTx& tx, std::string_view prefix, int64_t limit) {
  // No text that begins with the prefix sorts behind it and the last character.
  return Collect(
      tx,
      "SELECT id FROM contribution WHERE id >= ?1 AND "
      "id < ?1 || char(1114111) ORDER BY id LIMIT ?2",
      [](Statement& row) { return row.Text(0); }, prefix, limit);
}

absl::StatusOr<int64_t> CountCountedContributions(ReadTx& tx,
                                                  int64_t institution_id) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto count,
      FindOne(
          tx,
          "SELECT count(*) FROM contribution WHERE institution_id = ? AND "
          "state IN ('committed', 'folded')",
          [](Statement& row) { return row.Int(0); }, institution_id));
  return count.value_or(0);
}

absl::StatusOr<int64_t> CountContributions(ReadTx& tx, int64_t round,
                                           int64_t institution_id,
                                           ContributionState state) {
  int64_t count = 0;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      "SELECT COUNT(*) FROM contribution WHERE round = ? AND "
      "institution_id = ? AND state = ?",
      [&](Statement& row) { count = row.Int(0); }, round, institution_id,
      ToString(state)));
  return count;
}

}  // namespace consilium

#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kColumns =
    "number, digest, blob_bytes, parent, round, attempt, state, tainted, "
    "reason, signature, created_at, promoted_at, pruned_at, report_json";

VersionRow ParseVersion(Statement& row) {
  VersionRow out;
  out.number = row.Int(0);
  out.digest = row.Digest(1);
  out.blob_bytes = row.Int(2);
  out.parent = row.OptInt(3);
  out.round = row.OptInt(4);
  out.attempt = row.OptInt(5);
  out.state = row.Word(6, &ParseVersionState);
  out.tainted = row.Bool(7);
  out.reason = row.Text(8);
  out.signature = row.Blob(9);
  out.created_at = row.Time(10);
  out.promoted_at = row.OptTime(11);
  out.pruned_at = row.OptTime(12);
  out.report_json = row.Text(13);
  return out;
}

int64_t FirstInt(Statement& row) { return row.Int(0); }

}  // namespace

absl::StatusOr<int64_t> NextVersionNumber(ReadTx& tx) {
  return tx.connection().OneInt(
      "SELECT coalesce(max(number) + 1, 0) FROM version");
}

absl::StatusOr<InsertedVersion> InsertVersion(WriteTx& tx, VersionRow row,
                                              const VersionSigner& sign) {
  if (row.round.has_value()) {
    static const std::string sql =
        Cat("SELECT ", kColumns,
            " FROM version WHERE round = ? AND attempt = ? AND digest = ?");
    CONSILIUM_ASSIGN_OR_RETURN(
        std::optional<VersionRow> there,
        FindOne(tx, sql, ParseVersion, row.round, row.attempt, row.digest));
    if (there.has_value()) return InsertedVersion{*std::move(there), false};
  }
  CONSILIUM_ASSIGN_OR_RETURN(row.number, NextVersionNumber(tx));
  if (sign != nullptr) {
    CONSILIUM_ASSIGN_OR_RETURN(row.signature, sign(row));
  }
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO version (number, digest, blob_bytes, parent, round, "
      "attempt, state, tainted, reason, signature, created_at, promoted_at, "
      "pruned_at, report_json) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      row.number, row.digest, row.blob_bytes, row.parent, row.round,
      row.attempt, ToString(row.state), row.tainted, TextOrNull{row.reason},
      BlobBytes{row.signature}, row.created_at, row.promoted_at, row.pruned_at,
      TextOrNull{row.report_json}));
  return InsertedVersion{std::move(row), true};
}

absl::StatusOr<std::optional<VersionRow>> FindVersion(ReadTx& tx,
                                                      int64_t number) {
  static const std::string sql =
      Cat("SELECT ", kColumns, " FROM version WHERE number = ?");
  return FindOne(tx, sql, ParseVersion, number);
}

absl::StatusOr<VersionRow> GetVersion(ReadTx& tx, int64_t number) {
  return Required(FindVersion(tx, number), Cat("version ", number));
}

absl::StatusOr<std::optional<VersionRow>> FindVersionByDigest(
    ReadTx& tx, const Sha256Digest& digest) {
  static const std::string sql =
      Cat("SELECT ", kColumns,
          " FROM version WHERE digest = ? "
          "ORDER BY pruned_at IS NOT NULL, number DESC LIMIT 1");
  return FindOne(tx, sql, ParseVersion, digest);
}

absl::StatusOr<std::vector<VersionRow>> ListVersions(ReadTx& tx,
                                                     const Page& page) {
  CONSILIUM_RETURN_IF_ERROR(CheckPage(page));
  static const std::string up =
      Cat("SELECT ", kColumns,
          " FROM version WHERE number > ? ORDER BY number LIMIT ?");
  static const std::string down =
      Cat("SELECT ", kColumns,
          " FROM version WHERE number < ? ORDER BY number DESC LIMIT ?");
  return Collect(tx, page.descending ? down : up, ParseVersion, PageStart(page),
                 page.limit);
}

absl::Status SetVersionState(WriteTx& tx, int64_t number, VersionState state,
                             std::string_view reason, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const VersionRow row, GetVersion(tx, number));
  if (state == VersionState::kCandidate && row.state != state) {
    return absl::FailedPreconditionError(
        Cat("version ", number, " is ", ToString(row.state),
            " and cannot become a candidate again"));
  }
  if (state == VersionState::kPromoted && row.pruned_at.has_value()) {
    return absl::FailedPreconditionError(
        Cat("version ", number, " was pruned at ", FormatTime(*row.pruned_at),
            "; its parameters are gone"));
  }
  std::optional<absl::Time> promoted_at = row.promoted_at;
  if (state == VersionState::kPromoted && row.state != state) {
    promoted_at = now;
  }
  return tx.connection().Run(
      "UPDATE version SET state = ?, "
      "reason = coalesce(?, CASE WHEN tainted THEN reason END), "
      "promoted_at = ? WHERE number = ?",
      ToString(state), TextOrNull{reason}, promoted_at, number);
}

absl::StatusOr<std::vector<int64_t>> VersionDescendants(ReadTx& tx,
                                                        int64_t number) {
  return Collect(tx,
                 "WITH RECURSIVE below (number) AS ("
                 " SELECT number FROM version WHERE parent = ?"
                 " UNION SELECT v.number FROM version v"
                 " JOIN below b ON v.parent = b.number) "
                 "SELECT number FROM below ORDER BY number",
                 FirstInt, number);
}

absl::StatusOr<std::vector<int64_t>> VersionAncestors(ReadTx& tx,
                                                      int64_t number) {
  // A parent's number is smaller (the schema checks it), so this ends.
  return Collect(tx,
                 "WITH RECURSIVE above (number) AS ("
                 " SELECT parent FROM version WHERE number = ?"
                 " UNION SELECT v.parent FROM version v"
                 " JOIN above a ON v.number = a.number) "
                 "SELECT number FROM above WHERE number IS NOT NULL "
                 "ORDER BY number DESC",
                 FirstInt, number);
}

absl::StatusOr<std::vector<int64_t>> TaintVersions(WriteTx& tx, int64_t number,
                                                   std::string_view reason) {
  CONSILIUM_RETURN_IF_ERROR(GetVersion(tx, number).status());
  CONSILIUM_ASSIGN_OR_RETURN(std::vector<int64_t> all,
                             VersionDescendants(tx, number));
  all.insert(all.begin(), number);
  std::vector<int64_t> marked;
  for (const int64_t version : all) {
    CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
        "UPDATE version SET tainted = 1, reason = coalesce(reason, ?) "
        "WHERE number = ? AND tainted = 0",
        TextOrNull{reason}, version));
    if (tx.connection().changes() > 0) marked.push_back(version);
  }
  return marked;
}

absl::Status AddVersionContribution(WriteTx& tx, int64_t number,
                                    std::string_view contribution) {
  return tx.connection().Run(
      "INSERT OR IGNORE INTO version_contribution (version, contribution) "
      "VALUES (?, ?)",
      number, contribution);
}

absl::StatusOr<std::vector<int64_t>> VersionsWith(
    ReadTx& tx, std::string_view contribution) {
  return Collect(tx,
                 "SELECT version FROM version_contribution "
                 "WHERE contribution = ? ORDER BY version",
                 FirstInt, contribution);
}

absl::Status TaintVersionsWith(WriteTx& tx, std::string_view contribution,
                               std::string_view reason) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<int64_t> versions,
                             VersionsWith(tx, contribution));
  for (const int64_t version : versions) {
    CONSILIUM_RETURN_IF_ERROR(TaintVersions(tx, version, reason).status());
  }
  return absl::OkStatus();
}

absl::Status ClearTaintWith(WriteTx& tx, std::string_view contribution,
                            std::string_view reason) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<int64_t> holders,
                             VersionsWith(tx, contribution));
  for (const int64_t holder : holders) {
    CONSILIUM_ASSIGN_OR_RETURN(std::vector<int64_t> versions,
                               VersionDescendants(tx, holder));
    versions.push_back(holder);
    for (const int64_t version : versions) {
      CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
          "WITH RECURSIVE line (number) AS ("
          " SELECT ?1 UNION SELECT v.parent FROM version v"
          " JOIN line l ON v.number = l.number WHERE v.parent IS NOT NULL), "
          "other (reason) AS ("
          " SELECT 'contribution of ' || i.name || ': ' ||"
          "  coalesce(c.reason, '') FROM line"
          " JOIN version_contribution h ON h.version = line.number"
          " JOIN contribution c ON c.id = h.contribution"
          " JOIN institution i ON i.id = c.institution_id"
          " WHERE c.state = 'quarantined'"
          " ORDER BY line.number DESC, i.name LIMIT 1) "
          "UPDATE version SET tainted = EXISTS (SELECT 1 FROM other), "
          "reason = CASE WHEN reason = ?2 THEN (SELECT reason FROM other) "
          "ELSE reason END WHERE number = ?1",
          version, reason));
    }
  }
  return absl::OkStatus();
}

absl::Status MarkVersionPruned(WriteTx& tx, int64_t number, absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE version SET pruned_at = coalesce(pruned_at, ?) WHERE number = ?",
      now, number));
  return MustHaveChanged(tx, Cat("version ", number));
}

absl::Status UnmarkVersionPruned(WriteTx& tx, int64_t number) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE version SET pruned_at = NULL WHERE number = ?", number));
  return MustHaveChanged(tx, Cat("version ", number));
}

absl::StatusOr<std::vector<BlobRef>> ListLiveBlobs(ReadTx& tx) {
  return Collect(tx,
                 "SELECT digest, blob_bytes FROM version "
                 "WHERE pruned_at IS NULL UNION "
                 "SELECT layout_digest, layout_bytes FROM federation "
                 "WHERE layout_bytes > 0 ORDER BY 1",
                 [](Statement& row) {
                   return BlobRef{row.Digest(0), row.Int(1)};
                 });
}

}  // namespace consilium

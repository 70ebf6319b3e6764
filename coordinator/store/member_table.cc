// Federation, schedule, institutions, certificates, enrolment tokens.

#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kInstitutionColumns =
    "id, name, state, label_json, created_at, updated_at, last_seen_at, role";

InstitutionRow ParseInstitution(Statement& row) {
  InstitutionRow out;
  out.id = row.Int(0);
  out.name = row.Text(1);
  out.state = row.Word(2, &ParseInstitutionState);
  out.label_json = row.Text(3);
  out.created_at = row.Time(4);
  out.updated_at = row.Time(5);
  out.last_seen_at = row.OptTime(6);
  out.role = row.Text(7);
  return out;
}

constexpr std::string_view kCertificateColumns =
    "serial, subject_uri, institution_id, role, fingerprint, not_before, "
    "not_after, issued_at, revoked_at, reason";

CertificateRow ParseCertificate(Statement& row) {
  CertificateRow out;
  out.serial = row.Text(0);
  out.subject_uri = row.Text(1);
  out.institution_id = row.OptInt(2);
  out.role = row.Text(3);
  out.fingerprint = row.Text(4);
  out.not_before = row.Time(5);
  out.not_after = row.Time(6);
  out.issued_at = row.Time(7);
  out.revoked_at = row.OptTime(8);
  out.reason = row.Text(9);
  return out;
}

constexpr std::string_view kTokenColumns =
    "token_hash, institution_id, role, expires_at, used_at, created_at, "
    "created_by, key_hash, chain_pem";

TokenRow ParseToken(Statement& row) {
  TokenRow out;
  out.token_hash = row.Text(0);
  out.institution_id = row.Int(1);
  out.role = row.Text(2);
  out.expires_at = row.Time(3);
  out.used_at = row.OptTime(4);
  out.created_at = row.Time(5);
  out.created_by = row.Text(6);
  out.key_hash = row.Text(7);
  out.chain_pem = row.Text(8);
  return out;
}

}  // namespace

absl::StatusOr<std::optional<FederationRow>> FindFederation(ReadTx& tx) {
  return FindOne(
      tx,
      "SELECT name, layout_digest, policy_json, current_version, created_at, "
      "paused, layout_bytes FROM federation",
      [](Statement& row) {
        FederationRow out;
        out.name = row.Text(0);
        out.layout_digest = row.Digest(1);
        out.policy_json = row.Text(2);
        out.current_version = row.OptInt(3);
        out.created_at = row.Time(4);
        out.paused = row.Bool(5);
        out.layout_bytes = row.Int(6);
        return out;
      });
}

absl::StatusOr<FederationRow> GetFederation(ReadTx& tx) {
  return Required(FindFederation(tx), "the federation of this store");
}

absl::Status SetFederation(WriteTx& tx, const FederationRow& row) {
  return tx.connection().Run(
      "INSERT INTO federation (id, name, layout_digest, policy_json, "
      "current_version, created_at, paused, layout_bytes) "
      "VALUES (1, ?, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT (id) DO UPDATE SET name = excluded.name, "
      "layout_digest = excluded.layout_digest, "
      "policy_json = excluded.policy_json, "
      "current_version = excluded.current_version, "
      "created_at = excluded.created_at, paused = excluded.paused, "
      "layout_bytes = excluded.layout_bytes",
      row.name, row.layout_digest, row.policy_json, row.current_version,
      row.created_at, row.paused, row.layout_bytes);
}

absl::Status SetFederationPaused(WriteTx& tx, bool paused) {
  CONSILIUM_RETURN_IF_ERROR(
      tx.connection().Run("UPDATE federation SET paused = ?", paused));
  return MustHaveChanged(tx, "the federation of this store");
}

absl::Status SetCurrentVersion(WriteTx& tx, int64_t version) {
  CONSILIUM_ASSIGN_OR_RETURN(const VersionRow row, GetVersion(tx, version));
  if (row.state != VersionState::kPromoted || row.pruned_at.has_value()) {
    return absl::FailedPreconditionError(
        Cat("version ", version, " cannot be served: it is ",
            row.pruned_at.has_value() ? "pruned" : ToString(row.state),
            ", and only promoted versions that are kept can"));
  }
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE federation SET current_version = ?", version));
  return MustHaveChanged(tx, "the federation of this store");
}

absl::StatusOr<ScheduleRow> GetSchedule(ReadTx& tx) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::optional<ScheduleRow> found,
      FindOne(tx,
              "SELECT kind, expression, time_zone, paused, next_at, updated_at "
              "FROM schedule",
              [](Statement& row) {
                ScheduleRow out;
                out.kind = row.Text(0);
                out.expression = row.Text(1);
                out.time_zone = row.Text(2);
                out.paused = row.Bool(3);
                out.next_at = row.OptTime(4);
                out.updated_at = row.Time(5);
                return out;
              }));
  return found.value_or(ScheduleRow{});
}

absl::Status SetSchedule(WriteTx& tx, const ScheduleRow& row) {
  return tx.connection().Run(
      "INSERT INTO schedule (id, kind, expression, time_zone, paused, next_at, "
      "updated_at) VALUES (1, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, "
      "expression = excluded.expression, time_zone = excluded.time_zone, "
      "paused = excluded.paused, next_at = excluded.next_at, "
      "updated_at = excluded.updated_at",
      row.kind, row.expression, row.time_zone, row.paused, row.next_at,
      row.updated_at);
}

absl::StatusOr<int64_t> InsertInstitution(WriteTx& tx,
                                          const InstitutionRow& row) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO institution (name, state, label_json, created_at, "
      "updated_at, last_seen_at, role) VALUES (?, ?, ?, ?, ?, ?, ?)",
      row.name, ToString(row.state), row.label_json, row.created_at,
      row.updated_at, row.last_seen_at, row.role));
  return tx.connection().last_insert_id();
}

absl::StatusOr<std::vector<InstitutionRow>> ListInstitutions(ReadTx& tx) {
  static const std::string sql =
      Cat("SELECT ", kInstitutionColumns, " FROM institution ORDER BY id");
  return Collect(tx, sql, ParseInstitution);
}

absl::StatusOr<std::optional<InstitutionRow>> FindInstitution(
    ReadTx& tx, std::string_view name) {
  static const std::string sql =
      Cat("SELECT ", kInstitutionColumns, " FROM institution WHERE name = ?");
  return FindOne(tx, sql, ParseInstitution, name);
}

absl::StatusOr<InstitutionRow> GetInstitution(ReadTx& tx, int64_t id) {
  static const std::string sql =
      Cat("SELECT ", kInstitutionColumns, " FROM institution WHERE id = ?");
  return Required(FindOne(tx, sql, ParseInstitution, id),
                  Cat("institution #", id));
}

absl::Status SetInstitutionState(WriteTx& tx, int64_t id,
                                 InstitutionState state, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const InstitutionRow row, GetInstitution(tx, id));
  if (row.state == state) return absl::OkStatus();
  if (row.state == InstitutionState::kRevoked) {
    return absl::FailedPreconditionError(
        Cat("institution ", row.name, " is revoked, which is final; invite it ",
            "again under another name"));
  }
  return tx.connection().Run(
      "UPDATE institution SET state = ?, updated_at = ? WHERE id = ?",
      ToString(state), now, id);
}

absl::Status SetInstitutionRole(WriteTx& tx, int64_t id, std::string_view role,
                                absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(
      tx.connection().Run("UPDATE institution SET role = ?, updated_at = ? "
                          "WHERE id = ? AND state = 'invited'",
                          role, now, id));
  return MustHaveChanged(tx, Cat("invited institution #", id));
}

absl::Status TouchInstitution(WriteTx& tx, int64_t id, absl::Time seen_at) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE institution SET last_seen_at = ? WHERE id = ?", seen_at, id));
  return MustHaveChanged(tx, Cat("institution #", id));
}

absl::Status InsertCertificate(WriteTx& tx, const CertificateRow& row) {
  return tx.connection().Run(
      "INSERT INTO certificate (serial, subject_uri, institution_id, role, "
      "fingerprint, not_before, not_after, issued_at, revoked_at, reason) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      row.serial, row.subject_uri, row.institution_id, row.role,
      row.fingerprint, row.not_before, row.not_after, row.issued_at,
      row.revoked_at, TextOrNull{row.reason});
}

absl::StatusOr<std::optional<CertificateRow>> FindCertificate(
    ReadTx& tx, std::string_view serial) {
  static const std::string sql =
      Cat("SELECT ", kCertificateColumns, " FROM certificate WHERE serial = ?");
  return FindOne(tx, sql, ParseCertificate, serial);
}

absl::StatusOr<std::vector<CertificateRow>> ListCertificates(
    ReadTx& tx, std::optional<int64_t> institution_id) {
  static const std::string sql =
      Cat("SELECT ", kCertificateColumns,
          " FROM certificate WHERE ?1 IS NULL OR institution_id = ?1 "
          "ORDER BY issued_at, serial");
  return Collect(tx, sql, ParseCertificate, institution_id);
}

absl::StatusOr<int64_t> CountOtherOperators(ReadTx& tx, int64_t id,
                                            absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto count,
      FindOne(
          tx,
          "SELECT count(DISTINCT i.id) FROM institution i "
          "JOIN certificate c ON c.institution_id = i.id "
          "WHERE i.role = 'operator' AND i.state = 'active' AND i.id <> ? AND "
          "c.revoked_at IS NULL AND c.not_after > ?",
          [](Statement& row) { return row.Int(0); }, id, now));
  return count.value_or(0);
}

absl::StatusOr<std::vector<std::string>> ListRevokedSerials(ReadTx& tx,
                                                            absl::Time now) {
  return Collect(
      tx,
      "SELECT serial FROM certificate WHERE revoked_at IS NOT NULL AND "
      "not_after > ? ORDER BY serial",
      [](Statement& row) { return row.Text(0); }, now);
}

absl::Status RevokeCertificate(WriteTx& tx, std::string_view serial,
                               absl::Time now, std::string_view reason) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE certificate SET reason = CASE WHEN revoked_at IS NULL THEN ?3 "
      "ELSE reason END, revoked_at = coalesce(revoked_at, ?2) "
      "WHERE serial = ?1",
      serial, now, TextOrNull{reason}));
  return MustHaveChanged(tx, Cat("certificate ", Quoted(serial)));
}

absl::StatusOr<int64_t> RevokeCertificatesOf(WriteTx& tx,
                                             int64_t institution_id,
                                             absl::Time now,
                                             std::string_view reason) {
  CONSILIUM_RETURN_IF_ERROR(
      tx.connection().Run("UPDATE certificate SET revoked_at = ?2, reason = ?3 "
                          "WHERE institution_id = ?1 AND revoked_at IS NULL",
                          institution_id, now, TextOrNull{reason}));
  return tx.connection().changes();
}

absl::Status InsertToken(WriteTx& tx, const TokenRow& row) {
  return tx.connection().Run(
      "INSERT INTO enrolment_token (token_hash, institution_id, role, "
      "expires_at, used_at, created_at, created_by) "
      "VALUES (?, ?, ?, ?, ?, ?, ?)",
      row.token_hash, row.institution_id, row.role, row.expires_at, row.used_at,
      row.created_at, row.created_by);
}

absl::StatusOr<TokenRow> ConsumeToken(WriteTx& tx, std::string_view token_hash,
                                      absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(TokenRow token, Required(FindToken(tx, token_hash),
                                                      "this enrolment token"));
  if (token.used_at.has_value()) {
    return absl::FailedPreconditionError(
        Cat("this enrolment token was used at ", FormatTime(*token.used_at),
            "; ask the coordinator's operator for a new one"));
  }
  if (now >= token.expires_at) {
    return absl::FailedPreconditionError(
        Cat("this enrolment token expired at ", FormatTime(token.expires_at),
            "; ask the coordinator's operator for a new one"));
  }
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE enrolment_token SET used_at = ? WHERE token_hash = ?", now,
      token_hash));
  token.used_at = now;
  return token;
}

absl::StatusOr<std::optional<TokenRow>> FindToken(ReadTx& tx,
                                                  std::string_view token_hash) {
  static const std::string sql = Cat(
      "SELECT ", kTokenColumns, " FROM enrolment_token WHERE token_hash = ?");
  return FindOne(tx, sql, ParseToken, token_hash);
}

absl::Status SetTokenIssued(WriteTx& tx, std::string_view token_hash,
                            std::string_view key_hash,
                            std::string_view chain_pem) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE enrolment_token SET key_hash = ?, chain_pem = ? "
      "WHERE token_hash = ? AND used_at IS NOT NULL",
      key_hash, chain_pem, token_hash));
  return MustHaveChanged(tx, "this enrolment token, used,");
}

absl::StatusOr<std::vector<TokenRow>> ListTokens(ReadTx& tx) {
  static const std::string sql =
      Cat("SELECT ", kTokenColumns,
          " FROM enrolment_token ORDER BY created_at, token_hash");
  return Collect(tx, sql, ParseToken);
}

absl::StatusOr<int64_t> DeleteUnusedTokens(WriteTx& tx,
                                           int64_t institution_id) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "DELETE FROM enrolment_token WHERE institution_id = ? AND "
      "used_at IS NULL",
      institution_id));
  return tx.connection().changes();
}

absl::StatusOr<int64_t> DeleteUnusedTokens(WriteTx& tx) {
  CONSILIUM_RETURN_IF_ERROR(
      tx.connection().Run("DELETE FROM enrolment_token WHERE used_at IS NULL"));
  return tx.connection().changes();
}

}  // namespace consilium

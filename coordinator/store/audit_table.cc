#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kColumns =
    "seq, at, actor, action, object, detail, prev_hash, hash";

AuditEntry ParseAudit(Statement& row) {
  AuditEntry out;
  out.seq = static_cast<uint64_t>(row.Int(0));
  out.at = row.Time(1);
  out.actor = row.Text(2);
  out.action = row.Text(3);
  out.object = row.Text(4);
  out.detail = row.Text(5);
  out.prev_hash = row.Digest(6);
  out.hash = row.Digest(7);
  return out;
}

}  // namespace

absl::StatusOr<AuditHead> GetAuditHead(ReadTx& tx) {
  AuditHead head;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
      [&head](Statement& row) {
        head.seq = static_cast<uint64_t>(row.Int(0));
        head.hash = row.Digest(1);
      }));
  return head;
}

absl::StatusOr<AuditEntry> AppendAudit(WriteTx& tx, AuditEntry entry) {
  CONSILIUM_ASSIGN_OR_RETURN(const AuditHead head, GetAuditHead(tx));
  entry = ChainEntry(head, std::move(entry));
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO audit (seq, at, actor, action, object, detail, prev_hash, "
      "hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      static_cast<int64_t>(entry.seq), entry.at, entry.actor, entry.action,
      entry.object, entry.detail, entry.prev_hash, entry.hash));
  return entry;
}

absl::StatusOr<std::vector<AuditEntry>> ListAudit(ReadTx& tx,
                                                  const Page& page) {
  CONSILIUM_RETURN_IF_ERROR(CheckPage(page));
  static const std::string up = Cat(
      "SELECT ", kColumns, " FROM audit WHERE seq > ? ORDER BY seq LIMIT ?");
  static const std::string down =
      Cat("SELECT ", kColumns,
          " FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?");
  return Collect(tx, page.descending ? down : up, ParseAudit, PageStart(page),
                 page.limit);
}

absl::StatusOr<std::optional<AuditEntry>> FindNewestAudit(
    ReadTx& tx, std::string_view action) {
  static const std::string sql =
      Cat("SELECT ", kColumns,
          " FROM audit WHERE action = ? ORDER BY seq DESC LIMIT 1");
  return FindOne(tx, sql, ParseAudit, action);
}

absl::StatusOr<AuditHead> VerifyAudit(ReadTx& tx, const CancelToken& cancel) {
  static const std::string sql =
      Cat("SELECT ", kColumns, " FROM audit ORDER BY seq");
  AuditVerifier verifier;
  CONSILIUM_ASSIGN_OR_RETURN(Statement statement, tx.connection().Prepare(sql));
  while (true) {
    CONSILIUM_RETURN_IF_ERROR(cancel.status());
    CONSILIUM_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return verifier.head();
    const AuditEntry entry = ParseAudit(statement);
    CONSILIUM_RETURN_IF_ERROR(statement.status());
    CONSILIUM_RETURN_IF_ERROR(verifier.Add(entry));
  }
}

}  // namespace consilium

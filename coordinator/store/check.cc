#include <set>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kRestore =
    "restore a backup with `consilium db restore`";
constexpr std::string_view kRestart =
    "restart the coordinator, which removes what no row names";

// One pass. Files are listed before the snapshot is taken and blobs are pinned,
// so that a round that goes on meanwhile does not look like damage.
class Checker {
 public:
  Checker(Store& store, const CheckOptions& options)
      : store_(store), cancel_(options.cancel), pin_(&store.blobs()) {
    report_.deep = options.deep;
  }

  absl::StatusOr<CheckReport> Run() {
    CONSILIUM_RETURN_IF_ERROR(ListFiles());
    CONSILIUM_RETURN_IF_ERROR(
        store_.history().Read([this](ReadTx& tx) -> absl::Status {
          CONSILIUM_ASSIGN_OR_RETURN(const bool usable, CheckDatabase(tx));
          if (!usable) return absl::OkStatus();
          usable_ = true;
          CONSILIUM_RETURN_IF_ERROR(ListRows(tx));
          CONSILIUM_RETURN_IF_ERROR(CheckServed(tx));
          CONSILIUM_RETURN_IF_ERROR(CheckKeys(tx));
          return CheckAudit(tx);
        }));
    if (!usable_) return std::move(report_);
    // Without a snapshot: while one is open, the log of writes only grows.
    CONSILIUM_RETURN_IF_ERROR(CheckBlobs());
    CONSILIUM_RETURN_IF_ERROR(CheckSpools());
    CheckStrays();
    return std::move(report_);
  }

 private:
  void Problem(std::string_view kind, std::string object, std::string detail,
               std::string_view fix) {
    report_.problems.push_back({std::string(kind), std::move(object),
                                std::move(detail), std::string(fix)});
  }

  absl::Status ListFiles();
  absl::StatusOr<bool> CheckDatabase(ReadTx& tx);
  absl::Status ListRows(ReadTx& tx);
  absl::Status CheckBlobs();
  void CheckBlob(const std::string& object, const BlobRef& ref);
  absl::Status CheckServed(ReadTx& tx);
  absl::Status CheckSpools();
  void CheckSpool(const ContributionRow& row);
  absl::Status CheckKeys(ReadTx& tx);
  absl::Status CheckAudit(ReadTx& tx);
  void CheckStrays();

  Store& store_;
  const CancelToken cancel_;
  BlobStore::Pin pin_;
  CheckReport report_;
  bool usable_ = false;
  BlobStore::Listing blobs_;
  std::vector<std::string> spools_;
  std::vector<std::pair<int64_t, int64_t>> keys_;
  struct NamedBlob {
    std::string object;
    BlobRef ref;
  };
  std::vector<NamedBlob> blob_rows_;
  std::vector<std::string> spool_ids_;  // contributions that have a spool
  // What rows name.
  std::set<Sha256Digest> named_blobs_;
  std::set<std::string> named_spools_;
  std::set<std::pair<int64_t, int64_t>> named_keys_;
};

absl::Status Checker::ListFiles() {
  CONSILIUM_ASSIGN_OR_RETURN(blobs_, store_.blobs().List());
  CONSILIUM_ASSIGN_OR_RETURN(spools_, store_.spools().List());
  CONSILIUM_ASSIGN_OR_RETURN(keys_, store_.round_keys().List());
  return absl::OkStatus();
}

// False: the tables cannot be trusted enough to go on.
absl::StatusOr<bool> Checker::CheckDatabase(ReadTx& tx) {
  Connection& connection = tx.connection();
  bool sound = true;
  const absl::Status walked =
      connection.Each("PRAGMA integrity_check(20)", [&](Statement& row) {
        const std::string line = row.Text(0);
        if (line == "ok") return;
        sound = false;
        Problem("database", "history.db", line, kRestore);
      });
  if (!walked.ok()) {
    Problem("database", "history.db", std::string(walked.message()), kRestore);
    return false;
  }
  // Any query could meet the damage.
  if (!sound) return false;
  CONSILIUM_RETURN_IF_ERROR(
      connection.Each("PRAGMA foreign_key_check", [&](Statement& row) {
        Problem("reference", Cat("table ", row.Text(0), " row ", row.Text(1)),
                Cat("refers to a row of ", row.Text(2), " that is not there"),
                kRestore);
      }));
  CONSILIUM_ASSIGN_OR_RETURN(report_.schema_version, SchemaVersion(connection));
  CONSILIUM_ASSIGN_OR_RETURN(report_.rounds,
                             connection.OneInt("SELECT count(*) FROM round"));
  CONSILIUM_ASSIGN_OR_RETURN(report_.versions,
                             connection.OneInt("SELECT count(*) FROM version"));
  CONSILIUM_ASSIGN_OR_RETURN(
      report_.contributions,
      connection.OneInt("SELECT count(*) FROM contribution"));
  CONSILIUM_ASSIGN_OR_RETURN(report_.audit_entries,
                             connection.OneInt("SELECT count(*) FROM audit"));
  return true;
}

void Checker::CheckBlob(const std::string& object, const BlobRef& ref) {
  if (!named_blobs_.insert(ref.digest).second) return;
  const BlobStore& blobs = store_.blobs();
  const absl::Status status = report_.deep
                                  ? blobs.Verify(ref.digest, ref.bytes)
                                  : blobs.Open(ref.digest, ref.bytes).status();
  if (!status.ok()) {
    Problem("blob", object, std::string(status.message()), kRestore);
    return;
  }
  ++report_.blobs;
  report_.blob_bytes += ref.bytes;
}

absl::Status Checker::ListRows(ReadTx& tx) {
  const auto parse = [](Statement& row) {
    return NamedBlob{row.Text(0), {row.Digest(1), row.Int(2)}};
  };
  CONSILIUM_ASSIGN_OR_RETURN(
      blob_rows_,
      Collect(tx,
              "SELECT 'version ' || number, digest, blob_bytes FROM version "
              "WHERE pruned_at IS NULL UNION ALL "
              "SELECT 'layout', layout_digest, layout_bytes FROM federation "
              "WHERE layout_bytes > 0",
              parse));
  CONSILIUM_ASSIGN_OR_RETURN(
      spool_ids_,
      Collect(tx,
              "SELECT id FROM contribution WHERE spool_path IS NOT NULL "
              "ORDER BY round, attempt, institution_id, id",
              [](Statement& row) { return row.Text(0); }));
  return absl::OkStatus();
}

absl::Status Checker::CheckBlobs() {
  for (const NamedBlob& row : blob_rows_) {
    CONSILIUM_RETURN_IF_ERROR(cancel_.status());
    CheckBlob(row.object, row.ref);
  }
  return absl::OkStatus();
}

absl::Status Checker::CheckServed(ReadTx& tx) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<FederationRow> federation,
                             FindFederation(tx));
  if (!federation.has_value() || !federation->current_version.has_value()) {
    return absl::OkStatus();
  }
  CONSILIUM_ASSIGN_OR_RETURN(const VersionRow row,
                             GetVersion(tx, *federation->current_version));
  if (row.state != VersionState::kPromoted || row.pruned_at.has_value()) {
    Problem("reference", Cat("version ", row.number),
            Cat("is the current version and is ",
                row.pruned_at.has_value() ? "pruned" : ToString(row.state)),
            "promote another version with `consilium version promote`");
  }
  return absl::OkStatus();
}

void Checker::CheckSpool(const ContributionRow& row) {
  const std::string object = Cat("contribution ", row.id);
  named_spools_.insert(row.spool_path);
  const bool dead = row.state == ContributionState::kSuperseded ||
                    row.state == ContributionState::kExpired;
  if (dead) return;  // may be gone already
  absl::StatusOr<std::unique_ptr<SpoolReader>> reader =
      store_.spools().OpenReader(row.spool_path);
  if (!reader.ok()) {
    Problem("spool", object,
            Cat("is ", ToString(row.state), ", and its spool cannot be read: ",
                StdView(reader.status().message())),
            "quarantine it, or cancel its round");
    return;
  }
  const SpoolHeader& header = (*reader)->header();
  if (header.manifest != row.manifest || header.sealed != row.sealed) {
    Problem("spool", object,
            Cat(row.spool_path, " holds another upload than its row says"),
            "quarantine it, or cancel its round");
    return;
  }
  const bool whole = row.state == ContributionState::kCommitted ||
                     row.state == ContributionState::kFolded;
  if (whole && !(*reader)->complete()) {
    Problem("spool", object,
            Cat("is ", ToString(row.state), ", and its spool holds ",
                (*reader)->records(), " of ", header.total_chunks, " chunks"),
            "quarantine it, or cancel its round");
    return;
  }
  ++report_.spools;
  report_.spool_bytes += (*reader)->file_bytes();
}

absl::Status Checker::CheckSpools() {
  for (const std::string& id : spool_ids_) {
    CONSILIUM_RETURN_IF_ERROR(cancel_.status());
    // One at a time: a manifest may be large.
    std::optional<ContributionRow> row;
    CONSILIUM_RETURN_IF_ERROR(
        store_.history().Read([&](ReadTx& tx) -> absl::Status {
          CONSILIUM_ASSIGN_OR_RETURN(row, FindContribution(tx, id));
          return absl::OkStatus();
        }));
    // Retention may have come between.
    if (row.has_value() && !row->spool_path.empty()) CheckSpool(*row);
  }
  return absl::OkStatus();
}

absl::Status Checker::CheckKeys(ReadTx& tx) {
  struct Live {
    int64_t round, attempt;
    std::string public_key;
  };
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::vector<Live> live,
      Collect(tx,
              "SELECT id, attempt, round_public_key FROM round "
              "WHERE round_key_state = 'live' ORDER BY id",
              [](Statement& row) {
                return Live{row.Int(0), row.Int(1), row.Blob(2)};
              }));
  for (const Live& key : live) {
    named_keys_.insert({key.round, key.attempt});
    const std::string object =
        Cat("round ", key.round, " attempt ", key.attempt);
    const absl::StatusOr<RoundKeyRecord> record =
        store_.round_keys().Load(key.round, key.attempt);
    if (!record.ok()) {
      Problem("key", object, std::string(record.status().message()),
              "cancel the round if it is open; it cannot be replayed");
    } else if (!key.public_key.empty() &&
               AsChars(record->public_key) != key.public_key) {
      Problem("key", object,
              "its key file holds another key than was announced",
              "cancel the round if it is open; it cannot be replayed");
    }
  }
  return absl::OkStatus();
}

absl::Status Checker::CheckAudit(ReadTx& tx) {
  const absl::Status status = VerifyAudit(tx, cancel_).status();
  if (absl::IsDataLoss(status)) {
    Problem("audit", "audit log", std::string(status.message()),
            "treat entries from there on as forged or damaged, and compare "
            "them with a backup");
    return absl::OkStatus();
  }
  return status;
}

void Checker::CheckStrays() {
  for (const BlobRef& blob : blobs_.blobs) {
    if (named_blobs_.contains(blob.digest)) continue;
    if (store_.blobs().IsPending(blob.digest)) continue;
    Problem("stray", store_.blobs().PathOf(blob.digest),
            "no version names this blob", kRestart);
  }
  for (const std::string& path : blobs_.strays) {
    Problem("stray", path, "does not belong in the blob folder",
            "move it out of the data directory");
  }
  for (const std::string& path : blobs_.temps) {
    Problem("stray", path, "a temporary file that nobody writes", kRestart);
  }
  for (const std::string& path : spools_) {
    if (named_spools_.contains(path)) continue;
    Problem("stray", path, "no contribution names this spool", kRestart);
  }
  for (const auto& key : keys_) {
    if (named_keys_.contains(key)) continue;
    Problem("stray", Cat("round ", key.first, " attempt ", key.second),
            "has a key file, and its row says it has none", kRestart);
  }
}

}  // namespace

absl::StatusOr<CheckReport> CheckStore(Store& store,
                                       const CheckOptions& options) {
  CONSILIUM_ASSIGN_OR_RETURN(CheckReport report, Checker(store, options).Run());
  if (report.clean() || store.read_only()) return report;
  // A running coordinator moves between the listing and the snapshot; only
  // what a second pass finds again is damage.
  CONSILIUM_ASSIGN_OR_RETURN(CheckReport again, Checker(store, options).Run());
  std::set<std::pair<std::string, std::string>> before;
  for (const CheckProblem& problem : report.problems) {
    before.emplace(problem.kind, problem.object);
  }
  std::erase_if(again.problems, [&before](const CheckProblem& problem) {
    return !before.contains({problem.kind, problem.object});
  });
  return again;
}

}  // namespace consilium

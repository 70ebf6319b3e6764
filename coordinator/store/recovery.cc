// Store::Recover and Store::ApplyRetention: what brings files and rows into
// agreement. FORMAT.md sections 7 and 8 number the steps.

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/store.h"
#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

using Attempt = std::pair<int64_t, int64_t>;  // (round, attempt)

// Uploads that can never finish, and spools that nobody needs any more. Rows
// first: a file that no row names is garbage, a row without its file is not.
absl::Status ReleaseDeadContributions(WriteTx& tx, absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "INSERT INTO round_event (round, attempt, at, kind, institution, detail) "
      "SELECT c.round, c.attempt, ?1, 'upload_expired', i.name, "
      " 'upload ' || c.id || ' was cut off by the end of its round' "
      "FROM contribution c JOIN round r ON r.id = c.round "
      "JOIN institution i ON i.id = c.institution_id "
      "WHERE c.state = 'uploading' AND "
      "(r.finished_at IS NOT NULL OR r.attempt > c.attempt) ORDER BY c.id",
      now));
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Run(
      "UPDATE contribution SET state = 'expired', "
      "reason = coalesce(reason, 'its round ended before the upload did') "
      "WHERE state = 'uploading' AND EXISTS ("
      " SELECT 1 FROM round r WHERE r.id = contribution.round AND "
      " (r.finished_at IS NOT NULL OR r.attempt > contribution.attempt))"));
  return tx.connection().Run(
      "UPDATE contribution SET spool_path = NULL "
      "WHERE state IN ('superseded', 'expired') AND spool_path IS NOT NULL");
}

absl::StatusOr<std::vector<std::string>> NamedSpools(ReadTx& tx) {
  return Collect(tx,
                 "SELECT spool_path FROM contribution "
                 "WHERE spool_path IS NOT NULL ORDER BY spool_path",
                 [](Statement& row) { return row.Text(0); });
}

struct LiveKey {
  Attempt attempt;
  bool finished = false;
};

absl::StatusOr<std::vector<LiveKey>> LiveKeys(ReadTx& tx) {
  return Collect(tx,
                 "SELECT id, attempt, finished_at IS NOT NULL FROM round "
                 "WHERE round_key_state = 'live' ORDER BY id",
                 [](Statement& row) {
                   return LiveKey{{row.Int(0), row.Int(1)}, row.Bool(2)};
                 });
}

// Contributions that an open round still counts on.
absl::StatusOr<std::vector<std::string>> LiveContributionIds(ReadTx& tx) {
  return Collect(
      tx,
      "SELECT c.id FROM contribution c JOIN round r ON r.id = c.round "
      "WHERE r.finished_at IS NULL AND c.attempt = r.attempt AND "
      "c.state IN ('uploading', 'committed') "
      "ORDER BY c.round, c.institution_id",
      [](Statement& row) { return row.Text(0); });
}

// Rounds whose files are past their time: finished, and still holding a key or
// a spool.
absl::StatusOr<std::vector<int64_t>> RoundsToRelease(ReadTx& tx,
                                                     absl::Time finished_by) {
  return Collect(
      tx,
      "SELECT id FROM round r WHERE finished_at <= ? AND "
      "(round_key_state = 'live' OR EXISTS (SELECT 1 FROM contribution c "
      " WHERE c.round = r.id AND c.spool_path IS NOT NULL)) ORDER BY id",
      [](Statement& row) { return row.Int(0); }, finished_by);
}

// Versions that go: not the current one, not the newest or the newest promoted
// ones, and nothing that an open or replayable round needs. A candidate whose
// round is over counts like a rejected one: a replay made it, and nobody took
// it.
absl::StatusOr<std::vector<int64_t>> PruneVersions(WriteTx& tx, int64_t keep,
                                                   absl::Time now) {
  std::vector<int64_t> pruned;
  CONSILIUM_RETURN_IF_ERROR(tx.connection().Each(
      "UPDATE version SET pruned_at = ?1 WHERE pruned_at IS NULL AND "
      "(state <> 'candidate' OR EXISTS (SELECT 1 FROM round r"
      "  WHERE r.id = version.round AND r.finished_at IS NOT NULL)) AND "
      "number NOT IN ("
      " SELECT current_version FROM federation"
      "  WHERE current_version IS NOT NULL"
      " UNION SELECT number FROM (SELECT number FROM version"
      "  ORDER BY number DESC LIMIT ?2)"
      " UNION SELECT number FROM (SELECT v.number FROM version v"
      "  WHERE v.state = 'promoted' AND v.number NOT IN ("
      "   SELECT current_version FROM federation"
      "    WHERE current_version IS NOT NULL)"
      "  ORDER BY v.number DESC LIMIT ?2)"
      " UNION SELECT base_version FROM round r WHERE finished_at IS NULL OR"
      "  EXISTS (SELECT 1 FROM contribution c"
      "   WHERE c.round = r.id AND c.spool_path IS NOT NULL)"
      " UNION SELECT candidate_version FROM round"
      "  WHERE finished_at IS NULL AND candidate_version IS NOT NULL) "
      "RETURNING number",
      [&pruned](Statement& row) { pruned.push_back(row.Int(0)); }, now, keep));
  std::sort(pruned.begin(), pruned.end());
  return pruned;
}

absl::Status RequireWritable(const Store& store) {
  if (!store.read_only()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      Cat(store.data_dir(), ": the store is open read-only"));
}

}  // namespace

absl::Status Store::RemoveUnnamedSpools(RecoveryReport& report) {
  std::vector<std::string> named;
  CONSILIUM_RETURN_IF_ERROR(history_->Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(named, NamedSpools(tx));
    return absl::OkStatus();
  }));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> files,
                             spools_.List());
  for (const std::string& path : files) {
    if (std::binary_search(named.begin(), named.end(), path)) continue;
    CONSILIUM_RETURN_IF_ERROR(spools_.Remove(path));
    ++report.spools_removed;
  }
  return spools_.RemoveEmptyFolders();
}

// A key file lives exactly as long as its round's row says "live".
absl::Status Store::ReconcileKeys(RecoveryReport& report) {
  std::vector<LiveKey> live;
  CONSILIUM_RETURN_IF_ERROR(history_->Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(live, LiveKeys(tx));
    return absl::OkStatus();
  }));
  CONSILIUM_ASSIGN_OR_RETURN(report.keys_removed, round_keys_.RemoveTemps());
  std::set<Attempt> wanted;
  for (const LiveKey& key : live) {
    wanted.insert(key.attempt);
    const auto [round, attempt] = key.attempt;
    const absl::Status found = round_keys_.Load(round, attempt).status();
    if (found.ok()) continue;
    if (IsLocalError(found) && !absl::IsNotFound(found)) return found;
    if (!absl::IsNotFound(found) && !absl::IsDataLoss(found)) return found;
    report.keys_missing.push_back(key.attempt);
    if (!key.finished) continue;
    // Its destruction was under way: finish it.
    CONSILIUM_RETURN_IF_ERROR(round_keys_.Destroy(round, attempt));
    CONSILIUM_RETURN_IF_ERROR(
        history_->Write([round = round](WriteTx& tx) -> absl::Status {
          return SetRoundKeyState(tx, round, RoundKeyState::kDestroyed);
        }));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<Attempt> files,
                             round_keys_.List());
  for (const Attempt& file : files) {
    if (wanted.contains(file)) continue;
    CONSILIUM_RETURN_IF_ERROR(round_keys_.Destroy(file.first, file.second));
    ++report.keys_removed;
  }
  return absl::OkStatus();
}

absl::Status Store::SortLiveContributions(RecoveryReport& report) {
  return history_->Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> ids,
                               LiveContributionIds(tx));
    for (const std::string& id : ids) {
      CONSILIUM_ASSIGN_OR_RETURN(std::optional<ContributionRow> row,
                                 FindContribution(tx, id));
      if (!row.has_value()) continue;
      const bool there =
          options_.fs->Exists(JoinPath(options_.data_dir, row->spool_path));
      std::vector<ContributionRow>& list =
          !there                                        ? report.lost
          : row->state == ContributionState::kCommitted ? report.committed
                                                        : report.uploading;
      list.push_back(*std::move(row));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<RecoveryReport> Store::Recover(absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(RequireWritable(*this));
  RecoveryReport report;
  CONSILIUM_ASSIGN_OR_RETURN(const BlobStore::Collected collected,
                             CollectGarbage());
  report.temps_removed = collected.temps;
  report.blobs_removed = collected.blobs;
  CONSILIUM_RETURN_IF_ERROR(history_->Write(
      [now](WriteTx& tx) { return ReleaseDeadContributions(tx, now); }));
  CONSILIUM_RETURN_IF_ERROR(RemoveUnnamedSpools(report));
  CONSILIUM_RETURN_IF_ERROR(ReconcileKeys(report));
  CONSILIUM_RETURN_IF_ERROR(SortLiveContributions(report));
  return report;
}

absl::Status Store::ReleaseRound(int64_t round, RetentionReport& report) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<Attempt> keys,
                             round_keys_.List());
  for (const Attempt& key : keys) {
    if (key.first != round) continue;
    CONSILIUM_RETURN_IF_ERROR(round_keys_.Destroy(key.first, key.second));
    report.keys_destroyed.push_back(key);
  }
  std::vector<std::string> spools;
  CONSILIUM_RETURN_IF_ERROR(history_->Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(
        tx.connection().Run("UPDATE round SET round_key_state = 'destroyed' "
                            "WHERE id = ? AND round_key_state = 'live'",
                            round));
    CONSILIUM_ASSIGN_OR_RETURN(
        spools, Collect(
                    tx,
                    "SELECT spool_path FROM contribution "
                    "WHERE round = ? AND spool_path IS NOT NULL",
                    [](Statement& row) { return row.Text(0); }, round));
    // Nothing can count once its spool is gone.
    return tx.connection().Run(
        "UPDATE contribution SET spool_path = NULL, reason = "
        "iif(state IN ('uploading', 'committed'), "
        " coalesce(reason, 'its round ended without it'), reason), "
        "state = iif(state IN ('uploading', 'committed'), 'expired', state) "
        "WHERE round = ? AND spool_path IS NOT NULL",
        round);
  }));
  MutexLock lock(&doomed_mu_);
  doomed_.insert(doomed_.end(), spools.begin(), spools.end());
  return absl::OkStatus();
}

absl::Status Store::RemoveDoomedSpools(RetentionReport& report) {
  MutexLock lock(&doomed_mu_);
  if (doomed_.empty()) return absl::OkStatus();
  while (!doomed_.empty()) {
    const std::string& path = doomed_.back();
    const absl::StatusOr<FileInfo> info =
        options_.fs->Stat(JoinPath(options_.data_dir, path));
    CONSILIUM_RETURN_IF_ERROR(spools_.Remove(path));
    if (info.ok()) report.bytes_freed += info->size;
    ++report.spools_removed;
    doomed_.pop_back();
  }
  return spools_.RemoveEmptyFolders();
}

absl::StatusOr<RetentionReport> Store::ApplyRetention(
    const RetentionPolicy& policy, absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(RequireWritable(*this));
  if (policy.spool_retention < absl::ZeroDuration() ||
      policy.keep_versions < 0) {
    return absl::InvalidArgumentError(Cat(
        "spool_retention ", FormatDuration(policy.spool_retention),
        " and keep_versions ", policy.keep_versions, " must not be negative"));
  }
  RetentionReport report;
  std::vector<int64_t> rounds;
  CONSILIUM_RETURN_IF_ERROR(history_->Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(
        rounds, RoundsToRelease(tx, now - policy.spool_retention));
    return absl::OkStatus();
  }));
  for (const int64_t round : rounds) {
    CONSILIUM_RETURN_IF_ERROR(ReleaseRound(round, report));
  }
  // Also those that an error left the last time; no row names them any more.
  CONSILIUM_RETURN_IF_ERROR(RemoveDoomedSpools(report));
  CONSILIUM_RETURN_IF_ERROR(history_->Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(report.versions_pruned,
                               PruneVersions(tx, policy.keep_versions, now));
    return absl::OkStatus();
  }));
  CONSILIUM_ASSIGN_OR_RETURN(const BlobStore::Collected collected,
                             CollectGarbage());
  report.bytes_freed += collected.bytes;
  return report;
}

}  // namespace consilium

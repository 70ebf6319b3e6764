#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/round/round_json.h"
#include "coordinator/round/round_machine.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/round_state.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/table_util.h"

namespace consilium {
namespace {

constexpr std::string_view kDatabase = "history.db";
constexpr std::string_view kBlobs = "blobs";
constexpr std::string_view kManifest = "backup.txt";
constexpr std::string_view kFirstLine = "consilium-backup 1";
constexpr std::string_view kLastLine = "end";
constexpr int64_t kMaxManifestBytes = int64_t{64} << 20;
constexpr size_t kCopyBytes = size_t{1} << 20;

// One line of backup.txt: what, digest, bytes.
struct Entry {
  std::string what;  // database or blob
  BlobRef ref;
};

struct Manifest {
  std::string created;         // the time, as written
  std::vector<Entry> entries;  // the database first
};

std::string BlobPath(const std::string& dir, const Sha256Digest& digest) {
  const std::string hex = digest.Hex();
  return JoinPath(JoinPath(JoinPath(dir, kBlobs), hex.substr(0, 2)), hex);
}

// Copies a file, durably but for its name, and gives digest and size.
absl::StatusOr<BlobRef> CopyFile(FileSystem* fs, File* from,
                                 const std::string& to,
                                 const CancelToken& cancel) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> out,
      fs->Open(to, {.write = true, .create = true, .truncate = true}));
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  std::vector<std::byte> buffer(kCopyBytes);
  int64_t at = 0;
  while (true) {
    CONSILIUM_RETURN_IF_ERROR(cancel.status());
    CONSILIUM_ASSIGN_OR_RETURN(const size_t got, from->ReadAt(at, buffer));
    if (got == 0) break;
    const auto part = std::span<const std::byte>(buffer).first(got);
    hasher->Update(part);
    CONSILIUM_RETURN_IF_ERROR(out->WriteAt(at, part));
    at += static_cast<int64_t>(got);
  }
  CONSILIUM_RETURN_IF_ERROR(out->Sync());
  return BlobRef{hasher->Finish(), at};
}

absl::StatusOr<BlobRef> DigestOf(FileSystem* fs, const std::string& path,
                                 const CancelToken& cancel) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             fs->Open(path, {}));
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  std::vector<std::byte> buffer(kCopyBytes);
  int64_t at = 0;
  while (true) {
    CONSILIUM_RETURN_IF_ERROR(cancel.status());
    CONSILIUM_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(at, buffer));
    if (got == 0) break;
    hasher->Update(std::span<const std::byte>(buffer).first(got));
    at += static_cast<int64_t>(got);
  }
  return BlobRef{hasher->Finish(), at};
}

// Copies a blob to its place under `dir`; its digest must be its name.
absl::Status CopyBlob(FileSystem* fs, File* from, const BlobRef& ref,
                      const std::string& dir, const CancelToken& cancel) {
  const std::string to = BlobPath(dir, ref.digest);
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(DirName(to)));
  CONSILIUM_ASSIGN_OR_RETURN(const BlobRef copied,
                             CopyFile(fs, from, to, cancel));
  if (copied.digest != ref.digest || copied.bytes != ref.bytes) {
    return absl::DataLossError(Cat("blob ", from->path(),
                                   " is damaged: ", copied.bytes,
                                   " bytes with SHA-256 ", copied.digest.Hex(),
                                   ", expected ", ref.bytes, " bytes"));
  }
  return fs->SyncDir(DirName(to));
}

std::string FormatManifest(const std::vector<Entry>& entries, absl::Time now) {
  std::string out = Cat(kFirstLine, "\ncreated ", FormatTime(now), "\n");
  for (const Entry& entry : entries) {
    CatInto(out, entry.what, " ", entry.ref.digest.Hex(), " ", entry.ref.bytes,
            "\n");
  }
  CatInto(out, kLastLine, "\n");
  return out;
}

absl::StatusOr<Manifest> ReadManifest(FileSystem* fs, const std::string& dir) {
  const std::string path = JoinPath(dir, kManifest);
  absl::StatusOr<std::string> text = ReadWholeFile(fs, path, kMaxManifestBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::DataLossError(
        Cat("no ", path, ": this is no backup, or one that did not finish"));
  }
  CONSILIUM_RETURN_IF_ERROR(text.status());
  const auto damaged = [&path](std::string_view why) {
    return absl::DataLossError(Cat("backup ", path, ": ", why));
  };
  const std::vector<std::string> lines = absl::StrSplit(*text, '\n');
  if (lines.front() != kFirstLine) return damaged("its format is not known");
  if (lines.size() < 4 || lines[lines.size() - 2] != kLastLine) {
    return damaged("it is cut off");
  }
  constexpr std::string_view kCreated = "created ";
  absl::Time when;
  if (!lines[1].starts_with(kCreated) ||
      !absl::ParseTime(absl::RFC3339_full, lines[1].substr(kCreated.size()),
                       &when, nullptr)) {
    return damaged("it does not say when it was made");
  }
  Manifest manifest;
  manifest.created = FormatTime(when);
  std::vector<Entry>& entries = manifest.entries;
  for (size_t i = 2; i + 2 < lines.size(); ++i) {
    const std::vector<std::string> words = absl::StrSplit(lines[i], ' ');
    Entry entry;
    if (words.size() != 3 || !absl::SimpleAtoi(words[2], &entry.ref.bytes)) {
      return damaged(Cat("line ", i + 1, " is ", Quoted(lines[i])));
    }
    entry.what = words[0];
    CONSILIUM_ASSIGN_OR_RETURN(entry.ref.digest,
                               Sha256Digest::FromHex(words[1]));
    entries.push_back(std::move(entry));
  }
  if (entries.empty() || entries.front().what != "database") {
    return damaged("it names no database");
  }
  return manifest;
}

absl::StatusOr<bool> IsEmptyDir(FileSystem* fs, const std::string& dir) {
  if (!fs->Exists(dir)) return true;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             fs->List(dir));
  return names.empty();
}

// Ends a round as an operator's cancel would: what asks about it later, and
// its members, hear the same everywhere.
absl::Status CancelRound(WriteTx& tx, const RoundRow& round,
                         const std::string& reason, absl::Time now) {
  const auto state = RoundStateFromJson(round.state_json);
  if (!state.ok()) {
    return absl::DataLossError(Cat("backup: the state of round ", round.id,
                                   ": ", StdView(state.status().message())));
  }
  // At its own time: what fell due since then did not happen.
  CONSILIUM_ASSIGN_OR_RETURN(Transition cancelled,
                             Apply(*state, Cancel{reason}, state->clock));
  cancelled.state.clock = absl::FromUnixMicros(absl::ToUnixMicros(now));
  cancelled.state.finished_at = cancelled.state.clock;
  return StoreRoundState(tx, *state, cancelled.state);
}

// Somebody whom a history says to be revoked.
struct Revoked {
  InstitutionRow row;
  std::vector<CertificateRow> certificates;
};

absl::StatusOr<std::vector<Revoked>> ReadRevoked(const std::string& data_dir,
                                                 const std::string& vfs) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<HistoryStore> history,
      HistoryStore::Open({.path = JoinPath(data_dir, kDatabase),
                          .vfs = vfs,
                          .read_only = true,
                          .max_readers = 1}));
  std::vector<Revoked> revoked;
  CONSILIUM_RETURN_IF_ERROR(history->Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(std::vector<InstitutionRow> rows,
                               ListInstitutions(tx));
    for (InstitutionRow& row : rows) {
      if (row.state != InstitutionState::kRevoked) continue;
      CONSILIUM_ASSIGN_OR_RETURN(std::vector<CertificateRow> certificates,
                                 ListCertificates(tx, row.id));
      revoked.push_back({std::move(row), std::move(certificates)});
    }
    return absl::OkStatus();
  }));
  return revoked;
}

// Whoever was revoked after the backup stays so, with certificates that the
// backup does not know.
absl::Status RevokeAgain(WriteTx& tx, const Revoked& revoked, absl::Time now,
                         RestoreReport& report) {
  CONSILIUM_ASSIGN_OR_RETURN(const auto found,
                             FindInstitution(tx, revoked.row.name));
  if (found.has_value() && found->state == InstitutionState::kRevoked) {
    return absl::OkStatus();
  }
  int64_t id = 0;
  if (found.has_value()) {
    id = found->id;
    CONSILIUM_RETURN_IF_ERROR(
        SetInstitutionState(tx, id, InstitutionState::kRevoked, now));
  } else {
    CONSILIUM_ASSIGN_OR_RETURN(id, InsertInstitution(tx, revoked.row));
  }
  for (CertificateRow certificate : revoked.certificates) {
    CONSILIUM_ASSIGN_OR_RETURN(const auto known,
                               FindCertificate(tx, certificate.serial));
    if (known.has_value()) continue;
    certificate.institution_id = id;
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, certificate));
  }
  report.revoked_again.push_back(revoked.row.name);
  return RevokeCertificatesOf(tx, id, now,
                              "revoked after the backup that was restored")
      .status();
}

// Ends the rounds that cannot go on without spools and keys. One that is under
// evaluation has its candidate in the backup and goes on.
absl::Status SettleRestored(WriteTx& tx, const RestoreOptions& options,
                            const absl::StatusOr<std::vector<Revoked>>& revoked,
                            absl::Time now, RestoreReport& report) {
  Connection& db = tx.connection();
  const std::string reason =
      Cat("restored from a backup of ", report.created,
          ", which holds no contributions to rounds under way");
  CONSILIUM_RETURN_IF_ERROR(
      db.Run("UPDATE contribution SET state = 'expired', reason = ? "
             "WHERE state IN ('uploading', 'committed')",
             reason));
  report.contributions_expired = db.changes();
  CONSILIUM_RETURN_IF_ERROR(
      db.Run("UPDATE contribution SET spool_path = NULL "
             "WHERE spool_path IS NOT NULL"));
  CONSILIUM_RETURN_IF_ERROR(
      db.Run("UPDATE round SET round_key_state = 'destroyed' "
             "WHERE round_key_state = 'live'"));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<RoundRow> open,
                             ListOpenRounds(tx));
  for (const RoundRow& round : open) {
    if (round.state == RoundPhaseName(RoundPhase::kEvaluating)) continue;
    CONSILIUM_RETURN_IF_ERROR(CancelRound(tx, round, reason, now));
    ++report.rounds_cancelled;
  }
  // Any of them may have been used since.
  CONSILIUM_ASSIGN_OR_RETURN(report.tokens_voided, DeleteUnusedTokens(tx));
  report.revocations_known = revoked.ok();
  if (revoked.ok()) {
    for (const Revoked& one : *revoked) {
      CONSILIUM_RETURN_IF_ERROR(RevokeAgain(tx, one, now, report));
    }
  }
  AuditEntry entry;
  entry.at = now;
  entry.actor = options.actor;
  entry.action = "db.restore";
  entry.object = options.backup_dir;
  entry.detail = Cat(report.rounds_cancelled, " open rounds cancelled, ",
                     report.tokens_voided, " unused enrolment tokens void");
  for (const std::string& name : report.revoked_again) {
    CatInto(entry.detail, ", ", name, " revoked again");
  }
  if (!report.revocations_known) {
    CatInto(entry.detail, "; revocations since ", report.created,
            " are not known and must be repeated");
  }
  return AppendAudit(tx, std::move(entry)).status();
}

}  // namespace

namespace {

absl::StatusOr<BackupReport> FillBackup(Store& store, const std::string& dir,
                                        absl::Time now,
                                        const CancelToken& cancel) {
  FileSystem* fs = store.fs();
  const BlobStore::Pin pin(&store.blobs());
  const std::string database = JoinPath(dir, kDatabase);
  std::vector<BlobRef> blobs;
  CONSILIUM_RETURN_IF_ERROR(
      store.history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(blobs, ListLiveBlobs(tx));
        return store.history().BackupTo(tx, database);
      }));

  BackupReport report;
  std::vector<Entry> entries;
  CONSILIUM_ASSIGN_OR_RETURN(const BlobRef db, DigestOf(fs, database, cancel));
  entries.push_back({"database", db});
  report.database_bytes = db.bytes;
  for (const BlobRef& blob : blobs) {
    CONSILIUM_RETURN_IF_ERROR(cancel.status());
    CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                               store.blobs().Open(blob.digest, blob.bytes));
    CONSILIUM_RETURN_IF_ERROR(CopyBlob(fs, file.get(), blob, dir, cancel));
    entries.push_back({"blob", blob});
    ++report.blobs;
    report.blob_bytes += blob.bytes;
  }
  // Last: without it the folder is no backup.
  const std::string manifest = FormatManifest(entries, now);
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, JoinPath(dir, kManifest), AsBytes(manifest)));
  return report;
}

// What a backup that failed has written; the same folder may be given again.
void RemoveBackup(FileSystem* fs, const std::string& dir, bool made) {
  // The manifest first: a part of a backup is none.
  for (const std::string& name :
       {std::string(kManifest), std::string(kDatabase),
        Cat(kDatabase, "-journal"), std::string(kBlobs)}) {
    (void)fs->RemoveTree(JoinPath(dir, name));
  }
  if (made) (void)fs->Remove(dir);
}

}  // namespace

absl::StatusOr<BackupReport> BackupStore(Store& store, const std::string& dir,
                                         absl::Time now,
                                         const CancelToken& cancel) {
  FileSystem* fs = store.fs();
  CONSILIUM_ASSIGN_OR_RETURN(const bool empty, IsEmptyDir(fs, dir));
  if (!empty) {
    return absl::FailedPreconditionError(
        Cat("backup folder ", dir, " is not empty; give a new one"));
  }
  const bool made = !fs->Exists(dir);
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(dir));
  const absl::Status begun =
      fs->Open(JoinPath(dir, kDatabase),
               {.write = true, .create = true, .exclusive = true})
          .status();
  if (!begun.ok()) {
    // Stays where it holds what another call has begun.
    if (made) (void)fs->Remove(dir);
    return begun;
  }
  // From here on the folder is this call's.
  absl::StatusOr<BackupReport> report = FillBackup(store, dir, now, cancel);
  if (!report.ok()) RemoveBackup(fs, dir, made);
  return report;
}

namespace {

// Everything of the backup into `dir`, verified; the database comes last.
absl::Status CopyBackup(FileSystem* fs, const RestoreOptions& options,
                        const std::vector<Entry>& entries,
                        const std::string& dir, RestoreReport& report) {
  for (const Entry& entry : entries) {
    if (entry.what != "blob") continue;
    const std::string from = BlobPath(options.backup_dir, entry.ref.digest);
    CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                               fs->Open(from, {}));
    CONSILIUM_RETURN_IF_ERROR(CopyBlob(fs, file.get(), entry.ref, dir, {}));
    ++report.blobs;
    report.blob_bytes += entry.ref.bytes;
  }
  const std::string from = JoinPath(options.backup_dir, kDatabase);
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             fs->Open(from, {}));
  CONSILIUM_ASSIGN_OR_RETURN(
      const BlobRef copied,
      CopyFile(fs, file.get(), JoinPath(dir, kDatabase), {}));
  if (copied.digest != entries.front().ref.digest) {
    return absl::DataLossError(Cat("backup ", from, " is damaged: its SHA-256 ",
                                   "is ", copied.digest.Hex()));
  }
  return fs->SyncDir(dir);
}

absl::Status SettleCopy(FileSystem* fs, const RestoreOptions& options,
                        const absl::StatusOr<std::vector<Revoked>>& revoked,
                        const std::string& dir, absl::Time now,
                        RestoreReport& report) {
  StoreOptions copy;
  copy.fs = fs;
  copy.data_dir = dir;
  copy.vfs = options.vfs;
  copy.syncer_threads = 0;
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                             Store::Open(std::move(copy)));
  CONSILIUM_RETURN_IF_ERROR(
      store->history().Write([&](WriteTx& tx) -> absl::Status {
        return SettleRestored(tx, options, revoked, now, report);
      }));
  return store->Close();
}

}  // namespace

absl::StatusOr<RestoreReport> RestoreStore(const RestoreOptions& options,
                                           absl::Time now) {
  FileSystem* fs = options.fs != nullptr ? options.fs : PosixFileSystem();
  CONSILIUM_ASSIGN_OR_RETURN(const Manifest manifest,
                             ReadManifest(fs, options.backup_dir));
  CONSILIUM_ASSIGN_OR_RETURN(const bool empty,
                             IsEmptyDir(fs, options.data_dir));
  const std::string kept = Cat(options.data_dir, ".before-restore");
  std::unique_ptr<FileLock> lock;
  if (!empty) {
    if (!options.force) {
      return absl::FailedPreconditionError(
          Cat(options.data_dir, " is not empty; with --force it is kept as ",
              kept, " and replaced"));
    }
    if (fs->Exists(kept)) {
      return absl::FailedPreconditionError(
          Cat(kept, " is there from an earlier restore; move it away"));
    }
    // Fails when a coordinator runs on it.
    CONSILIUM_ASSIGN_OR_RETURN(
        lock, fs->LockFile(JoinPath(options.data_dir, "lock")));
  }
  // Built beside its place: until the renames nothing of the old is touched.
  const std::string building = Cat(options.data_dir, ".restoring");
  CONSILIUM_RETURN_IF_ERROR(fs->RemoveTree(building));
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(building));
  RestoreReport report;
  report.created = manifest.created;
  CONSILIUM_RETURN_IF_ERROR(
      CopyBackup(fs, options, manifest.entries, building, report));
  CONSILIUM_RETURN_IF_ERROR(
      SettleCopy(fs, options, ReadRevoked(options.data_dir, options.vfs),
                 building, now, report));
  if (!empty) {
    CONSILIUM_RETURN_IF_ERROR(RenameDurably(fs, options.data_dir, kept));
  } else if (fs->Exists(options.data_dir)) {
    CONSILIUM_RETURN_IF_ERROR(fs->Remove(options.data_dir));
  }
  CONSILIUM_RETURN_IF_ERROR(RenameDurably(fs, building, options.data_dir));
  return report;
}

}  // namespace consilium

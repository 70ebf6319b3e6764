#include "coordinator/store/store.h"

#include "absl/strings/cord.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::string_view kDatabase = "history.db";
constexpr std::string_view kLock = "lock";
constexpr char kInUse[] = "consilium/store-in-use";
constexpr std::string_view kBlobs = "blobs";
constexpr std::string_view kTemp = "tmp";
constexpr std::string_view kRoundKeys = "round-keys";
constexpr std::string_view kSpare = "spare";

// Makes an empty database file with our mode, not SQLite's.
absl::Status MakeDatabaseFile(FileSystem* fs, const std::string& data_dir,
                              const std::string& path) {
  if (fs->Exists(path)) return absl::OkStatus();
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      fs->Open(path, {.write = true, .create = true, .mode = 0600}));
  CONSILIUM_RETURN_IF_ERROR(file->Sync());
  return fs->SyncDir(data_dir);
}

}  // namespace

bool IsStoreInUse(const absl::Status& status) {
  return status.GetPayload(kInUse).has_value();
}

Store::Store(StoreOptions options, std::unique_ptr<FileLock> lock,
             std::unique_ptr<HistoryStore> history)
    : options_(std::move(options)),
      lock_(std::move(lock)),
      history_(std::move(history)),
      syncer_(options_.syncer_threads > 0
                  ? std::make_unique<SpoolSyncer>(options_.syncer_threads,
                                                  options_.on_spool_synced)
                  : nullptr),
      spares_(options_.fs, JoinPath(options_.data_dir, kSpare),
              options_.spare_bytes),
      blobs_(options_.fs, JoinPath(options_.data_dir, kBlobs),
             JoinPath(options_.data_dir, kTemp), &spares_),
      spools_(options_.fs, options_.data_dir, syncer_.get(), &spares_),
      round_keys_(options_.fs, JoinPath(options_.data_dir, kRoundKeys)),
      space_(options_.fs, options_.data_dir, options_.min_free_bytes,
             [this] { (void)spares_.Clear(); }) {}

Store::~Store() { (void)Close(); }

absl::StatusOr<std::unique_ptr<Store>> Store::Open(StoreOptions options) {
  if (options.fs == nullptr) options.fs = PosixFileSystem();
  FileSystem* fs = options.fs;
  const std::string database = JoinPath(options.data_dir, kDatabase);
  if (options.create) {
    CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(options.data_dir));
  } else if (!fs->Exists(database)) {
    return absl::NotFoundError(
        Cat("no history at ", database,
            "; make a coordinator with `consilium init`"));
  }
  absl::StatusOr<std::unique_ptr<FileLock>> lock =
      fs->LockFile(JoinPath(options.data_dir, kLock));
  if (!lock.ok()) {
    absl::Status status = lock.status();
    if (absl::IsFailedPrecondition(status)) {
      status.SetPayload(kInUse, absl::Cord());
    }
    return status;
  }
  if (options.create) {
    CONSILIUM_RETURN_IF_ERROR(MakeDatabaseFile(fs, options.data_dir, database));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<HistoryStore> history,
      HistoryStore::Open({.path = database,
                          .vfs = options.vfs,
                          .create = options.create,
                          .read_only = options.read_only,
                          .max_readers = options.max_readers}));
  std::unique_ptr<Store> store(
      new Store(std::move(options), *std::move(lock), std::move(history)));
  if (!store->read_only()) {
    CONSILIUM_RETURN_IF_ERROR(store->blobs_.Prepare());
    CONSILIUM_RETURN_IF_ERROR(store->spares_.Prepare());
    CONSILIUM_RETURN_IF_ERROR(store->spools_.Prepare());
    CONSILIUM_RETURN_IF_ERROR(store->round_keys_.Prepare());
    // What a killed process made and did not sync is here for this one too.
    CONSILIUM_RETURN_IF_ERROR(fs->SyncDir(store->data_dir()));
  }
  return store;
}

absl::Status Store::Close() {
  syncer_.reset();
  const absl::Status status = history_->Close();
  lock_.reset();
  return status;
}

absl::StatusOr<BlobStore::Collected> Store::CollectGarbage() {
  return blobs_.Collect([this]() -> absl::StatusOr<std::vector<BlobRef>> {
    std::vector<BlobRef> live;
    CONSILIUM_RETURN_IF_ERROR(history_->Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(live, ListLiveBlobs(tx));
      return absl::OkStatus();
    }));
    return live;
  });
}

}  // namespace consilium

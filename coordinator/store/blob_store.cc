#include "coordinator/store/blob_store.h"

#include <algorithm>
#include <set>
#include <utility>

#include "consilium/base/forwarding_file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;
constexpr std::string_view kTempSuffix = ".blob-tmp";
constexpr std::string_view kAdvice =
    "; restore it from a backup (`consilium db restore`), or roll back to "
    "another version";

template <typename T>
bool Contains(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool IsShardName(std::string_view name) {
  return name.size() == 2 &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A blob that is not overwritten while it is open.
class UsedFile final : public ForwardingFile {
 public:
  UsedFile(std::unique_ptr<File> file, FileUse use)
      : ForwardingFile(std::move(file)), use_(std::move(use)) {}
  absl::Status Close() override {
    use_.End();
    return ForwardingFile::Close();
  }

 private:
  FileUse use_;
};

}  // namespace

// --- BlobWriter --------------------------------------------------------------

BlobWriter::BlobWriter(BlobWriter&& other) noexcept
    : store_(other.store_),
      reused_(other.reused_),
      path_(std::move(other.path_)),
      file_(std::move(other.file_)) {}

BlobWriter::~BlobWriter() {
  if (file_ != nullptr) Drop();
}

void BlobWriter::Drop() {
  file_.reset();
  // Best effort: what stays is collected at the next start.
  (void)store_->fs_->Remove(path_);
  store_->ForgetTemp(path_);
}

absl::Status BlobWriter::Publish(const Sha256Digest& digest, int64_t bytes) && {
  if (file_ == nullptr) {
    return absl::FailedPreconditionError("this blob was published before");
  }
  absl::Status status;
  if (reused_) {
    status = file_->Truncate(bytes);
    // It must not be a spare again after a loss of power.
    if (status.ok()) status = store_->fs_->SyncDir(store_->temp_dir_);
  }
  if (status.ok()) {
    status = store_->PublishFile(file_.get(), path_, digest, bytes);
  }
  if (!status.ok()) {
    Drop();
    return status;
  }
  file_.reset();
  store_->ForgetTemp(path_);
  return absl::OkStatus();
}

// --- BlobStore ---------------------------------------------------------------

BlobStore::BlobStore(FileSystem* fs, std::string blobs_dir,
                     std::string temp_dir, SpareFiles* spares)
    : fs_(fs),
      dir_(std::move(blobs_dir)),
      temp_dir_(std::move(temp_dir)),
      spares_(spares) {}

absl::Status BlobStore::Prepare() {
  CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(dir_));
  CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(temp_dir_));
  // A killed process may have made folders in it without syncing their names.
  return fs_->SyncDir(dir_);
}

std::string BlobStore::PathOf(const Sha256Digest& digest) const {
  const std::string hex = digest.Hex();
  return JoinPath(JoinPath(dir_, hex.substr(0, 2)), hex);
}

absl::StatusOr<BlobWriter> BlobStore::NewWriter(int64_t expected_bytes) {
  std::string path;
  {
    // Registered before it exists, so that Collect never meets an unknown one.
    MutexLock lock(&mu_);
    path = JoinPath(temp_dir_, Cat(next_temp_++, kTempSuffix));
    open_temps_.push_back(path);
  }
  absl::StatusOr<std::unique_ptr<File>> file = nullptr;
  if (spares_ != nullptr && expected_bytes > 0) {
    file = spares_->Take(path, expected_bytes);
  }
  const bool reused = file.ok() && *file != nullptr;
  if (file.ok() && !reused) {
    // A file of that name is left from another life of the process.
    file = fs_->Open(
        path, {.write = true, .create = true, .truncate = true, .mode = 0600});
  }
  if (!file.ok()) {
    ForgetTemp(path);
    return std::move(file).status();
  }
  BlobWriter writer(this, std::move(path), *std::move(file), reused);
  if (expected_bytes > 0) {
    absl::Status allocated = writer.file()->Allocate(expected_bytes);
    if (absl::IsResourceExhausted(allocated) && spares_ != nullptr &&
        spares_->bytes() > 0) {
      CONSILIUM_RETURN_IF_ERROR(spares_->Clear());
      allocated = writer.file()->Allocate(expected_bytes);
    }
    CONSILIUM_RETURN_IF_ERROR(allocated);
  }
  return writer;
}

absl::StatusOr<Sha256Digest> BlobStore::Put(std::span<const std::byte> bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  const Sha256Digest digest = Sha256(bytes);
  CONSILIUM_ASSIGN_OR_RETURN(BlobWriter writer, NewWriter(size));
  CONSILIUM_RETURN_IF_ERROR(writer.file()->WriteAt(0, bytes));
  CONSILIUM_RETURN_IF_ERROR(std::move(writer).Publish(digest, size));
  return digest;
}

absl::Status BlobStore::PublishFile(File* file, const std::string& temp,
                                    const Sha256Digest& digest, int64_t bytes) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  if (size != bytes) {
    return absl::DataLossError(Cat(temp, ": holds ", size, " bytes, expected ",
                                   bytes, " for blob ", digest.Hex()));
  }
  CONSILIUM_RETURN_IF_ERROR(file->Sync());
  const std::string path = PathOf(digest);
  {
    // A second one would find the folder made, and not yet durable.
    MutexLock lock(&shards_mu_);
    CONSILIUM_RETURN_IF_ERROR(fs_->MakeDirs(DirName(path)));
  }
  Share();
  {
    MutexLock lock(&mu_);
    pending_.push_back(digest);
  }
  absl::Status status = fs_->Rename(temp, path);
  if (status.ok()) status = fs_->SyncDir(DirName(path));
  Unshare();
  if (!status.ok()) Release(digest);
  return status;
}

absl::StatusOr<std::unique_ptr<File>> BlobStore::Open(
    const Sha256Digest& digest, int64_t bytes) const {
  const std::string path = PathOf(digest);
  FileUse use = spares_ == nullptr ? FileUse() : spares_->Use(path);
  absl::StatusOr<std::unique_ptr<File>> file = fs_->Open(path, {});
  if (absl::IsNotFound(file.status())) {
    return absl::DataLossError(
        Cat("blob ", path, " (", bytes, " bytes) is missing", kAdvice));
  }
  CONSILIUM_RETURN_IF_ERROR(file.status());
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, (*file)->Size());
  if (size != bytes) {
    return absl::DataLossError(Cat("blob ", path, " holds ", size,
                                   " bytes, the history says ", bytes,
                                   kAdvice));
  }
  return std::make_unique<UsedFile>(*std::move(file), std::move(use));
}

absl::Status BlobStore::Verify(const Sha256Digest& digest,
                               int64_t bytes) const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                             Open(digest, bytes));
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  std::vector<std::byte> buffer(kReadBytes);
  for (int64_t at = 0; at < bytes;) {
    const auto want = static_cast<size_t>(
        std::min<int64_t>(bytes - at, static_cast<int64_t>(kReadBytes)));
    const std::span<std::byte> part = std::span(buffer).first(want);
    CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(file.get(), at, part));
    hasher->Update(part);
    at += static_cast<int64_t>(want);
  }
  const Sha256Digest found = hasher->Finish();
  if (found == digest) return absl::OkStatus();
  return absl::DataLossError(Cat("blob ", PathOf(digest),
                                 " is damaged: its SHA-256 is ", found.Hex(),
                                 kAdvice));
}

void BlobStore::Share() {
  MutexLock lock(&mu_);
  while (collecting_) changed_.Wait(&mu_);
  ++sharers_;
}

void BlobStore::Unshare() {
  MutexLock lock(&mu_);
  --sharers_;
  changed_.SignalAll();
}

void BlobStore::AddPin(int change) {
  MutexLock lock(&mu_);
  while (collecting_) changed_.Wait(&mu_);
  pins_ += change;
}

void BlobStore::Release(const Sha256Digest& digest) {
  Share();
  {
    MutexLock lock(&mu_);
    const auto found = std::find(pending_.begin(), pending_.end(), digest);
    if (found != pending_.end()) pending_.erase(found);
  }
  Unshare();
}

void BlobStore::ForgetTemp(const std::string& path) {
  MutexLock lock(&mu_);
  std::erase(open_temps_, path);
}

absl::StatusOr<BlobStore::Listing> BlobStore::List() const {
  Listing out;
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> shards,
                             fs_->List(dir_));
  for (const std::string& shard : shards) {
    const std::string shard_dir = JoinPath(dir_, shard);
    if (!IsShardName(shard)) {
      out.strays.push_back(shard_dir);
      continue;
    }
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                               fs_->List(shard_dir));
    for (const std::string& name : names) {
      const std::string path = JoinPath(shard_dir, name);
      const absl::StatusOr<Sha256Digest> digest = Sha256Digest::FromHex(name);
      if (!digest.ok() || PathOf(*digest) != path) {
        out.strays.push_back(path);
        continue;
      }
      CONSILIUM_ASSIGN_OR_RETURN(const FileInfo info, fs_->Stat(path));
      out.blobs.push_back({*digest, info.size});
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::string> temps,
                             fs_->List(temp_dir_));
  MutexLock lock(&mu_);
  for (const std::string& name : temps) {
    const std::string path = JoinPath(temp_dir_, name);
    if (!Contains(open_temps_, path)) out.temps.push_back(path);
  }
  return out;
}

bool BlobStore::IsPending(const Sha256Digest& digest) const {
  MutexLock lock(&mu_);
  return Contains(pending_, digest);
}

absl::StatusOr<BlobStore::Collected> BlobStore::Collect(
    absl::FunctionRef<absl::StatusOr<std::vector<BlobRef>>()> live) {
  std::set<Sha256Digest> keep;
  {
    MutexLock lock(&mu_);
    while (collecting_ || (sharers_ > 0 && pins_ == 0)) changed_.Wait(&mu_);
    // What it would remove is still there the next time.
    if (pins_ > 0) return Collected{};
    collecting_ = true;
    keep.insert(pending_.begin(), pending_.end());
  }
  absl::StatusOr<Collected> result = CollectAlone(live, keep);
  MutexLock lock(&mu_);
  collecting_ = false;
  changed_.SignalAll();
  return result;
}

absl::StatusOr<BlobStore::Collected> BlobStore::CollectAlone(
    absl::FunctionRef<absl::StatusOr<std::vector<BlobRef>>()> live,
    std::set<Sha256Digest>& keep) {
  Collected out;
  CONSILIUM_ASSIGN_OR_RETURN(const Listing listing, List());
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<BlobRef> rows, live());
  for (const BlobRef& row : rows) keep.insert(row.digest);
  for (const BlobRef& blob : listing.blobs) {
    if (keep.contains(blob.digest)) continue;
    CONSILIUM_RETURN_IF_ERROR(RemoveBlob(blob.digest));
    ++out.blobs;
    out.bytes += blob.bytes;
  }
  for (const std::string& temp : listing.temps) {
    CONSILIUM_RETURN_IF_ERROR(RemoveUnlessOpen(temp, out));
  }
  return out;
}

absl::Status BlobStore::RemoveBlob(const Sha256Digest& digest) {
  const std::string path = PathOf(digest);
  return spares_ == nullptr ? fs_->Remove(path) : spares_->Retire(path);
}

// Under the lock, since a NewWriter may be about to take that very name.
absl::Status BlobStore::RemoveUnlessOpen(const std::string& temp,
                                         Collected& out) {
  MutexLock lock(&mu_);
  if (Contains(open_temps_, temp)) return absl::OkStatus();
  const absl::StatusOr<FileInfo> info = fs_->Stat(temp);
  CONSILIUM_RETURN_IF_ERROR(fs_->RemoveTree(temp));
  ++out.temps;
  if (info.ok()) out.bytes += info->size;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<File>> OpenVersionBlob(const BlobStore& blobs,
                                                      const VersionRow& row) {
  if (row.pruned_at.has_value()) {
    return absl::NotFoundError(Cat("version ", row.number,
                                   " was deleted by "
                                   "storage.version_retention on ",
                                   FormatTime(*row.pruned_at)));
  }
  return blobs.Open(row.digest, row.blob_bytes);
}

}  // namespace consilium

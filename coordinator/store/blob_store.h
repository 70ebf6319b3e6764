#ifndef CONSILIUM_COORDINATOR_STORE_BLOB_STORE_H_
#define CONSILIUM_COORDINATOR_STORE_BLOB_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/spare_files.h"
#include "coordinator/store/tables.h"

namespace consilium {

class BlobStore;

// A blob that is being written: a temporary file that the fold fills in place.
// Dropping the writer without Publish removes the file. The File may be used
// from several threads (positional I/O); Publish after all of them are done.
class BlobWriter {
 public:
  ~BlobWriter();
  BlobWriter(BlobWriter&& other) noexcept;
  BlobWriter& operator=(BlobWriter&&) = delete;

  File* file() { return file_.get(); }
  const std::string& path() const { return path_; }

  // Makes the file durable under its digest: fdatasync, rename, fsync of the
  // folder. The caller vouches for the digest (it hashed what it wrote).
  // A blob of the same name is replaced, which also heals a damaged one.
  // Errors: RESOURCE_EXHAUSTED disk full; DATA_LOSS the file is not `bytes`
  // long; FAILED_PRECONDITION published before; I/O errors. After an error
  // the temporary file is gone and nothing was published, unless the last
  // step failed: then a complete blob may be there that no row names.
  absl::Status Publish(const Sha256Digest& digest, int64_t bytes) &&;

 private:
  friend class BlobStore;
  BlobWriter(BlobStore* store, std::string path, std::unique_ptr<File> file,
             bool reused)
      : store_(store),
        reused_(reused),
        path_(std::move(path)),
        file_(std::move(file)) {}
  void Drop();

  BlobStore* store_;
  bool reused_;  // a spare: as long as it was, until published
  std::string path_;
  std::unique_ptr<File> file_;
};

// Immutable files named by the SHA-256 of their bytes: blobs/ab/abcd...
// (FORMAT.md section 3). Thread safe. The file system outlives it.
//
// Order of effects with the database: blob first, row second. A crash in
// between leaves a blob that no row names, which Collect removes.
class BlobStore {
 public:
  // `spares` may be null: then every blob is a new file.
  BlobStore(FileSystem* fs, std::string blobs_dir, std::string temp_dir,
            SpareFiles* spares = nullptr);

  // Makes the folders. Idempotent.
  absl::Status Prepare();

  // A temporary file. expected_bytes > 0 preallocates, so that a full disk
  // shows here and not in the middle of a fold; then what stands in it is
  // arbitrary until it is written. Errors: RESOURCE_EXHAUSTED.
  absl::StatusOr<BlobWriter> NewWriter(int64_t expected_bytes);

  // Hashes, writes and publishes bytes that fit in memory.
  absl::StatusOr<Sha256Digest> Put(std::span<const std::byte> bytes);

  // Opens for positional reads. Checks the size, not the digest.
  // Errors: DATA_LOSS missing, or of another size; the message names the file
  // and what to do.
  absl::StatusOr<std::unique_ptr<File>> Open(const Sha256Digest& digest,
                                             int64_t bytes) const;
  // Reads everything and compares size and digest. Errors: DATA_LOSS.
  absl::Status Verify(const Sha256Digest& digest, int64_t bytes) const;

  std::string PathOf(const Sha256Digest& digest) const;

  // While a Pin lives, Collect removes nothing and does not wait: backup and
  // check hold one for as long as they read.
  class Pin {
   public:
    explicit Pin(BlobStore* store) : store_(store) { store_->AddPin(1); }
    ~Pin() { store_->AddPin(-1); }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

   private:
    BlobStore* const store_;
  };

  struct Collected {
    int64_t blobs = 0;
    int64_t temps = 0;
    int64_t bytes = 0;
  };
  // Removes blobs that `live` does not list, and temporary files that no
  // living BlobWriter owns. `live` is called while no publish is under way.
  // A blob that was published but whose row is not yet committed is spared:
  // it counts as live until Release, or until the process ends.
  absl::StatusOr<Collected> Collect(
      absl::FunctionRef<absl::StatusOr<std::vector<BlobRef>>()> live);
  // The row of this published blob is committed (or will never be).
  void Release(const Sha256Digest& digest);

  // Published and not yet released.
  bool IsPending(const Sha256Digest& digest) const;

  // All blobs on disk, for checks. Names that are no digest are in `strays`,
  // temporary files without a living BlobWriter in `temps`.
  struct Listing {
    std::vector<BlobRef> blobs;
    std::vector<std::string> strays;
    std::vector<std::string> temps;
  };
  absl::StatusOr<Listing> List() const;

 private:
  friend class BlobWriter;
  absl::Status PublishFile(File* file, const std::string& temp,
                           const Sha256Digest& digest, int64_t bytes);
  absl::StatusOr<Collected> CollectAlone(
      absl::FunctionRef<absl::StatusOr<std::vector<BlobRef>>()> live,
      std::set<Sha256Digest>& keep);
  absl::Status RemoveBlob(const Sha256Digest& digest);
  absl::Status RemoveUnlessOpen(const std::string& temp, Collected& out);
  void ForgetTemp(const std::string& path);

  FileSystem* const fs_;
  const std::string dir_;
  const std::string temp_dir_;
  SpareFiles* const spares_;
  // A lock that Publish and Release share and Collect holds alone.
  void Share();
  void Unshare();
  void AddPin(int change);

  Mutex shards_mu_;  // one at a time makes folders
  mutable Mutex mu_;
  CondVar changed_;
  int sharers_ ABSL_GUARDED_BY(mu_) = 0;
  int pins_ ABSL_GUARDED_BY(mu_) = 0;
  bool collecting_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t next_temp_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::string> open_temps_ ABSL_GUARDED_BY(mu_);
  std::vector<Sha256Digest> pending_ ABSL_GUARDED_BY(mu_);
};

// The parameters of a version. Errors: NOT_FOUND where they were pruned; those
// of BlobStore::Open.
absl::StatusOr<std::unique_ptr<File>> OpenVersionBlob(const BlobStore& blobs,
                                                      const VersionRow& row);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_BLOB_STORE_H_

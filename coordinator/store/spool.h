#ifndef CONSILIUM_COORDINATOR_STORE_SPOOL_H_
#define CONSILIUM_COORDINATOR_STORE_SPOOL_H_

// Contributions as received, on disk: one append-only file per upload.
// Format: FORMAT.md section 4.
//
// The order that makes an ack mean "durable":
//   Append (pwrite) -> fdatasync by the syncer -> DurableFn -> ack to client.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/spare_files.h"

namespace consilium {

// Names one upload. `upload_id` is lower-case hexadecimal.
struct SpoolKey {
  int64_t round = 0;
  int64_t attempt = 0;
  std::string institution;
  std::string upload_id;
};

// What stands at the head of a spool file; immutable.
struct SpoolHeader {
  bool sealed = true;               // records are AES-256-GCM chunks
  bool masked = false;              // words of a ring, under secure aggregation
  uint64_t total_chunks = 0;        // records of a complete upload, >= 1
  uint64_t payload_bytes = 0;       // encoded payload before sealing
  uint32_t max_record_bytes = 0;    // largest body; <= kMaxSpoolRecordBytes
  uint64_t elements_per_frame = 0;  // 0: frames vary in length
  uint32_t vectors = 1;             // masked uploads hold several
  std::string manifest;             // canonical bytes
  std::string wrapped_key;          // empty when not sealed
  std::string signature;            // of the manifest by its sender, or empty

  friend bool operator==(const SpoolHeader&, const SpoolHeader&) = default;
};

inline constexpr uint32_t kMaxSpoolRecordBytes = 4u << 20;
inline constexpr uint32_t kMaxSpoolManifestBytes = 16u << 20;
inline constexpr uint64_t kMaxSpoolChunks = uint64_t{1} << 26;

// Says whether a record is what its sender sent (opens the seal, or checks the
// frame's checksum). Called in order, from record 0.
using RecordCheck = absl::FunctionRef<absl::Status(
    uint64_t index, uint32_t vector, std::span<const std::byte> body)>;

// Called with the number of records, from the first on, that are durable; or
// with the error that broke the spool, once, after which nothing follows. Runs
// on a syncer thread (or inside Flush), never twice at a time for one writer;
// must not block and must not destroy the writer.
using DurableFn = absl::AnyInvocable<void(absl::StatusOr<uint64_t> records)>;

// Told of each sync by which acks become true: how long it took, and the bytes
// it made durable. Runs on a syncer thread; must not block.
using SyncedFn = std::function<void(absl::Duration took, int64_t bytes)>;

// Threads that fdatasync dirty spools. While one sync runs, appends gather, so
// that each sync covers everything appended before it: group commit without a
// timer. Must outlive its writers. Thread safe.
class SpoolSyncer {
 public:
  // At least one thread.
  explicit SpoolSyncer(int threads = 2, SyncedFn on_synced = nullptr);
  ~SpoolSyncer();
  SpoolSyncer(const SpoolSyncer&) = delete;
  SpoolSyncer& operator=(const SpoolSyncer&) = delete;

  struct Stats {
    int64_t syncs = 0;
    int64_t records = 0;  // made durable
    int64_t bytes = 0;
  };
  Stats stats() const;

 private:
  friend class SpoolWriter;
  friend class SpoolDir;
  friend class SpoolResumer;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Appends records to one spool. One thread appends at a time (the upload's
// stream); durable_records may be read from any.
class SpoolWriter {
 public:
  // Closes; no DurableFn runs after it. Unsynced records stay in the file and
  // may or may not survive a crash; nobody was told about them.
  ~SpoolWriter();
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  // Writes record `index`, which must be next_index(), and asks the syncer to
  // make it durable. Does not wait for the disk.
  // Errors:
  //   FAILED_PRECONDITION  index is not the next one, all records are there,
  //                        or an earlier sync failed (reopen by Resume)
  //   INVALID_ARGUMENT     empty, longer than max_record_bytes, bad vector
  //   RESOURCE_EXHAUSTED   disk full; the record is not there, try again
  absl::Status Append(uint64_t index, std::span<const std::byte> body,
                      uint32_t vector = 0);

  // Makes everything appended so far durable and returns after its DurableFn.
  absl::Status Flush();

  // OK, or why nothing more can be appended. The file is cut back by then, and
  // may be opened anew by Resume.
  absl::Status health() const;

  uint64_t next_index() const;       // records appended
  uint64_t durable_records() const;  // records that survive a crash
  bool complete() const;             // next_index() == total_chunks
  const SpoolHeader& header() const;
  const std::string& path() const;  // relative to the data directory
  // Of a new spool: the bytes that its file had behind the header before the
  // first record. None, except where it stands on an old file.
  int64_t held_bytes() const;

 private:
  friend class SpoolDir;
  friend class SpoolResumer;
  friend class SpoolSyncer;
  struct State;
  explicit SpoolWriter(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

// Reads records of one spool by index, in any order, from any thread.
// Memory: 24 bytes per run of records of one length, of which a plain upload
// has three, however small its frames (4 bytes per record more in masked
// uploads). Sees the records that were whole when it was opened.
class SpoolReader {
 public:
  // Errors: NOT_FOUND; DATA_LOSS for a header that does not check.
  static absl::StatusOr<std::unique_ptr<SpoolReader>> Open(
      FileSystem* fs, const std::string& path);

  const SpoolHeader& header() const { return header_; }
  uint64_t records() const { return records_; }
  bool complete() const { return records() == header_.total_chunks; }
  int64_t file_bytes() const { return end_; }  // header and whole records

  struct Record {
    uint32_t vector = 0;
    size_t bytes = 0;  // of the buffer, now holding the body
  };
  // Reads record `index` into the front of `buffer`, which must hold
  // header().max_record_bytes. Errors: OUT_OF_RANGE no such record;
  // INVALID_ARGUMENT buffer too small; DATA_LOSS the file changed or is torn.
  absl::StatusOr<Record> ReadRecord(uint64_t index,
                                    std::span<std::byte> buffer) const;

  // Reads out.size() bytes of record `index` from byte `offset` of its body.
  // Errors: OUT_OF_RANGE the record does not have them; DATA_LOSS as above.
  absl::Status ReadPart(uint64_t index, size_t offset,
                        std::span<std::byte> out) const;

  // Length of a record's body, without reading it; 0 where there is none.
  size_t record_bytes(uint64_t index) const;

  size_t runs() const { return runs_.size(); }

 private:
  friend class SpoolDir;
  SpoolReader(std::unique_ptr<File> file, std::string path, SpoolHeader header)
      : file_(std::move(file)),
        path_(std::move(path)),
        header_(std::move(header)) {}
  // Records side by side that have one length.
  struct Run {
    uint64_t first = 0;  // index
    int64_t offset = 0;  // of its head
    int64_t bytes = 0;   // of each, head included
  };
  absl::Status Scan(int64_t first_offset);
  // Needs index < records().
  const Run& RunOf(uint64_t index) const;
  int64_t BodyOf(uint64_t index) const;

  FileUse use_;
  std::unique_ptr<File> file_;
  std::string path_;
  SpoolHeader header_;
  std::vector<Run> runs_;
  uint64_t records_ = 0;
  std::vector<uint32_t> vectors_;  // empty when there is only one vector
  int64_t end_ = 0;                // offset after the last good record
};

// A spool left by an earlier connection or process, as it is read again piece
// by piece. One thread at a time. Nothing of the file changes before Finish.
class SpoolResumer {
 public:
  ~SpoolResumer();
  SpoolResumer(const SpoolResumer&) = delete;
  SpoolResumer& operator=(const SpoolResumer&) = delete;

  // Passes records on to `check` until it has read `max_bytes`, at least one.
  // True: there are no more, or the next one is torn, out of order or refused.
  absl::StatusOr<bool> Read(RecordCheck check, int64_t max_bytes);

  // Cuts what was not read or refused, syncs what stays. Once; nothing of this
  // object after it. next_index() of the writer says where the upload goes on.
  absl::StatusOr<std::unique_ptr<SpoolWriter>> Finish(DurableFn on_durable);

 private:
  friend class SpoolDir;
  struct State;
  explicit SpoolResumer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The spool folder of a data directory. Thread safe.
class SpoolDir {
 public:
  // `root` is the data directory, paths are relative to it. `syncer` may be
  // null: then records become durable only by Flush, on the caller's thread.
  // `spares` may be null: then every spool is a new file.
  SpoolDir(FileSystem* fs, std::string root, SpoolSyncer* syncer,
           SpareFiles* spares = nullptr);

  absl::Status Prepare();

  // "spool/<round>-<attempt>/<institution>-<upload>.spool"
  static std::string PathOf(const SpoolKey& key);

  // Disk space that a complete upload takes, to be reserved at admission.
  // Errors: INVALID_ARGUMENT header out of its limits.
  static absl::StatusOr<int64_t> FileBytes(const SpoolHeader& header);

  // A new file with its header, durable on return (file, and its name in its
  // folder).
  // Errors: ALREADY_EXISTS; INVALID_ARGUMENT header out of its limits;
  // RESOURCE_EXHAUSTED disk full (nothing is left behind).
  absl::StatusOr<std::unique_ptr<SpoolWriter>> Create(const SpoolKey& key,
                                                      SpoolHeader header,
                                                      DurableFn on_durable);

  // Errors: NOT_FOUND; DATA_LOSS header does not check.
  absl::StatusOr<std::unique_ptr<SpoolResumer>> OpenToResume(
      const std::string& path);

  absl::StatusOr<std::unique_ptr<SpoolReader>> OpenReader(
      const std::string& path) const;

  // Durable removals; a missing file is no error. A sealed spool that nobody
  // has open may become a spare: it is ciphertext, and what authenticates a
  // record of the spool that overwrites it does not authenticate what was
  // there.
  absl::Status Remove(const std::string& path);
  absl::Status RemoveEmptyFolders();

  // Paths of all spool files, sorted.
  absl::StatusOr<std::vector<std::string>> List() const;

 private:
  static std::string FolderOf(int64_t round, int64_t attempt);
  absl::StatusOr<std::unique_ptr<File>> MakeFile(const std::string& full,
                                                 const SpoolHeader& header);
  // While it lives, nobody overwrites the file.
  FileUse Use(const std::string& full) const;
  bool IsSealed(const std::string& full) const;

  FileSystem* const fs_;
  const std::string root_;
  SpoolSyncer::Impl* const syncer_;
  SpareFiles* const spares_;
  Mutex mu_;  // serialises making a file with removing empty folders
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SPOOL_H_

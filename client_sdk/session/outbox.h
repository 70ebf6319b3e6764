#ifndef CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_H_
#define CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/session/deps.h"
#include "client_sdk/session/transport.h"
#include "consilium/base/file.h"
#include "consilium/base/spare_files.h"
#include "consilium/secure/seal.h"

namespace consilium::client::internal {

// What an upload consists of, apart from the bytes of its payload.
struct OutboxRecord {
  Manifest manifest;
  std::string federation;
  std::string institution;
  std::vector<uint32_t> frame_bytes;      // by chunk, before sealing
  std::optional<ContentKey> content_key;  // unset: not sealed

  SealContext seal_context() const;
};

// One upload on disk: <outbox>/<round>-<attempt>-<sequence>/ with
//
//   payload  the chunks as they are sent, one after the other: sealed frames,
//            or plain ones under a policy without sealing
//   meta     record and content key (outbox_meta.h); complete once it exists
//
// both 0600. A chunk is sealed once, before it is written here, so its nonce,
// which is its index, never meets another plaintext. What is left of a payload
// on the disk is unreadable once the key is overwritten. An entry whose frames
// no longer have the digest of its record is discarded with its key.
class OutboxEntry {
 public:
  OutboxEntry(std::string directory, OutboxRecord record,
              std::shared_ptr<File> payload);

  const OutboxRecord& record() const { return record_; }
  const Manifest& manifest() const { return record_.manifest; }
  const std::string& directory() const { return directory_; }
  size_t chunks() const { return record_.frame_bytes.size(); }
  // Bytes of all frames before chunk `index`; needs index <= chunks().
  uint64_t OffsetOf(size_t index) const { return offsets_[index]; }
  // Of all chunks before it, as they are sent.
  uint64_t ChunkOffsetOf(size_t index) const {
    return offsets_[index] + index * tag_bytes_;
  }

  // Of chunk `index`, with its tag when it is sealed.
  size_t ChunkBytesOf(size_t index) const {
    return record_.frame_bytes[index] + tag_bytes_;
  }
  // Reads chunk `index` to `out`, which has just its size.
  absl::Status ReadChunk(size_t index, std::span<std::byte> out) const;
  uint64_t file_bytes() const { return ChunkOffsetOf(chunks()); }

 private:
  friend class Outbox;
  const std::string directory_;
  const OutboxRecord record_;
  const std::shared_ptr<File> payload_;
  const size_t tag_bytes_;  // 0 when not sealed
  std::vector<uint64_t> offsets_;
};

// A payload being written. Destroying a draft that was not committed removes
// its files; those of a killed process are cleared by the next Outbox::Load.
class OutboxDraft {
 public:
  OutboxDraft() = default;
  ~OutboxDraft();
  OutboxDraft(OutboxDraft&& other) noexcept;
  OutboxDraft& operator=(OutboxDraft&& other) noexcept;

  File* payload() { return payload_.get(); }
  const std::string& upload_id() const { return upload_id_; }

 private:
  friend class Outbox;
  FileSystem* fs_ = nullptr;  // unset: nothing to remove
  std::string upload_id_;
  std::string directory_;
  std::shared_ptr<File> payload_;
};

// The directory of uploads not yet receipted. One user at a time: the session
// holds the state directory's lock and its own upload mutex.
class Outbox {
 public:
  struct Options {
    std::string directory;
    bool sync = true;
    absl::Duration sync_delay = absl::Seconds(10);
    SpareFiles* spares = nullptr;  // for sealed payloads; outlives the outbox
  };
  // Makes the directory.
  static absl::StatusOr<std::unique_ptr<Outbox>> Create(Options options,
                                                        const SessionDeps& deps,
                                                        EventSink* events);

  struct Found {
    RoundRef round;
    // Ready to send, or why it was discarded (it is gone from the disk then).
    absl::StatusOr<std::shared_ptr<OutboxEntry>> entry;
  };
  // Everything in the outbox, oldest round first, each payload checked against
  // its digest. Clears what was never complete without a word.
  absl::StatusOr<std::vector<Found>> Load();
  // The complete entry of one round, or nullptr.
  absl::StatusOr<std::shared_ptr<OutboxEntry>> Find(const RoundRef& round);

  // A new upload with a random id, of at most `frame_bytes` in `chunks`, which
  // must fit the disk. What stands in the payload is arbitrary: write all of
  // it. Errors: RESOURCE_EXHAUSTED.
  absl::StatusOr<OutboxDraft> Begin(const RoundRef& round, uint64_t frame_bytes,
                                    uint64_t chunks, bool sealed);
  // Takes entries of the same round out and puts this one in. From here on a
  // killed process loses nothing; after Options::sync_delay a power cut does
  // not either.
  absl::StatusOr<std::shared_ptr<OutboxEntry>> Commit(OutboxDraft draft,
                                                      OutboxRecord record);
  // Removes the payload (a sealed one may become a spare), overwrites the key,
  // removes the rest.
  absl::Status Wipe(const OutboxEntry& entry);

 private:
  Outbox(Options options, const SessionDeps& deps, EventSink* events)
      : options_(std::move(options)), deps_(deps), events_(events) {}

  absl::StatusOr<std::shared_ptr<OutboxEntry>> LoadEntry(
      const std::string& directory);
  absl::Status WipeDirectory(const std::string& directory);
  absl::Status RemovePayload(const std::string& directory);
  absl::Status CheckSpace(uint64_t bytes);
  void ScheduleSync(const std::shared_ptr<OutboxEntry>& entry);

  const Options options_;
  const SessionDeps deps_;
  EventSink* const events_;
};

// What waits in an outbox, for a status report: from the records alone, and
// beside a process that uses it.
struct OutboxSummary {
  RoundRef round;
  uint64_t payload_bytes = 0;
};
absl::StatusOr<std::vector<OutboxSummary>> SummarizeOutbox(
    FileSystem* fs, const std::string& directory);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_H_

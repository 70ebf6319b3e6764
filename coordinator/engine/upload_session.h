// One upload as it comes in: chunks are authenticated, checked, hashed and
// spooled as they arrive.

#ifndef CONSILIUM_COORDINATOR_ENGINE_UPLOAD_SESSION_H_
#define CONSILIUM_COORDINATOR_ENGINE_UPLOAD_SESSION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/contribution_check.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/seal.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/peer_registry.h"
#include "coordinator/engine/refusal.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/store/space_ledger.h"
#include "coordinator/store/spool.h"

namespace consilium {

class BufferPool;

// The stream side of an upload. Called from syncer and engine threads; must
// not block and must not call back into the session.
class UploadSink {
 public:
  virtual ~UploadSink() = default;
  // Every chunk below `next_chunk` is durable.
  virtual void OnDurable(uint64_t next_chunk) = 0;
  // The upload is over for this stream.
  virtual void OnRefused(const Refused& refused) = 0;
  virtual void OnBroken(const absl::Status& status) = 0;
};

// What the checks found, once everything has arrived.
struct UploadResult {
  ContributionStats stats;
  Sha256Digest payload_digest;
};

// Life: Create or UploadResumption -> Attach / Append* / Detach, any number of
// times -> Finish. Thread-safe: when a stream takes over, the last chunk of the
// one before may still be under way.
class UploadSession : public std::enable_shared_from_this<UploadSession> {
 public:
  // Needs a manifest that CheckManifest() accepted.
  static absl::StatusOr<std::shared_ptr<UploadSession>> Create(
      std::shared_ptr<const RoundContext> context,
      std::shared_ptr<PeerState> peer, UploadManifest manifest,
      SpaceReservation space, SpoolDir& spools);

  // Promises exactly what has still to come. Errors: as SpaceLedger::Reserve.
  absl::Status ReserveRest(SpaceLedger& ledger);

  // A new stream takes over; an older one is told that it is broken. The new
  // one hears of what becomes durable from now on: durable_chunks(), read after
  // this call, is where it starts.
  void Attach(std::shared_ptr<UploadSink> sink);
  // True when `sink` was the attached one.
  bool Detach(const UploadSink* sink);

  // One chunk, exactly as received. A chunk that was taken before is ignored.
  // An engaged result ends the upload: tell the peer, and when the code is
  // kQuarantined, the engine. Errors (the stream ends, the upload may resume):
  //   INVALID_ARGUMENT   index beyond the next one, a wrong size, or no frame
  //   UNAUTHENTICATED    the institution was revoked
  absl::StatusOr<std::optional<Refused>> Append(
      uint64_t index, std::span<const std::byte> data);

  // OK, or why the spool takes nothing more. The upload goes on in another
  // session, made by Resume after Retire.
  absl::Status health();
  // Nothing of this session touches the spool after it; its stream is told, and
  // the space that was promised to it is given back.
  void Retire();

  // From now on Append answers with `refused`; an attached stream is told.
  void Close(Refused refused);

  // Errors: FAILED_PRECONDITION when chunks are missing; DATA_LOSS when size or
  // digest are not the declared ones; the first failed check. When health() is
  // not OK the error is not the sender's.
  absl::StatusOr<UploadResult> Finish();

  const UploadManifest& manifest() const { return manifest_; }
  const std::string& institution() const { return peer_->name; }
  int64_t institution_id() const { return peer_->institution_id; }
  const std::shared_ptr<PeerState>& peer() const { return peer_; }
  const RoundContext& context() const { return *context_; }
  const std::string& spool_path() const { return spool_path_; }
  uint64_t durable_chunks() const { return durable_.load(); }
  int64_t received_bytes() const { return received_bytes_.load(); }
  bool attached() const;

  // Monotonic time of the last chunk or attachment, kept by the hub.
  void NoteActivity(absl::Duration now) {
    activity_ns_.store(absl::ToInt64Nanoseconds(now));
  }
  absl::Duration last_activity() const {
    return absl::Nanoseconds(activity_ns_.load());
  }
  // Detaches the stream and ends it; the upload stays. False: there was none.
  bool Break(const absl::Status& status);

 private:
  friend class UploadResumption;
  UploadSession(std::shared_ptr<const RoundContext> context,
                std::shared_ptr<PeerState> peer, UploadManifest manifest,
                SpaceReservation space);
  // What opened chunks stand in while they are checked: as many are in use as
  // threads check, however many uploads there are.
  static BufferPool& PlainBuffers();
  absl::Status Prepare();
  absl::Status OpenNew(SpoolDir& spools);
  void ReleaseSpace();
  DurableFn MakeDurableFn();
  void Take(std::unique_ptr<SpoolWriter> spool);
  // The frame in a chunk, opened into `plain` where it is sealed.
  absl::StatusOr<std::span<const std::byte>> OpenChunk(
      uint64_t index, std::span<const std::byte> data,
      std::span<std::byte> plain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mu_);
  absl::Status Consume(std::span<const std::byte> frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mu_);

  const std::shared_ptr<const RoundContext> context_;
  const std::shared_ptr<PeerState> peer_;
  const UploadManifest manifest_;
  std::string spool_path_;

  Mutex work_mu_;  // held for the length of one chunk, disk included
  std::unique_ptr<CoveredSpace> covered_ ABSL_GUARDED_BY(work_mu_);
  std::unique_ptr<ContributionChecker> checker_ ABSL_GUARDED_BY(work_mu_);
  std::unique_ptr<Hasher> hasher_ ABSL_GUARDED_BY(work_mu_);
  std::optional<ChunkOpener> opener_ ABSL_GUARDED_BY(work_mu_);
  uint64_t next_index_ ABSL_GUARDED_BY(work_mu_) = 0;
  std::optional<UploadResult> result_ ABSL_GUARDED_BY(work_mu_);

  std::atomic<uint64_t> durable_{0};
  std::atomic<int64_t> received_bytes_{0};
  int64_t held_bytes_ = 0;  // of the spool's file before the first chunk
  std::atomic<int64_t> activity_ns_{0};
  mutable Mutex mu_;
  SpaceReservation space_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<UploadSink> sink_ ABSL_GUARDED_BY(mu_);
  std::optional<Refused> closed_ ABSL_GUARDED_BY(mu_);
  // Null once retired. Last: until it is closed it calls back, which uses the
  // members above.
  std::unique_ptr<SpoolWriter> spool_ ABSL_GUARDED_BY(work_mu_);
};

// Compares a manifest with its round. Engaged: why it is refused.
std::optional<Refused> CheckManifest(const UploadManifest& manifest,
                                     const RoundContext& context);

// What an upload takes on disk.
int64_t SpoolBytesFor(const UploadManifest& manifest);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_UPLOAD_SESSION_H_

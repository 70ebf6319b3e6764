// Reads an upload again from its spool, so that hash and checks continue.

#ifndef CONSILIUM_COORDINATOR_ENGINE_UPLOAD_RESUMPTION_H_
#define CONSILIUM_COORDINATOR_ENGINE_UPLOAD_RESUMPTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/peer_registry.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/engine/upload_session.h"
#include "coordinator/store/space_ledger.h"
#include "coordinator/store/spool.h"

namespace consilium {

// Piece by piece, since it may be gigabytes: between two pieces it holds no
// thread and no buffer, and it may be dropped. One thread at a time.
class UploadResumption {
 public:
  struct Source {
    std::shared_ptr<const RoundContext> context;
    std::shared_ptr<PeerState> peer;
    UploadManifest manifest;  // which CheckManifest() accepted
    SpaceReservation space;
    std::string path;
    // Chunks from here on are cut off: after a failed sync only what was
    // acknowledged is known to be on the disk.
    uint64_t keep = ~uint64_t{0};
  };
  UploadResumption(Source source, SpoolDir* spools)
      : source_(std::move(source)), spools_(spools) {}

  // Reads `max_bytes`, at least one chunk. True: session() is ready. A spool
  // that the disk lost begins anew: the sender has the chunks.
  absl::StatusOr<bool> Step(int64_t max_bytes);
  const std::shared_ptr<UploadSession>& session() const { return session_; }

 private:
  absl::StatusOr<bool> Read(int64_t max_bytes);
  absl::Status CheckRecord(uint64_t index, std::span<const std::byte> body,
                           std::span<std::byte> plain);
  absl::Status BeginAnew();

  Source source_;
  SpoolDir* const spools_;
  std::shared_ptr<UploadSession> session_;
  std::unique_ptr<SpoolResumer> spool_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_UPLOAD_RESUMPTION_H_

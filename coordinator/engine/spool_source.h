// A spooled contribution as the fold reads it.

#ifndef CONSILIUM_COORDINATOR_ENGINE_SPOOL_SOURCE_H_
#define CONSILIUM_COORDINATOR_ENGINE_SPOOL_SOURCE_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/contribution_check.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/fold.h"
#include "consilium/aggregation/metadata.h"
#include "consilium/base/cancel.h"
#include "consilium/secure/seal.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/store/spool.h"

namespace consilium {

// Opens chunks of one spool as they are asked for. Memory: the reader's index,
// and 64 KiB for each open cursor. Thread-safe; a cursor belongs to one
// thread.
class SpoolSource final : public ContributionSource {
 public:
  // Reads the header and opens the content key; no body yet.
  // Errors: NOT_FOUND no such spool; DATA_LOSS it is incomplete, damaged or
  // sealed to another key.
  static absl::StatusOr<std::unique_ptr<SpoolSource>> Create(
      std::shared_ptr<const RoundContext> context, std::string institution,
      const SpoolDir& spools, const std::string& path);

  std::string_view name() const override { return institution_; }
  const Coverage& coverage() const override { return space_->coverage(); }
  int64_t elements_per_frame() const override {
    return codec_->elements_per_frame();
  }
  absl::StatusOr<std::unique_ptr<ContributionCursor>> Open(
      int64_t first) const override;

  const UploadManifest& manifest() const { return manifest_; }
  // What frame 0 says.
  absl::StatusOr<ContributionMetadata> ReadMetadata() const;

  // Reads everything again: seals, frames, checks, digest.
  absl::StatusOr<ContributionStats> Verify(
      const CancelToken& cancel = {}) const;

 private:
  class Cursor;
  class FrameReader;
  SpoolSource(std::shared_ptr<const RoundContext> context,
              std::string institution)
      : context_(std::move(context)), institution_(std::move(institution)) {}

  // Unset when the upload is not sealed.
  absl::StatusOr<std::optional<ChunkOpener>> NewOpener() const;

  const std::shared_ptr<const RoundContext> context_;
  const std::string institution_;
  UploadManifest manifest_;
  const Codec* codec_ = nullptr;  // of the manifest
  std::unique_ptr<CoveredSpace> space_;
  std::unique_ptr<SpoolReader> reader_;
  std::optional<ContentKey> key_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_SPOOL_SOURCE_H_

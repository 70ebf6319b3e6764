#ifndef CONSILIUM_CLIENT_SDK_SESSION_PAYLOAD_ENCODER_H_
#define CONSILIUM_CLIENT_SDK_SESSION_PAYLOAD_ENCODER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/metadata.h"
#include "consilium/base/cancel.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"
#include "consilium/client/types.h"
#include "consilium/secure/seal.h"

namespace consilium::client::internal {

// Where the elements of a delta come from, slot by slot of a layout.
class DeltaReader {
 public:
  virtual ~DeltaReader() = default;
  virtual const Coverage& coverage() const = 0;
  // Elements [first, first + count) of a slot where they lie; empty when they
  // have to be made.
  virtual std::span<const float> InPlace(size_t slot, int64_t first,
                                         size_t count) = 0;
  virtual absl::Status Read(size_t slot, int64_t first,
                            std::span<float> out) = 0;
};

// Both check names, groups and lengths. `layout` and the update outlive the
// reader. Errors: INVALID_ARGUMENT, naming the tensor.
absl::StatusOr<std::unique_ptr<DeltaReader>> ReaderOf(const Layout& layout,
                                                      const Update& update);
absl::StatusOr<std::unique_ptr<DeltaReader>> ReaderOf(
    const Layout& layout, const UpdateSource& source);

// Group names become indexes; counts of groups not covered are left out.
absl::StatusOr<ContributionMetadata> MetadataOf(const Layout& layout,
                                                const Coverage& coverage,
                                                const LocalReport& report);

struct EncodedPayload {
  uint64_t elements = 0;
  uint64_t bytes = 0;                 // of frames, before sealing
  std::vector<uint32_t> frame_bytes;  // the same, one by one
  Sha256Digest digest;
};

// Bytes that the payload will have, at most.
uint64_t MaxPayloadBytes(const Codec& codec, int64_t elements,
                         size_t metadata_bytes);

// Chunks that the payload has: the metadata frame and the frames of elements.
uint64_t ChunkCount(const Codec& codec, int64_t elements);

// Reads, checks, encodes, hashes, seals and writes each element once, a frame
// at a time. `sealer` is null for an upload that is not sealed; the digest is
// that of the frames before sealing either way. Errors: INVALID_ARGUMENT for
// NaN or infinity, naming tensor and index; errors of the reader and of the
// file; CANCELLED.
absl::StatusOr<EncodedPayload> EncodePayload(
    const Layout& layout, const Codec& codec, DeltaReader& reader,
    std::span<const std::byte> metadata_frame, ChunkSealer* sealer, File& out,
    const ProgressCallback& progress, const CancelToken& cancel);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_PAYLOAD_ENCODER_H_

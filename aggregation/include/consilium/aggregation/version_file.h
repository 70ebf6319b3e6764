#ifndef CONSILIUM_AGGREGATION_VERSION_FILE_H_
#define CONSILIUM_AGGREGATION_VERSION_FILE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"

namespace consilium {

// A version is a safetensors file with every slot of the layout as F32, in
// canonical order without gaps, and as metadata only
//   consilium.format = "1"    consilium.layout = <hex of the LayoutId>
// so that equal parameters give equal bytes. Data starts at a multiple of
// 4096. Tensors after the last slot are allowed for later formats (residuals).
// The digest of a version is the SHA-256 of its file.

// Everything before the data part. Its size is the data offset.
absl::StatusOr<std::string> BuildVersionHeader(const Layout& layout,
                                               const Sha256Digest& layout_id);

// Where the parameters of a version lie: float32 of canonical element e at
// byte data_offset + 4 * e.
struct VersionFileInfo {
  int64_t data_offset = 0;
  int64_t file_bytes = 0;
};

// Checks that `file` is a version of this layout. Reads its header only.
// Errors: FAILED_PRECONDITION for another layout; INVALID_ARGUMENT or
// DATA_LOSS for a file that is no version; errors of the file.
absl::StatusOr<VersionFileInfo> ReadVersionFile(File* file,
                                                const Layout& layout,
                                                const Sha256Digest& layout_id);

// What the header of a version of this layout may hold, however large the
// layout: each slot and a residual pair beside it.
SafetensorsLimits VersionFileLimits(const Layout& layout);

struct WrittenVersion {
  Sha256Digest digest;
  VersionFileInfo info;
};

// Writes a version slot by slot. `values` returns the elements of one slot,
// valid until its next call. Does not sync. Errors: INVALID_ARGUMENT when a
// span has the wrong length or holds NaN or infinity; errors of `values` and
// of the file.
absl::StatusOr<WrittenVersion> WriteVersionFile(
    const Layout& layout, const Sha256Digest& layout_id,
    const std::function<
        absl::StatusOr<std::span<const float>>(const TensorSlot&)>& values,
    const HasherFactory& sha256, File* out);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_VERSION_FILE_H_

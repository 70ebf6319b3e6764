// What an institution declares before it uploads, checked against the round.

#ifndef CONSILIUM_COORDINATOR_ENGINE_MANIFEST_H_
#define CONSILIUM_COORDINATOR_ENGINE_MANIFEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "consilium/base/digest.h"

namespace consilium {

inline constexpr size_t kUploadIdBytes = 16;

// The plain fields of an upload manifest, as wire conversion made them: every
// length is bounded, nothing is yet compared with the round. Canonical bytes
// (Encode) are what the spool and the history keep.
struct UploadManifest {
  static constexpr uint32_t kVersion = 1;

  int64_t round = 0;
  int64_t attempt = 1;
  std::array<std::byte, kUploadIdBytes> upload_id{};
  Sha256Digest layout_digest;
  int64_t base_version = 0;
  Sha256Digest base_digest;
  std::string coverage;  // bit per release group
  uint32_t codec = 0;
  int64_t elements = 0;  // covered elements
  int64_t elements_per_frame = 0;
  int64_t payload_bytes = 0;
  int64_t chunk_count = 0;
  Sha256Digest payload_digest;
  bool sealed = true;
  std::string ephemeral_public;  // 32 bytes; empty when not sealed
  std::string wrapped_content_key;

  // Lower-case hexadecimal of upload_id: the key of rows and spool files.
  std::string IdHex() const;

  std::string Encode() const;
  // Errors: INVALID_ARGUMENT for bytes that Encode does not make;
  // UNIMPLEMENTED for a newer manifest version.
  static absl::StatusOr<UploadManifest> Decode(std::string_view bytes);

  friend bool operator==(const UploadManifest&,
                         const UploadManifest&) = default;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_MANIFEST_H_

#include "coordinator/engine/manifest.h"

#include <algorithm>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr uint32_t kMagic = 0x464E4D43;  // "CMNF"
constexpr size_t kMaxFieldBytes = size_t{16} << 20;

absl::Status ReadDigest(ByteReader& reader, Sha256Digest* out) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                             reader.Bytes(Sha256Digest::kSize));
  CONSILIUM_ASSIGN_OR_RETURN(*out, Sha256Digest::FromBytes(bytes));
  return absl::OkStatus();
}

}  // namespace

std::string UploadManifest::IdHex() const { return HexEncode(upload_id); }

std::string UploadManifest::Encode() const {
  ByteWriter out;
  out.U32(kMagic);
  out.U32(kVersion);
  out.I64(round);
  out.I64(attempt);
  out.Bytes(upload_id);
  out.Bytes(layout_digest.bytes);
  out.I64(base_version);
  out.Bytes(base_digest.bytes);
  out.LengthPrefixed(coverage);
  out.U32(codec);
  out.I64(elements);
  out.I64(elements_per_frame);
  out.I64(payload_bytes);
  out.I64(chunk_count);
  out.Bytes(payload_digest.bytes);
  out.U8(sealed ? 1 : 0);
  out.LengthPrefixed(ephemeral_public);
  out.LengthPrefixed(wrapped_content_key);
  return out.ToString();
}

absl::StatusOr<UploadManifest> UploadManifest::Decode(std::string_view bytes) {
  ByteReader in(AsBytes(bytes), "upload manifest");
  UploadManifest m;
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t magic, in.U32());
  if (magic != kMagic) {
    return absl::InvalidArgumentError("upload manifest: wrong magic number");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t version, in.U32());
  if (version != kVersion) {
    return absl::UnimplementedError(Cat("upload manifest: version ", version,
                                        ", this program reads ", kVersion,
                                        "; upgrade the coordinator"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(m.round, in.I64());
  CONSILIUM_ASSIGN_OR_RETURN(m.attempt, in.I64());
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> id,
                             in.Bytes(kUploadIdBytes));
  std::copy(id.begin(), id.end(), m.upload_id.begin());
  CONSILIUM_RETURN_IF_ERROR(ReadDigest(in, &m.layout_digest));
  CONSILIUM_ASSIGN_OR_RETURN(m.base_version, in.I64());
  CONSILIUM_RETURN_IF_ERROR(ReadDigest(in, &m.base_digest));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view coverage,
                             in.LengthPrefixedText(kMaxFieldBytes));
  m.coverage = std::string(coverage);
  CONSILIUM_ASSIGN_OR_RETURN(m.codec, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(m.elements, in.I64());
  CONSILIUM_ASSIGN_OR_RETURN(m.elements_per_frame, in.I64());
  CONSILIUM_ASSIGN_OR_RETURN(m.payload_bytes, in.I64());
  CONSILIUM_ASSIGN_OR_RETURN(m.chunk_count, in.I64());
  CONSILIUM_RETURN_IF_ERROR(ReadDigest(in, &m.payload_digest));
  CONSILIUM_ASSIGN_OR_RETURN(const uint8_t sealed, in.U8());
  if (sealed > 1) {
    return absl::InvalidArgumentError(Cat("upload manifest: sealed is ",
                                          static_cast<int>(sealed),
                                          ", must be 0 or 1"));
  }
  m.sealed = sealed == 1;
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view ephemeral,
                             in.LengthPrefixedText(1024));
  m.ephemeral_public = std::string(ephemeral);
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view wrapped,
                             in.LengthPrefixedText(1024));
  m.wrapped_content_key = std::string(wrapped);
  CONSILIUM_RETURN_IF_ERROR(in.ExpectEnd());
  return m;
}

}  // namespace consilium

#include "coordinator/store/spool_format.h"

#include <algorithm>
#include <string>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

constexpr uint32_t kMaxWrappedKeyBytes = 4096;
constexpr uint32_t kMaxSignatureBytes = 4096;

absl::Status AboveLimit(std::string_view field, uint64_t value,
                        uint64_t limit) {
  return absl::InvalidArgumentError(
      Cat("spool header: ", field, " ", value, " is not within 1..", limit));
}

size_t PaddedBytes(size_t manifest, size_t wrapped_key, size_t signature) {
  const size_t used = kSpoolFixedBytes + manifest + wrapped_key + signature;
  return (used + kSpoolAlignment - 1) / kSpoolAlignment * kSpoolAlignment;
}

absl::Status Damaged(const File& file, std::string_view what) {
  return absl::DataLossError(Cat("spool ", file.path(), ": ", what,
                                 "; the institution has to upload again"));
}

}  // namespace

absl::Status CheckSpoolHeader(const SpoolHeader& header) {
  if (header.total_chunks < 1 || header.total_chunks > kMaxSpoolChunks) {
    return AboveLimit("total_chunks", header.total_chunks, kMaxSpoolChunks);
  }
  if (header.max_record_bytes < 1 ||
      header.max_record_bytes > kMaxSpoolRecordBytes) {
    return AboveLimit("max_record_bytes", header.max_record_bytes,
                      kMaxSpoolRecordBytes);
  }
  if (header.payload_bytes >
      header.total_chunks * uint64_t{header.max_record_bytes}) {
    return absl::InvalidArgumentError(
        Cat("spool header: payload of ", header.payload_bytes,
            " bytes does not fit into ", header.total_chunks, " chunks of ",
            header.max_record_bytes));
  }
  if (header.vectors < 1) {
    return AboveLimit("vectors", header.vectors, 0xffffffff);
  }
  if (header.manifest.empty() ||
      header.manifest.size() > kMaxSpoolManifestBytes) {
    return AboveLimit("manifest bytes", header.manifest.size(),
                      kMaxSpoolManifestBytes);
  }
  if (header.wrapped_key.size() > kMaxWrappedKeyBytes) {
    return AboveLimit("wrapped key bytes", header.wrapped_key.size(),
                      kMaxWrappedKeyBytes);
  }
  if (header.signature.size() > kMaxSignatureBytes) {
    return AboveLimit("signature bytes", header.signature.size(),
                      kMaxSignatureBytes);
  }
  if (header.sealed == header.wrapped_key.empty()) {
    return absl::InvalidArgumentError(
        "spool header: a sealed spool has a wrapped key, a plain one has none");
  }
  return absl::OkStatus();
}

std::vector<std::byte> EncodeSpoolHeader(const SpoolHeader& header) {
  const size_t bytes =
      PaddedBytes(header.manifest.size(), header.wrapped_key.size(),
                  header.signature.size());
  ByteWriter writer;
  writer.U32(kSpoolMagic);
  writer.U16(kSpoolVersion);
  writer.U16(static_cast<uint16_t>((header.sealed ? kSpoolFlagSealed : 0) |
                                   (header.masked ? kSpoolFlagMasked : 0)));
  writer.U32(static_cast<uint32_t>(bytes));
  writer.U32(header.max_record_bytes);
  writer.U64(header.total_chunks);
  writer.U64(header.payload_bytes);
  writer.U64(header.elements_per_frame);
  writer.U32(header.vectors);
  writer.U32(static_cast<uint32_t>(header.manifest.size()));
  writer.U32(static_cast<uint32_t>(header.wrapped_key.size()));
  writer.U32(static_cast<uint32_t>(header.signature.size()));
  writer.U64(0);  // reserved
  CONSILIUM_CHECK(writer.size() == kSpoolHashOffset);
  writer.Zeros(Sha256Digest::kSize);
  CONSILIUM_CHECK(writer.size() == kSpoolFixedBytes);
  writer.Text(header.manifest);
  writer.Text(header.wrapped_key);
  writer.Text(header.signature);
  writer.Zeros(bytes - writer.size());
  std::vector<std::byte> out = std::move(writer).Take();
  // The digest is over the whole header with its own field zero.
  const Sha256Digest digest = Sha256(std::span<const std::byte>(out));
  std::copy(digest.bytes.begin(), digest.bytes.end(),
            out.begin() + kSpoolHashOffset);
  return out;
}

absl::StatusOr<DecodedSpoolHeader> ReadSpoolHeader(File* file) {
  std::vector<std::byte> bytes(kSpoolFixedBytes);
  CONSILIUM_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(0, bytes));
  if (got < kSpoolFixedBytes) return Damaged(*file, "the header is cut off");
  ByteReader reader(bytes, "spool header");
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t magic, reader.U32());
  if (magic != kSpoolMagic) return Damaged(*file, "this is no spool file");
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t version, reader.U16());
  if (version != kSpoolVersion) {
    return absl::UnimplementedError(
        Cat("spool ", file->path(), ": format version ", version,
            ", this program knows ", kSpoolVersion));
  }
  SpoolHeader header;
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t flags, reader.U16());
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t header_bytes, reader.U32());
  CONSILIUM_ASSIGN_OR_RETURN(header.max_record_bytes, reader.U32());
  CONSILIUM_ASSIGN_OR_RETURN(header.total_chunks, reader.U64());
  CONSILIUM_ASSIGN_OR_RETURN(header.payload_bytes, reader.U64());
  CONSILIUM_ASSIGN_OR_RETURN(header.elements_per_frame, reader.U64());
  CONSILIUM_ASSIGN_OR_RETURN(header.vectors, reader.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t manifest, reader.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t wrapped_key, reader.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t signature, reader.U32());
  // Sizes are checked before anything of that size is allocated.
  if (manifest > kMaxSpoolManifestBytes || wrapped_key > kMaxWrappedKeyBytes ||
      signature > kMaxSignatureBytes ||
      header_bytes != PaddedBytes(manifest, wrapped_key, signature)) {
    return Damaged(*file, "the sizes in the header do not fit");
  }
  bytes.resize(header_bytes);
  CONSILIUM_ASSIGN_OR_RETURN(const size_t all, file->ReadAt(0, bytes));
  if (all < header_bytes) return Damaged(*file, "the header is cut off");
  Sha256Digest stored;
  const auto field = bytes.begin() + kSpoolHashOffset;
  std::copy_n(field, Sha256Digest::kSize, stored.bytes.begin());
  std::fill_n(field, Sha256Digest::kSize, std::byte{0});
  if (Sha256(std::span<const std::byte>(bytes)) != stored) {
    return Damaged(*file, "the header's digest does not match");
  }
  if ((flags & ~(kSpoolFlagSealed | kSpoolFlagMasked)) != 0) {
    return absl::UnimplementedError(
        Cat("spool ", file->path(), ": unknown flags ", flags));
  }
  header.sealed = (flags & kSpoolFlagSealed) != 0;
  header.masked = (flags & kSpoolFlagMasked) != 0;
  const std::string_view text =
      AsChars(std::span<const std::byte>(bytes).subspan(kSpoolFixedBytes));
  header.manifest = text.substr(0, manifest);
  header.wrapped_key = text.substr(manifest, wrapped_key);
  header.signature = text.substr(manifest + wrapped_key, signature);
  if (const absl::Status status = CheckSpoolHeader(header); !status.ok()) {
    return Damaged(*file, StdView(status.message()));
  }
  return DecodedSpoolHeader{std::move(header),
                            static_cast<int64_t>(header_bytes)};
}

int64_t SpoolFileBytes(const SpoolHeader& header) {
  const size_t head =
      PaddedBytes(header.manifest.size(), header.wrapped_key.size(),
                  header.signature.size());
  // 2^26 chunks of 2^22 bytes at most (CheckSpoolHeader): far from overflow.
  const uint64_t per_record =
      kSpoolRecordHead + (header.sealed ? kSpoolTagBytes : 0);
  return static_cast<int64_t>(head + header.payload_bytes +
                              header.total_chunks * per_record);
}

std::array<std::byte, kSpoolRecordHead> EncodeRecordHead(
    const SpoolRecordHead& head) {
  std::array<std::byte, kSpoolRecordHead> out;
  StoreLittleEndian(head.length, out.data());
  StoreLittleEndian(head.vector, out.data() + 4);
  StoreLittleEndian(head.index, out.data() + 8);
  return out;
}

absl::StatusOr<bool> ReadRecordHead(File* file, int64_t offset,
                                    int64_t file_size, uint64_t expected,
                                    const SpoolHeader& header,
                                    SpoolRecordHead* head) {
  const auto head_bytes = static_cast<int64_t>(kSpoolRecordHead);
  if (expected >= header.total_chunks || offset + head_bytes > file_size) {
    return false;
  }
  std::array<std::byte, kSpoolRecordHead> raw;
  CONSILIUM_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(offset, raw));
  if (got < kSpoolRecordHead) return false;
  head->length = LoadLittleEndian<uint32_t>(raw.data());
  head->vector = LoadLittleEndian<uint32_t>(raw.data() + 4);
  head->index = LoadLittleEndian<uint64_t>(raw.data() + 8);
  return head->length >= 1 && head->length <= header.max_record_bytes &&
         head->vector < header.vectors && head->index == expected &&
         offset + head_bytes + static_cast<int64_t>(head->length) <= file_size;
}

}  // namespace consilium

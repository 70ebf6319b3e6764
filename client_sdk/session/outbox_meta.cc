#include "client_sdk/session/outbox_meta.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium::client::internal {
namespace {

constexpr SecretAccess kForOutbox("the outbox keeps the content key");
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxCoverageBytes = size_t{1} << 20;

void WriteDigest(ByteWriter& out, const Sha256Digest& digest) {
  out.Bytes(digest.bytes);
}

absl::StatusOr<Sha256Digest> ReadDigest(ByteReader& in) {
  CONSILIUM_ASSIGN_OR_RETURN(std::span<const std::byte> bytes,
                             in.Bytes(Sha256Digest::kSize));
  return Sha256Digest::FromBytes(bytes);
}

absl::Status ReadManifest(ByteReader& in, Manifest* m) {
  CONSILIUM_ASSIGN_OR_RETURN(m->round.round, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(m->round.attempt, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(std::string_view upload_id,
                             in.LengthPrefixedText(kMaxNameBytes));
  m->upload_id = std::string(upload_id);
  CONSILIUM_ASSIGN_OR_RETURN(m->layout_digest, ReadDigest(in));
  CONSILIUM_ASSIGN_OR_RETURN(m->base.number, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(m->base.digest, ReadDigest(in));
  CONSILIUM_ASSIGN_OR_RETURN(m->base.bytes, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(std::string_view coverage,
                             in.LengthPrefixedText(kMaxCoverageBytes));
  m->coverage = std::string(coverage);
  CONSILIUM_ASSIGN_OR_RETURN(m->codec, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(m->elements, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(m->elements_per_frame, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(m->payload_bytes, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(m->payload_digest, ReadDigest(in));
  CONSILIUM_ASSIGN_OR_RETURN(std::span<const std::byte> wrapped,
                             in.LengthPrefixed(WrappedKey::kBytes));
  if (!wrapped.empty()) {
    CONSILIUM_ASSIGN_OR_RETURN(m->wrapped_key, WrappedKey::Parse(wrapped));
  }
  CONSILIUM_ASSIGN_OR_RETURN(m->chunk_count, in.U64());
  return absl::OkStatus();
}

absl::StatusOr<OutboxRecord> ReadFields(ByteReader& in,
                                        std::span<const std::byte> key) {
  OutboxRecord record;
  CONSILIUM_ASSIGN_OR_RETURN(const uint8_t sealed, in.U8());
  if (sealed != 0) {
    CONSILIUM_ASSIGN_OR_RETURN(
        record.content_key, ContentKey::FromSecret(SecretBytes::CopyOf(key)));
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::string_view federation,
                             in.LengthPrefixedText(kMaxNameBytes));
  record.federation = std::string(federation);
  CONSILIUM_ASSIGN_OR_RETURN(std::string_view institution,
                             in.LengthPrefixedText(kMaxNameBytes));
  record.institution = std::string(institution);
  CONSILIUM_RETURN_IF_ERROR(ReadManifest(in, &record.manifest));
  const uint64_t chunks = record.manifest.chunk_count;
  if (chunks == 0 || chunks > in.remaining() / sizeof(uint32_t)) {
    return absl::DataLossError(Cat("count of chunks is ", chunks));
  }
  record.frame_bytes.reserve(chunks);
  uint64_t total = 0;
  for (uint64_t i = 0; i < chunks; ++i) {
    CONSILIUM_ASSIGN_OR_RETURN(const uint32_t bytes, in.U32());
    record.frame_bytes.push_back(bytes);
    total += bytes;
  }
  CONSILIUM_RETURN_IF_ERROR(in.ExpectEnd());
  if (total != record.manifest.payload_bytes ||
      record.manifest.wrapped_key.has_value() !=
          record.content_key.has_value()) {
    return absl::DataLossError("fields contradict each other");
  }
  return record;
}

}  // namespace

SecretBytes EncodeOutboxMeta(const OutboxRecord& record) {
  const Manifest& m = record.manifest;
  ByteWriter out;
  out.U32(kOutboxMagic);
  out.U32(kOutboxVersion);
  out.Zeros(kOutboxKeyBytes);  // the key never enters this buffer
  out.U8(record.content_key.has_value() ? 1 : 0);
  out.LengthPrefixed(record.federation);
  out.LengthPrefixed(record.institution);
  out.U64(m.round.round);
  out.U32(m.round.attempt);
  out.LengthPrefixed(m.upload_id);
  WriteDigest(out, m.layout_digest);
  out.U64(m.base.number);
  WriteDigest(out, m.base.digest);
  out.U64(m.base.bytes);
  out.LengthPrefixed(m.coverage);
  out.U32(m.codec);
  out.U64(m.elements);
  out.U32(m.elements_per_frame);
  out.U64(m.payload_bytes);
  WriteDigest(out, m.payload_digest);
  out.LengthPrefixed(m.wrapped_key.has_value() ? m.wrapped_key->Serialize()
                                               : std::string());
  out.U64(record.frame_bytes.size());
  for (const uint32_t bytes : record.frame_bytes) out.U32(bytes);

  SecretBytes meta(out.size() + Sha256Digest::kSize);
  const std::span<std::byte> raw = meta.MutableBytes(kForOutbox);
  std::copy(out.bytes().begin(), out.bytes().end(), raw.begin());
  if (record.content_key.has_value()) {
    const auto key = record.content_key->secret().Bytes(kForOutbox);
    std::copy(key.begin(), key.end(), raw.begin() + kOutboxKeyOffset);
  }
  const Sha256Digest sum = Sha256(raw.first(out.size()));
  std::copy(sum.bytes.begin(), sum.bytes.end(), raw.begin() + out.size());
  return meta;
}

absl::StatusOr<OutboxRecord> DecodeOutboxMeta(
    std::span<const std::byte> bytes) {
  constexpr size_t kLeast =
      kOutboxKeyOffset + kOutboxKeyBytes + Sha256Digest::kSize;
  if (bytes.size() < kLeast) {
    return absl::DataLossError(
        Cat("the file has ", bytes.size(), " bytes; it is torn"));
  }
  const auto body = bytes.first(bytes.size() - Sha256Digest::kSize);
  const auto sum = bytes.last(Sha256Digest::kSize);
  if (!std::equal(sum.begin(), sum.end(), Sha256(body).bytes.begin())) {
    return absl::DataLossError("its checksum is wrong: torn or wiped");
  }
  ByteReader in(body, "outbox meta");
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t magic, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const uint32_t version, in.U32());
  if (magic != kOutboxMagic) return absl::DataLossError("wrong magic number");
  if (version != kOutboxVersion) {
    return absl::UnimplementedError(
        Cat("outbox entry of version ", version, "; this program reads ",
            kOutboxVersion, ": finish the upload with the newer program"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::span<const std::byte> key,
                             in.Bytes(kOutboxKeyBytes));
  absl::StatusOr<OutboxRecord> record = ReadFields(in, key);
  if (!record.ok()) {
    return absl::DataLossError(record.status().message());
  }
  return record;
}

}  // namespace consilium::client::internal

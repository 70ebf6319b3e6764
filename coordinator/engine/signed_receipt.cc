// Receipts as contribution rows keep them.

#include <span>
#include <string>
#include <string_view>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/upload_hub.h"

namespace consilium {

std::string SignedReceipt::Encode() const {
  ByteWriter out;
  out.U16(1);
  out.LengthPrefixed(statement.federation);
  out.U64(statement.round);
  out.U32(statement.attempt);
  out.LengthPrefixed(statement.institution);
  out.LengthPrefixed(statement.upload_id);
  out.Bytes(statement.payload_digest.bytes);
  out.U64(statement.payload_bytes);
  out.I64(absl::ToUnixMicros(statement.committed_at));
  out.Bytes(signature.bytes);
  return out.ToString();
}

absl::StatusOr<SignedReceipt> SignedReceipt::Decode(std::string_view bytes) {
  ByteReader in(AsBytes(bytes), "stored receipt");
  SignedReceipt r;
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t version, in.U16());
  if (version != 1) {
    return absl::DataLossError(
        Cat("stored receipt has version ", version, ", expected 1"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view federation,
                             in.LengthPrefixedText(256));
  r.statement.federation = std::string(federation);
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.round, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.attempt, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view institution,
                             in.LengthPrefixedText(256));
  r.statement.institution = std::string(institution);
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view upload_id,
                             in.LengthPrefixedText(256));
  r.statement.upload_id = std::string(upload_id);
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> digest,
                             in.Bytes(Sha256Digest::kSize));
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.payload_digest,
                             Sha256Digest::FromBytes(digest));
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.payload_bytes, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t at, in.I64());
  r.statement.committed_at = absl::FromUnixMicros(at);
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> signature,
                             in.Bytes(Signature::kBytes));
  CONSILIUM_ASSIGN_OR_RETURN(r.signature, Signature::FromBytes(signature));
  CONSILIUM_RETURN_IF_ERROR(in.ExpectEnd());
  return r;
}

}  // namespace consilium

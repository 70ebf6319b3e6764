#include "coordinator/rpc/engine_proto.h"

#include <algorithm>
#include <limits>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr size_t kMaxCoverageBytes = size_t{1} << 20;
constexpr size_t kMaxWrappedBytes = 1024;
constexpr std::string_view kParameters = "parameters";

absl::Status Narrow(std::string_view field, uint64_t value, int64_t* out) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(
        Cat("manifest.", field, " is ", value, ", more than 2^63 - 1"));
  }
  *out = static_cast<int64_t>(value);
  return absl::OkStatus();
}

}  // namespace

v1::Refusal ToProto(const Refused& refused) {
  v1::Refusal out;
  out.set_code(static_cast<v1::Refusal::Code>(refused.code));
  out.set_message(refused.message);
  out.set_retry_after_millis(static_cast<uint64_t>(
      std::max<int64_t>(0, absl::ToInt64Milliseconds(refused.retry_after))));
  return out;
}

absl::StatusOr<UploadManifest> FromProto(const v1::UploadManifest& in) {
  if (in.manifest_version() != UploadManifest::kVersion) {
    return absl::InvalidArgumentError(
        Cat("manifest.manifest_version is ", in.manifest_version(),
            ", this coordinator reads ", UploadManifest::kVersion));
  }
  UploadManifest m;
  CONSILIUM_RETURN_IF_ERROR(Narrow("round", in.round(), &m.round));
  m.attempt = in.attempt();
  if (in.upload_id().size() != kUploadIdBytes) {
    return absl::InvalidArgumentError(
        Cat("manifest.upload_id has ", in.upload_id().size(),
            " bytes, must have ", kUploadIdBytes));
  }
  const auto id = AsBytes(in.upload_id());
  std::copy(id.begin(), id.end(), m.upload_id.begin());
  CONSILIUM_ASSIGN_OR_RETURN(
      m.layout_digest, DigestOf(in.layout_digest(), "manifest.layout_digest"));
  CONSILIUM_ASSIGN_OR_RETURN(const SignedVersionRef base, FromProto(in.base()));
  CONSILIUM_RETURN_IF_ERROR(
      Narrow("base.number", base.number, &m.base_version));
  m.base_digest = base.digest;
  if (in.coverage().size() > kMaxCoverageBytes) {
    return absl::InvalidArgumentError(
        Cat("manifest.coverage has ", in.coverage().size(),
            " bytes, the limit is ", kMaxCoverageBytes));
  }
  m.coverage = in.coverage();
  if (in.vectors_size() != 1) {
    return absl::InvalidArgumentError(
        Cat("manifest.vectors has ", in.vectors_size(),
            " entries; a plain upload has one vector, \"parameters\""));
  }
  const v1::VectorSpec& vector = in.vectors(0);
  if (vector.name() != kParameters) {
    return absl::InvalidArgumentError(
        Cat("manifest.vectors[0].name is ", Quoted(vector.name()),
            "; a plain upload has one vector, \"parameters\""));
  }
  m.codec = vector.codec();
  CONSILIUM_RETURN_IF_ERROR(
      Narrow("vectors[0].elements", vector.elements(), &m.elements));
  m.elements_per_frame = in.elements_per_frame();
  CONSILIUM_RETURN_IF_ERROR(
      Narrow("payload_bytes", in.payload_bytes(), &m.payload_bytes));
  CONSILIUM_RETURN_IF_ERROR(
      Narrow("chunk_count", in.chunk_count(), &m.chunk_count));
  if (vector.frames() + 1 != in.chunk_count()) {
    return absl::InvalidArgumentError(
        Cat("manifest.chunk_count is ", in.chunk_count(), ", ", vector.frames(),
            " frames and the metadata make ", vector.frames() + 1));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      m.payload_digest,
      DigestOf(in.payload_sha256(), "manifest.payload_sha256"));
  m.sealed = in.sealed();
  if (in.wrapped_key().ephemeral_public().size() > kMaxWrappedBytes ||
      in.wrapped_key().ciphertext().size() > kMaxWrappedBytes) {
    return absl::InvalidArgumentError(Cat(
        "manifest.wrapped_key is longer than ", kMaxWrappedBytes, " bytes"));
  }
  if (m.sealed) {
    m.ephemeral_public = in.wrapped_key().ephemeral_public();
    m.wrapped_content_key = in.wrapped_key().ciphertext();
  }
  return m;
}

}  // namespace consilium

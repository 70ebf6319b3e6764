#include "proto/wire/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr int kMaxCodecs = 64;

absl::Status CheckName(std::string_view field, std::string_view value) {
  if (!value.empty() && value.size() <= kMaxNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat(
      field, " has ", value.size(), " bytes, must have 1 to ", kMaxNameBytes));
}

}  // namespace

v1::ProtocolRange OwnProtocolRange() {
  v1::ProtocolRange range;
  range.set_min(kProtocolMin);
  range.set_max(kProtocolMax);
  return range;
}

absl::StatusOr<uint32_t> NegotiateProtocol(const v1::ProtocolRange& peer) {
  const uint32_t highest = std::min(peer.max(), kProtocolMax);
  if (highest >= std::max(peer.min(), kProtocolMin)) return highest;
  return absl::FailedPreconditionError(Cat(
      "no protocol version in common: the caller speaks ", peer.min(), " to ",
      peer.max(), ", this side ", kProtocolMin, " to ", kProtocolMax,
      "; upgrade the ", peer.max() < kProtocolMin ? "caller" : "coordinator"));
}

int64_t MicrosOf(absl::Time time) {
  if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return 0;
  return absl::ToUnixMicros(time);
}

absl::Time TimeOf(int64_t micros) { return absl::FromUnixMicros(micros); }

std::string BytesOf(const Sha256Digest& digest) {
  return std::string(AsChars(digest.bytes));
}

absl::StatusOr<Sha256Digest> DigestOf(std::string_view bytes,
                                      std::string_view field) {
  if (bytes.size() != Sha256Digest::kSize) {
    return absl::InvalidArgumentError(Cat(field, " has ", bytes.size(),
                                          " bytes, a SHA-256 digest has ",
                                          Sha256Digest::kSize));
  }
  return Sha256Digest::FromBytes(AsBytes(bytes));
}

void ToProto(const SignedVersionRef& ref, v1::VersionRef* out) {
  out->set_number(ref.number);
  out->set_digest(BytesOf(ref.digest));
  out->set_bytes(ref.bytes);
}

absl::StatusOr<SignedVersionRef> FromProto(const v1::VersionRef& in) {
  SignedVersionRef ref;
  ref.number = in.number();
  CONSILIUM_ASSIGN_OR_RETURN(ref.digest,
                             DigestOf(in.digest(), "version.digest"));
  if (in.bytes() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(
        Cat("version.bytes is ", in.bytes(), ", more than 2^63 - 1"));
  }
  ref.bytes = in.bytes();
  return ref;
}

void ToProto(const RoundStatement& s, v1::RoundAnnouncement* out) {
  out->set_federation(s.federation);
  out->set_round(s.round);
  out->set_attempt(s.attempt);
  ToProto(s.base, out->mutable_base());
  out->set_layout_digest(BytesOf(s.layout_digest));
  out->set_sealed(s.sealing_public_key.has_value());
  if (s.sealing_public_key.has_value()) {
    out->set_sealing_public_key(
        std::string(AsChars(s.sealing_public_key->bytes)));
  }
  for (const uint32_t codec : s.codecs) out->add_codecs(codec);
  out->set_elements_per_frame(s.elements_per_frame);
  out->set_max_update_bytes(s.max_update_bytes);
  out->set_weight_max(s.weight_max);
  out->set_min_examples(s.min_examples);
  out->set_max_norm(s.max_norm);
  out->set_deadline(MicrosOf(s.deadline));
  out->set_session_kind(s.session_kind);
  out->set_session_config_digest(s.session_config_digest);
}

absl::StatusOr<RoundStatement> FromProto(const v1::RoundAnnouncement& in) {
  RoundStatement s;
  CONSILIUM_RETURN_IF_ERROR(CheckName("federation", in.federation()));
  s.federation = in.federation();
  s.round = in.round();
  s.attempt = in.attempt();
  CONSILIUM_ASSIGN_OR_RETURN(s.base, FromProto(in.base()));
  CONSILIUM_ASSIGN_OR_RETURN(s.layout_digest,
                             DigestOf(in.layout_digest(), "layout_digest"));
  if (in.sealed()) {
    CONSILIUM_ASSIGN_OR_RETURN(
        s.sealing_public_key,
        X25519PublicKey::FromBytes(AsBytes(in.sealing_public_key())));
  }
  if (in.codecs_size() > kMaxCodecs) {
    return absl::InvalidArgumentError(
        Cat("codecs has ", in.codecs_size(), " entries, at most ", kMaxCodecs));
  }
  s.codecs.assign(in.codecs().begin(), in.codecs().end());
  s.elements_per_frame = in.elements_per_frame();
  s.max_update_bytes = in.max_update_bytes();
  if (!std::isfinite(in.weight_max()) || !std::isfinite(in.max_norm())) {
    return absl::InvalidArgumentError(Cat("weight_max ", in.weight_max(),
                                          " or max_norm ", in.max_norm(),
                                          " is not a finite number"));
  }
  s.weight_max = in.weight_max();
  s.min_examples = in.min_examples();
  s.max_norm = in.max_norm();
  s.deadline = TimeOf(in.deadline());
  s.session_kind = in.session_kind();
  if (in.session_config_digest().size() > Sha256Digest::kSize) {
    return absl::InvalidArgumentError(Cat("session_config_digest has ",
                                          in.session_config_digest().size(),
                                          " bytes"));
  }
  s.session_config_digest = in.session_config_digest();
  return s;
}

void ToProto(const ReceiptStatement& s, const Signature& signature,
             v1::Receipt* out) {
  out->set_federation(s.federation);
  out->set_round(s.round);
  out->set_attempt(s.attempt);
  out->set_institution(s.institution);
  out->set_upload_id(s.upload_id);
  out->set_payload_sha256(BytesOf(s.payload_digest));
  out->set_payload_bytes(s.payload_bytes);
  out->set_committed_at(MicrosOf(s.committed_at));
  out->set_signature(signature.ToString());
}

absl::StatusOr<ReceiptAndSignature> FromProto(const v1::Receipt& in) {
  ReceiptAndSignature out;
  ReceiptStatement& s = out.statement;
  CONSILIUM_RETURN_IF_ERROR(CheckName("federation", in.federation()));
  CONSILIUM_RETURN_IF_ERROR(CheckName("institution", in.institution()));
  CONSILIUM_RETURN_IF_ERROR(CheckName("upload_id", in.upload_id()));
  s.federation = in.federation();
  s.round = in.round();
  s.attempt = in.attempt();
  s.institution = in.institution();
  s.upload_id = in.upload_id();
  CONSILIUM_ASSIGN_OR_RETURN(s.payload_digest,
                             DigestOf(in.payload_sha256(), "payload_sha256"));
  s.payload_bytes = in.payload_bytes();
  s.committed_at = TimeOf(in.committed_at());
  CONSILIUM_ASSIGN_OR_RETURN(
      out.signature, Signature::FromBytes(std::string_view(in.signature())));
  return out;
}

absl::StatusOr<std::map<std::string, double>> MetricsOf(
    const google::protobuf::RepeatedPtrField<v1::NamedValue>& in,
    int max_metrics) {
  if (in.size() > max_metrics) {
    return absl::InvalidArgumentError(Cat(
        in.size(), " metrics, the limit is limits.max_metrics ", max_metrics));
  }
  std::map<std::string, double> out;
  for (const v1::NamedValue& metric : in) {
    CONSILIUM_RETURN_IF_ERROR(CheckName("metric name", metric.name()));
    if (!std::isfinite(metric.value())) {
      return absl::InvalidArgumentError(
          Cat("metric ", Quoted(metric.name()), " is not a finite number"));
    }
    if (!out.emplace(metric.name(), metric.value()).second) {
      return absl::InvalidArgumentError(
          Cat("metric ", Quoted(metric.name()), " is given twice"));
    }
  }
  return out;
}

}  // namespace consilium

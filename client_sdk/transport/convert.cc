#include "client_sdk/transport/convert.h"

#include <algorithm>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"
#include "proto/wire/convert.h"

namespace consilium::client::internal {
namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr uint64_t kMaxMillis = uint64_t{1000} * 3600 * 24 * 366;

absl::Status Malformed(std::string_view message, const absl::Status& why) {
  return absl::InternalError(Cat("the coordinator's ", message,
                                 " is malformed: ", StdView(why.message())));
}

absl::Duration MillisOf(uint64_t millis) {
  return absl::Milliseconds(static_cast<int64_t>(std::min(millis, kMaxMillis)));
}

std::string TextOf(const std::string& text) {
  return CleanText(text, kMaxTextBytes);
}

absl::StatusOr<Version> VersionOf(const v1::VersionRef& in) {
  CONSILIUM_ASSIGN_OR_RETURN(const SignedVersionRef ref,
                             consilium::FromProto(in));
  return Version{ref.number, ref.digest, ref.bytes};
}

absl::StatusOr<TrainOffer> OfferOf(const v1::TrainTask& in) {
  TrainOffer offer;
  CONSILIUM_ASSIGN_OR_RETURN(offer.terms.statement,
                             consilium::FromProto(in.announcement()));
  CONSILIUM_ASSIGN_OR_RETURN(
      offer.terms.signature,
      Signature::FromBytes(std::string_view(in.signature())));
  for (const auto& [key, value] : in.parameters()) {
    offer.parameters.emplace(key, value);
  }
  offer.progress_period = MillisOf(in.progress_period_millis());
  return offer;
}

absl::StatusOr<EvaluateOffer> OfferOf(const v1::EvaluateTask& in) {
  EvaluateOffer offer;
  offer.task.round = in.round();
  offer.task.attempt = in.attempt();
  CONSILIUM_ASSIGN_OR_RETURN(offer.task.candidate, VersionOf(in.candidate()));
  CONSILIUM_ASSIGN_OR_RETURN(
      offer.signature, Signature::FromBytes(std::string_view(in.signature())));
  if (in.deadline() != 0) offer.task.deadline = TimeOf(in.deadline());
  return offer;
}

absl::StatusOr<Idle> IdleOf(const v1::Idle& in) {
  Idle idle;
  idle.reason = TextOf(in.reason());
  if (in.next_round_at() != 0) idle.next_round_at = TimeOf(in.next_round_at());
  if (in.has_current()) {
    CONSILIUM_ASSIGN_OR_RETURN(idle.current, VersionOf(in.current()));
  }
  return idle;
}

absl::StatusOr<WorkReply> ReplyOf(const v1::WaitForWorkResponse& in) {
  WorkReply reply;
  reply.revision = in.revision();
  switch (in.work_case()) {
    case v1::WaitForWorkResponse::kTrain: {
      CONSILIUM_ASSIGN_OR_RETURN(reply.work, OfferOf(in.train()));
      return reply;
    }
    case v1::WaitForWorkResponse::kEvaluate: {
      CONSILIUM_ASSIGN_OR_RETURN(reply.work, OfferOf(in.evaluate()));
      return reply;
    }
    case v1::WaitForWorkResponse::kIdle: {
      CONSILIUM_ASSIGN_OR_RETURN(reply.work, IdleOf(in.idle()));
      return reply;
    }
    case v1::WaitForWorkResponse::WORK_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("work is not set");
}

}  // namespace

void ToProto(const HelloCall& call, v1::HelloRequest* out) {
  *out->mutable_protocol() = OwnProtocolRange();
  out->set_software(call.software);
  for (const uint32_t codec : call.codecs) out->add_codecs(codec);
}

void ToProto(const Version& version, v1::VersionRef* out) {
  out->set_number(version.number);
  out->set_digest(BytesOf(version.digest));
  out->set_bytes(version.bytes);
}

void ToProto(const Manifest& manifest, v1::UploadManifest* out) {
  out->set_manifest_version(1);
  out->set_round(manifest.round.round);
  out->set_attempt(manifest.round.attempt);
  out->set_upload_id(manifest.upload_id);
  out->set_layout_digest(BytesOf(manifest.layout_digest));
  ToProto(manifest.base, out->mutable_base());
  out->set_coverage(manifest.coverage);
  v1::VectorSpec* vector = out->add_vectors();
  vector->set_name("parameters");
  vector->set_codec(manifest.codec);
  vector->set_elements(manifest.elements);
  vector->set_frames(manifest.chunk_count - 1);
  out->set_elements_per_frame(manifest.elements_per_frame);
  out->set_payload_bytes(manifest.payload_bytes);
  out->set_chunk_count(manifest.chunk_count);
  out->set_payload_sha256(BytesOf(manifest.payload_digest));
  out->set_sealed(manifest.wrapped_key.has_value());
  if (manifest.wrapped_key.has_value()) {
    out->mutable_wrapped_key()->set_ephemeral_public(
        std::string(AsChars(manifest.wrapped_key->ephemeral_public.bytes)));
    out->mutable_wrapped_key()->set_ciphertext(
        std::string(AsChars(manifest.wrapped_key->ciphertext)));
  }
}

absl::StatusOr<Greeting> FromProto(const v1::HelloResponse& in) {
  if (in.protocol() < kProtocolMin || in.protocol() > kProtocolMax) {
    return absl::FailedPreconditionError(
        Cat("the coordinator chose protocol version ", in.protocol(),
            "; this build speaks ", kProtocolMin, " to ", kProtocolMax));
  }
  Greeting greeting;
  greeting.protocol = in.protocol();
  greeting.federation = in.federation();
  greeting.institution = in.institution();
  // Before version 0 is imported there is no layout.
  if (!in.layout_digest().empty()) {
    auto digest = DigestOf(in.layout_digest(), "layout_digest");
    if (!digest.ok()) return Malformed("greeting", digest.status());
    greeting.layout_digest = *digest;
  }
  greeting.layout_bytes = in.layout_bytes();
  greeting.max_update_bytes = in.max_update_bytes();
  greeting.max_chunk_bytes = in.max_chunk_bytes();
  greeting.upload_window_bytes = in.upload_window_bytes();
  greeting.long_poll = MillisOf(in.long_poll_millis());
  greeting.certificate_not_after = TimeOf(in.certificate_not_after());
  greeting.renew_after = TimeOf(in.renew_after());
  greeting.features.assign(in.features().begin(), in.features().end());
  return greeting;
}

absl::StatusOr<WorkReply> FromProto(const v1::WaitForWorkResponse& in) {
  auto reply = ReplyOf(in);
  if (!reply.ok()) return Malformed("answer about work", reply.status());
  return reply;
}

absl::StatusOr<SignedReceipt> FromProto(const v1::Receipt& in) {
  auto receipt = consilium::FromProto(in);
  if (!receipt.ok()) return Malformed("receipt", receipt.status());
  return SignedReceipt{std::move(receipt->statement), receipt->signature};
}

absl::StatusOr<BeginOutcome> FromProto(const v1::BeginUploadResponse& in) {
  switch (in.outcome_case()) {
    case v1::BeginUploadResponse::kAccepted:
      return UploadAccepted{in.accepted().upload_id(),
                            in.accepted().next_chunk(),
                            in.accepted().window_bytes()};
    case v1::BeginUploadResponse::kCommitted: {
      CONSILIUM_ASSIGN_OR_RETURN(SignedReceipt receipt,
                                 FromProto(in.committed()));
      return receipt;
    }
    case v1::BeginUploadResponse::kRefusal:
      return FromProto(in.refusal());
    case v1::BeginUploadResponse::OUTCOME_NOT_SET:
      break;
  }
  return Malformed("answer to BeginUpload",
                   absl::InvalidArgumentError("outcome is not set"));
}

absl::StatusOr<CommitOutcome> FromProto(const v1::CommitUploadResponse& in) {
  switch (in.outcome_case()) {
    case v1::CommitUploadResponse::kReceipt: {
      CONSILIUM_ASSIGN_OR_RETURN(SignedReceipt receipt,
                                 FromProto(in.receipt()));
      return receipt;
    }
    case v1::CommitUploadResponse::kRefusal:
      return FromProto(in.refusal());
    case v1::CommitUploadResponse::OUTCOME_NOT_SET:
      break;
  }
  return Malformed("answer to CommitUpload",
                   absl::InvalidArgumentError("outcome is not set"));
}

Refused FromProto(const v1::Refusal& in) {
  return {.code = static_cast<RefusalCode>(in.code()),
          .message = TextOf(in.message()),
          .retry_after = MillisOf(in.retry_after_millis())};
}

}  // namespace consilium::client::internal

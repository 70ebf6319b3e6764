#include "client_sdk/session/statements.h"

#include <memory>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

absl::Status Mismatch(std::string_view statement, std::string_view field,
                      std::string_view got, std::string_view want) {
  return absl::UnauthenticatedError(
      Cat("the coordinator's ", statement, " is for ", field, " ", Quoted(got),
          "; this institution expects ", Quoted(want)));
}

absl::Status CheckRound(std::string_view statement, const RoundRef& got,
                        const RoundRef& want) {
  if (got == want) return absl::OkStatus();
  return Mismatch(statement, "round", Cat(got.round, ".", got.attempt),
                  Cat(want.round, ".", want.attempt));
}

Version ToVersion(const SignedVersionRef& ref) {
  return {ref.number, ref.digest, ref.bytes};
}

}  // namespace

absl::StatusOr<TrainTask> VerifiedTask(const Trust& trust, TrainOffer offer) {
  const RoundStatement& s = offer.terms.statement;
  CONSILIUM_RETURN_IF_ERROR(
      VerifyStatement(trust.signing_key, s, offer.terms.signature));
  if (s.federation != trust.federation) {
    return Mismatch("round announcement", "federation", s.federation,
                    trust.federation);
  }
  TrainTask task;
  task.federation = s.federation;
  task.round = s.round;
  task.attempt = s.attempt;
  task.base = ToVersion(s.base);
  task.layout_digest = s.layout_digest;
  task.deadline = s.deadline;
  task.min_examples = s.min_examples;
  task.weight_max = s.weight_max;
  task.max_norm = s.max_norm;
  task.max_update_bytes = s.max_update_bytes;
  task.sealed = s.sealing_public_key.has_value();
  task.parameters = std::move(offer.parameters);
  task.progress_period = offer.progress_period;
  task.terms = std::make_shared<const SignedTerms>(std::move(offer.terms));
  return task;
}

absl::StatusOr<EvaluateTask> VerifiedTask(const Trust& trust,
                                          const Sha256Digest& layout_digest,
                                          EvaluateOffer offer) {
  const Version& candidate = offer.task.candidate;
  const VersionStatement statement = {
      .federation = trust.federation,
      .version = {candidate.number, candidate.digest, candidate.bytes},
      .layout_digest = layout_digest};
  CONSILIUM_RETURN_IF_ERROR(
      VerifyStatement(trust.signing_key, statement, offer.signature));
  return std::move(offer.task);
}

absl::StatusOr<Receipt> VerifiedReceipt(const Trust& trust,
                                        const RoundRef& round,
                                        const SignedReceipt& receipt) {
  const ReceiptStatement& s = receipt.statement;
  CONSILIUM_RETURN_IF_ERROR(
      VerifyStatement(trust.signing_key, s, receipt.signature));
  if (s.federation != trust.federation) {
    return Mismatch("receipt", "federation", s.federation, trust.federation);
  }
  if (s.institution != trust.institution) {
    return Mismatch("receipt", "institution", s.institution, trust.institution);
  }
  CONSILIUM_RETURN_IF_ERROR(CheckRound("receipt", {s.round, s.attempt}, round));
  Receipt out;
  out.federation = s.federation;
  out.round = s.round;
  out.attempt = s.attempt;
  out.institution = s.institution;
  out.upload_id = HexEncode(AsBytes(s.upload_id));
  out.payload_digest = s.payload_digest;
  out.payload_bytes = s.payload_bytes;
  out.committed_at = s.committed_at;
  out.signature = HexEncode(receipt.signature.bytes);
  return out;
}

absl::StatusOr<Receipt> VerifiedReceipt(const Trust& trust,
                                        const Manifest& manifest,
                                        const SignedReceipt& receipt) {
  CONSILIUM_ASSIGN_OR_RETURN(Receipt out,
                             VerifiedReceipt(trust, manifest.round, receipt));
  const ReceiptStatement& s = receipt.statement;
  if (s.upload_id == manifest.upload_id &&
      (s.payload_digest != manifest.payload_digest ||
       s.payload_bytes != manifest.payload_bytes)) {
    return Mismatch("receipt", "payload", s.payload_digest.Hex(),
                    manifest.payload_digest.Hex());
  }
  return out;
}

}  // namespace consilium::client::internal

#include "consilium/secure/signing.h"

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/canonical.h"

namespace consilium {
namespace {

void Append(CanonicalEncoder& encoder, const SignedVersionRef& version) {
  encoder.U64(version.number).Bytes(version.digest.bytes).U64(version.bytes);
}

std::string_view NameOf(const RoundStatement&) { return "round announcement"; }
std::string_view NameOf(const ReceiptStatement&) { return "receipt"; }
std::string_view NameOf(const VersionStatement&) { return "version"; }
std::string_view NameOf(const AuditHeadStatement&) { return "audit head"; }

template <typename Statement>
absl::StatusOr<Signature> Sign(const SigningKey& key,
                               const Statement& statement) {
  return key.Sign(AsBytes(CanonicalBytes(statement)));
}

template <typename Statement>
absl::Status Verify(const VerifyKey& key, const Statement& statement,
                    const Signature& signature) {
  const absl::Status verified =
      key.Verify(AsBytes(CanonicalBytes(statement)), signature);
  if (verified.ok()) return verified;
  return absl::Status(
      verified.code(),
      AbslView(Cat("the ", NameOf(statement), " of federation ",
                   Quoted(statement.federation),
                   " does not carry its coordinator's signature (",
                   StdView(verified.message()),
                   "); it was changed on the way, or comes from another "
                   "coordinator than the one enrolled with")));
}

}  // namespace

std::string CanonicalBytes(const RoundStatement& s) {
  CanonicalEncoder encoder("consilium/round/v1");
  encoder.String(s.federation).U64(s.round).U64(s.attempt);
  Append(encoder, s.base);
  encoder.Bytes(s.layout_digest.bytes).Bool(s.sealing_public_key.has_value());
  if (s.sealing_public_key.has_value()) {
    encoder.Bytes(s.sealing_public_key->bytes);
  } else {
    encoder.Bytes({});
  }
  encoder.Count(s.codecs.size());
  for (const uint32_t codec : s.codecs) encoder.U64(codec);
  encoder.U64(s.elements_per_frame)
      .U64(s.max_update_bytes)
      .F64(s.weight_max)
      .U64(s.min_examples)
      .F64(s.max_norm)
      .I64(absl::ToUnixMicros(s.deadline))
      .U64(s.session_kind)
      .String(s.session_config_digest);
  return std::move(encoder).str();
}

std::string CanonicalBytes(const ReceiptStatement& s) {
  CanonicalEncoder encoder("consilium/receipt/v1");
  encoder.String(s.federation)
      .U64(s.round)
      .U64(s.attempt)
      .String(s.institution)
      .String(s.upload_id)
      .Bytes(s.payload_digest.bytes)
      .U64(s.payload_bytes)
      .I64(absl::ToUnixMicros(s.committed_at));
  return std::move(encoder).str();
}

std::string CanonicalBytes(const VersionStatement& s) {
  CanonicalEncoder encoder("consilium/version/v1");
  encoder.String(s.federation);
  Append(encoder, s.version);
  encoder.Bytes(s.layout_digest.bytes);
  return std::move(encoder).str();
}

std::string CanonicalBytes(const AuditHeadStatement& s) {
  CanonicalEncoder encoder("consilium/audit-head/v1");
  encoder.String(s.federation).U64(s.seq).Bytes(s.hash.bytes);
  return std::move(encoder).str();
}

absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const RoundStatement& statement) {
  return Sign(key, statement);
}
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const ReceiptStatement& statement) {
  return Sign(key, statement);
}
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const VersionStatement& statement) {
  return Sign(key, statement);
}
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const AuditHeadStatement& statement) {
  return Sign(key, statement);
}

absl::Status VerifyStatement(const VerifyKey& key,
                             const RoundStatement& statement,
                             const Signature& signature) {
  return Verify(key, statement, signature);
}
absl::Status VerifyStatement(const VerifyKey& key,
                             const ReceiptStatement& statement,
                             const Signature& signature) {
  return Verify(key, statement, signature);
}
absl::Status VerifyStatement(const VerifyKey& key,
                             const VersionStatement& statement,
                             const Signature& signature) {
  return Verify(key, statement, signature);
}
absl::Status VerifyStatement(const VerifyKey& key,
                             const AuditHeadStatement& statement,
                             const Signature& signature) {
  return Verify(key, statement, signature);
}

}  // namespace consilium

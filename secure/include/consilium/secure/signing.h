// Statements under the coordinator's signature.
#ifndef CONSILIUM_SECURE_SIGNING_H_
#define CONSILIUM_SECURE_SIGNING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/x25519.h"

namespace consilium {

// Statements that the coordinator signs with its Ed25519 key, which every
// institution pinned when it enrolled. What is signed is the canonical
// encoding (canonical.h) of the fields in the order below, under the named
// domain; never the bytes of a message. Times are microseconds since 1970 UTC.

struct SignedVersionRef {
  uint64_t number = 0;
  Sha256Digest digest;  // of the version file
  uint64_t bytes = 0;
};

// Domain "consilium/round/v1": what a round is. Field order: federation,
// round, attempt, base number, base digest, base bytes, layout digest, sealed,
// sealing key (empty when not sealed), count of codecs and each codec,
// elements per frame, max update bytes, weight max, min examples, max norm,
// deadline, session kind, session config digest (raw; may be empty).
struct RoundStatement {
  std::string federation;
  uint64_t round = 0;
  uint32_t attempt = 0;
  SignedVersionRef base;
  Sha256Digest layout_digest;
  std::optional<X25519PublicKey> sealing_public_key;  // unset: not sealed
  std::vector<uint32_t> codecs;
  uint32_t elements_per_frame = 0;
  uint64_t max_update_bytes = 0;
  double weight_max = 0;
  uint64_t min_examples = 0;
  double max_norm = 0;
  absl::Time deadline;
  uint32_t session_kind = 0;
  std::string session_config_digest;
};

// Domain "consilium/receipt/v1": these bytes were taken. Field order as here.
struct ReceiptStatement {
  std::string federation;
  uint64_t round = 0;
  uint32_t attempt = 0;
  std::string institution;
  std::string upload_id;  // raw bytes
  Sha256Digest payload_digest;
  uint64_t payload_bytes = 0;
  absl::Time committed_at;
};

// Domain "consilium/version/v1": this is a version of the federation. Field
// order as here.
struct VersionStatement {
  std::string federation;
  SignedVersionRef version;
  Sha256Digest layout_digest;
};

// Domain "consilium/audit-head/v1": the audit log ends here. Field order as
// here.
struct AuditHeadStatement {
  std::string federation;
  uint64_t seq = 0;
  Sha256Digest hash;
};

std::string CanonicalBytes(const RoundStatement& statement);
std::string CanonicalBytes(const ReceiptStatement& statement);
std::string CanonicalBytes(const VersionStatement& statement);
std::string CanonicalBytes(const AuditHeadStatement& statement);

absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const RoundStatement& statement);
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const ReceiptStatement& statement);
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const VersionStatement& statement);
absl::StatusOr<Signature> SignStatement(const SigningKey& key,
                                        const AuditHeadStatement& statement);

// Errors: UNAUTHENTICATED  naming the statement and what to check.
absl::Status VerifyStatement(const VerifyKey& key,
                             const RoundStatement& statement,
                             const Signature& signature);
absl::Status VerifyStatement(const VerifyKey& key,
                             const ReceiptStatement& statement,
                             const Signature& signature);
absl::Status VerifyStatement(const VerifyKey& key,
                             const VersionStatement& statement,
                             const Signature& signature);
absl::Status VerifyStatement(const VerifyKey& key,
                             const AuditHeadStatement& statement,
                             const Signature& signature);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_SIGNING_H_

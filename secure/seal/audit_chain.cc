#include "consilium/secure/audit_chain.h"

#include "consilium/base/strings.h"
#include "consilium/secure/canonical.h"
#include "consilium/secure/sha256.h"

namespace consilium {

Sha256Digest AuditHash(const AuditEntry& entry) {
  CanonicalEncoder encoder("consilium/audit/v1");
  encoder.Bytes(entry.prev_hash.bytes)
      .U64(entry.seq)
      .I64(absl::ToUnixMicros(entry.at))
      .String(entry.actor)
      .String(entry.action)
      .String(entry.object)
      .String(entry.detail);
  return Sha256(encoder.bytes());
}

AuditEntry ChainEntry(const AuditHead& head, AuditEntry entry) {
  entry.at = absl::FromUnixMicros(absl::ToUnixMicros(entry.at));
  entry.seq = head.seq + 1;
  entry.prev_hash = head.hash;
  entry.hash = AuditHash(entry);
  return entry;
}

absl::Status AuditVerifier::Add(const AuditEntry& entry) {
  if (entry.seq != head_.seq + 1) {
    return absl::DataLossError(Cat("audit entry ", head_.seq + 1,
                                   " is missing: entry ", entry.seq,
                                   " follows entry ", head_.seq));
  }
  if (entry.prev_hash != head_.hash) {
    return absl::DataLossError(Cat(
        "audit entry ", entry.seq, " continues hash ", entry.prev_hash.Hex(),
        ", but entry ", head_.seq, " has ", head_.hash.Hex()));
  }
  if (entry.hash != AuditHash(entry)) {
    return absl::DataLossError(
        Cat("audit entry ", entry.seq, " (", Quoted(entry.action), " by ",
            Quoted(entry.actor), ") was changed: its hash does not match"));
  }
  head_ = AuditHead{entry.seq, entry.hash};
  return absl::OkStatus();
}

}  // namespace consilium

// A log that cannot be rewritten unnoticed.
#ifndef CONSILIUM_SECURE_AUDIT_CHAIN_H_
#define CONSILIUM_SECURE_AUDIT_CHAIN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"

namespace consilium {

// A hash chain over the audit log: each entry's hash covers the one before, so
// an entry cannot be changed, moved or removed without breaking every later
// hash. A signed head (AuditHeadStatement) makes cutting off the end visible.
struct AuditEntry {
  uint64_t seq = 0;  // 1, 2, 3, ... without gaps
  absl::Time at;     // truncated to microseconds
  std::string actor;
  std::string action;
  std::string object;
  std::string detail;
  Sha256Digest prev_hash;  // all zero for the first entry
  Sha256Digest hash;
};

struct AuditHead {
  uint64_t seq = 0;  // 0: nothing yet
  Sha256Digest hash;
  friend bool operator==(const AuditHead&, const AuditHead&) = default;
};

// SHA-256 of the canonical encoding, domain "consilium/audit/v1", of prev_hash,
// seq, at (microseconds since 1970 UTC), actor, action, object, detail.
Sha256Digest AuditHash(const AuditEntry& entry);

// Fills seq, prev_hash and hash of the entry after `head`, and returns it.
AuditEntry ChainEntry(const AuditHead& head, AuditEntry entry);

// Walks a log from its first entry. A value; one thread at a time.
class AuditVerifier {
 public:
  AuditVerifier() = default;
  // Starts behind an entry that is already trusted.
  explicit AuditVerifier(AuditHead from) : head_(from) {}

  // Errors: DATA_LOSS  the first finding: a gap, a changed entry, or a break;
  //                    names the sequence number. The head does not move.
  absl::Status Add(const AuditEntry& entry);
  const AuditHead& head() const { return head_; }

 private:
  AuditHead head_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_AUDIT_CHAIN_H_

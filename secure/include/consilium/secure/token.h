// One-time enrolment tokens.
#ifndef CONSILIUM_SECURE_TOKEN_H_
#define CONSILIUM_SECURE_TOKEN_H_

#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "consilium/base/digest.h"
#include "consilium/base/random.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

// A one-time enrolment token: 256 random bits, written "cst1-" and 52
// characters of base32 (a-z, 2-7). The coordinator keeps only its hash.
class EnrollmentToken {
 public:
  static EnrollmentToken Generate(RandomSource& random);
  // Surrounding space and upper case are forgiven.
  // Errors: INVALID_ARGUMENT  not of that form (the text never shows it).
  static absl::StatusOr<EnrollmentToken> Parse(std::string_view text);

  SecretBytes ToText() const;
  // SHA-256 of the canonical encoding, domain "consilium/token/v1", of the 32
  // bytes. The token has full entropy, so no slow hash is needed.
  Sha256Digest Hash() const;
  // Compares hashes in constant time.
  bool Matches(const Sha256Digest& stored_hash) const;

 private:
  explicit EnrollmentToken(SecretBytes secret) : secret_(std::move(secret)) {}
  SecretBytes secret_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_TOKEN_H_

#ifndef CONSILIUM_CLIENT_SDK_SESSION_IDENTITY_H_
#define CONSILIUM_CLIENT_SDK_SESSION_IDENTITY_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/identity.h"

namespace consilium::client::internal {

// Where an institution's identity lies.
struct IdentityPaths {
  explicit IdentityPaths(std::string_view directory);
  TlsIdentityFiles tls;
  std::string signing_key;  // the coordinator's Ed25519 key, as pinned
  std::string next_key;     // only while a renewal is under way
  std::string next_chain;
};

struct InstitutionIdentity {
  PeerName name;
  CertificateInfo leaf;
  VerifyKey signing_key;
};

// Errors: NOT_FOUND  no identity in `directory`; the text says how to enrol.
absl::Status CheckIdentityPresent(FileSystem* fs, const std::string& directory);

// Loads and checks everything. The owner of the identity finishes a renewal
// that was cut short before it calls this.
// Errors:
//   NOT_FOUND          as above
//   PERMISSION_DENIED  a key that others can read
//   INVALID_ARGUMENT   files that do not fit together; not an institution's
//   UNAUTHENTICATED    expired, or not signed by the root
absl::StatusOr<InstitutionIdentity> LoadIdentity(FileSystem* fs,
                                                 const std::string& directory,
                                                 absl::Time now);

// A renewal replaces two files that only fit together, in these steps, each
// durable before the next:
//   1. client.key.next    the new key
//   2. client.pem.next    its certificate, as issued and checked
//   3. rename the key, then the certificate, into place
// FinishRenewal looks at what is there: with a certificate of step 2 the rest
// is done, without one the new key is dropped.
absl::Status StageRenewalKey(FileSystem* fs, const IdentityPaths& paths,
                             const TlsKey& key);
// Errors: UNAUTHENTICATED  the chain does not lead to the pinned root, is not
//                          for the staged key, or names somebody else.
absl::Status StageRenewalChain(FileSystem* fs, const IdentityPaths& paths,
                               const std::string& chain_pem,
                               const PeerName& expected, absl::Time now);
absl::Status FinishRenewal(FileSystem* fs, const IdentityPaths& paths);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_IDENTITY_H_

// Who calls an RPC.
#ifndef CONSILIUM_SECURE_GRPC_PEER_H_
#define CONSILIUM_SECURE_GRPC_PEER_H_

#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/identity.h"
#include "grpcpp/security/auth_context.h"

namespace consilium {

// The caller of an RPC, from the certificate it proved to hold.
struct Peer {
  PeerName name;
  std::string serial;  // hex, as in CertificateInfo; look it up for revocation
  Sha256Digest fingerprint;
  absl::Time not_before;
  absl::Time not_after;
};

// Tells who calls. Parsing is cached by the certificate's hash. Thread-safe.
//
// A live connection outlasts its certificate's check, so a long stream asks
// again: compare `not_after` with the clock and `serial` with the revocations
// on every message.
class PeerAuthenticator {
 public:
  // `federation`: certificates of another federation are refused.
  explicit PeerAuthenticator(std::string federation, size_t max_cached = 4096);

  // Pass `*context->auth_context()`.
  // Errors: UNAUTHENTICATED  no verified client certificate, none that names a
  //                          peer of this federation, or expired at `now`; the
  //                          text says what the caller should do.
  absl::StatusOr<std::shared_ptr<const Peer>> PeerOf(
      const grpc::AuthContext& auth_context, absl::Time now);

 private:
  absl::StatusOr<std::shared_ptr<const Peer>> Lookup(std::string_view pem);

  const std::string federation_;
  const size_t max_cached_;
  Mutex mutex_;
  // Newest first; the map points into it.
  using Entry = std::pair<Sha256Digest, std::shared_ptr<const Peer>>;
  std::list<Entry> recent_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<Sha256Digest, std::list<Entry>::iterator> by_hash_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_GRPC_PEER_H_

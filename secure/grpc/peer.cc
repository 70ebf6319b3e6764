#include "consilium/secure/grpc/peer.h"

#include <grpc/grpc_security_constants.h>

#include <vector>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

absl::StatusOr<std::shared_ptr<const Peer>> ReadPeer(
    std::string_view pem, const std::string& federation) {
  const absl::StatusOr<CertificateInfo> info = ParseCertificate(pem);
  if (!info.ok()) return absl::UnauthenticatedError(info.status().message());
  const absl::StatusOr<PeerName> name = PeerName::Parse(info->subject_uri);
  if (!name.ok()) {
    return absl::UnauthenticatedError(
        Cat("certificate ", info->serial, " names no member of a federation (",
            StdView(name.status().message()), "); enrol to get one"));
  }
  if (name->federation != federation) {
    return absl::UnauthenticatedError(Cat(
        "certificate ", info->serial, " is of federation ",
        Quoted(name->federation), ", this is federation ", Quoted(federation),
        "; use the certificate from this federation's "
        "enrolment"));
  }
  return std::make_shared<const Peer>(Peer{*name, info->serial,
                                           info->fingerprint, info->not_before,
                                           info->not_after});
}

}  // namespace

PeerAuthenticator::PeerAuthenticator(std::string federation, size_t max_cached)
    : federation_(std::move(federation)), max_cached_(max_cached) {
  CONSILIUM_CHECK(max_cached_ > 0);
}

absl::StatusOr<std::shared_ptr<const Peer>> PeerAuthenticator::PeerOf(
    const grpc::AuthContext& auth_context, absl::Time now) {
  const std::vector<grpc::string_ref> pems =
      auth_context.FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (!auth_context.IsPeerAuthenticated() || pems.size() != 1) {
    return absl::UnauthenticatedError(
        "this call needs a client certificate; enrol with `consilium-client "
        "enroll` and use the certificate it writes");
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      std::shared_ptr<const Peer> peer,
      Lookup(std::string_view(pems[0].data(), pems[0].size())));
  if (now > peer->not_after) {
    return absl::UnauthenticatedError(
        Cat("certificate ", peer->serial, " of ", peer->name.Uri(),
            " expired at ", FormatTime(peer->not_after),
            "; renew it, or ask for an invitation and enrol again"));
  }
  return peer;
}

absl::StatusOr<std::shared_ptr<const Peer>> PeerAuthenticator::Lookup(
    std::string_view pem) {
  const Sha256Digest hash = Sha256(pem);
  {
    const MutexLock lock(&mutex_);
    if (const auto found = by_hash_.find(hash); found != by_hash_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(std::shared_ptr<const Peer> peer,
                             ReadPeer(pem, federation_));
  const MutexLock lock(&mutex_);
  if (by_hash_.contains(hash)) return peer;
  recent_.emplace_front(hash, peer);
  by_hash_[hash] = recent_.begin();
  if (recent_.size() > max_cached_) {
    by_hash_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return peer;
}

}  // namespace consilium

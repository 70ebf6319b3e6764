// The certificate authority of a federation.
#ifndef CONSILIUM_SECURE_CA_H_
#define CONSILIUM_SECURE_CA_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/random.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/identity.h"

namespace consilium {

// A federation's certificate authority, two levels deep: an offline root that
// signs one issuing CA (path length 0), and the issuing CA that signs leaves.
// All keys are P-256, all signatures ECDSA with SHA-256, serials are 128
// random bits. Nothing here reads a clock: `now` is given. A certificate is
// valid from kClockSkew before `now`, and never beyond its issuer.
inline constexpr absl::Duration kClockSkew = absl::Minutes(10);
inline constexpr absl::Duration kRootCaLifetime = absl::Hours(24 * 3652);
inline constexpr absl::Duration kIssuingCaLifetime = absl::Hours(24 * 1826);
inline constexpr absl::Duration kServerLifetime = absl::Hours(24 * 398);
inline constexpr absl::Duration kPeerLifetime = absl::Hours(24 * 90);

struct NewCertificateAuthority {
  std::string root_pem;
  TlsKey root_key;  // Keep it off the coordinator's machine.
  std::string issuing_pem;
  TlsKey issuing_key;
};

// Errors: INVALID_ARGUMENT  bad federation name.
absl::StatusOr<NewCertificateAuthority> CreateCertificateAuthority(
    const std::string& federation, absl::Time now, RandomSource& random);

// A new issuing CA under an existing root, before the old one expires.
absl::StatusOr<std::string> IssueIssuingCa(const std::string& federation,
                                           const std::string& root_pem,
                                           const TlsKey& root_key,
                                           const TlsKey& issuing_key,
                                           absl::Time now,
                                           RandomSource& random);

// The names a server certificate is for. Each entry of `hosts` is a DNS name
// (one leading "*." label is allowed) or an IPv4/IPv6 address.
struct ServerNames {
  std::vector<std::string> hosts;
  bool localhost = false;  // adds localhost, 127.0.0.1 and ::1
};

// PEM of a PKCS#10 request signed by `key`. Its subject is only a hint for
// people who look at the file: the identity comes from the issuer's records.
absl::StatusOr<std::string> CreateCertificateRequest(const TlsKey& key,
                                                     std::string_view hint);

// Checks form, size (<= 16 KiB), key type (P-256) and proof of possession.
// Errors: INVALID_ARGUMENT  with the reason.
absl::Status VerifyCertificateRequest(std::string_view csr_pem);

// The same checks; SHA-256 of the key (DER SubjectPublicKeyInfo) that asks.
absl::StatusOr<Sha256Digest> CertificateRequestKey(std::string_view csr_pem);

// The issuing CA. Thread-safe after creation.
class IssuingCa {
 public:
  // `issuing_pem`: its certificate, then those of former ones (ca_files.h).
  // Errors: INVALID_ARGUMENT  the key is not the certificate's;
  //         UNAUTHENTICATED   the root did not sign it, it has expired, or is
  //                           no CA certificate.
  static absl::StatusOr<IssuingCa> Create(std::string federation,
                                          std::string root_pem,
                                          std::string issuing_pem,
                                          TlsKey issuing_key, absl::Time now);
  // LoadIssuingCa (ca_files.h) of root-ca.pem, issuing-ca.pem, issuing-ca.key.
  static absl::StatusOr<IssuingCa> LoadDirectory(FileSystem* fs,
                                                 const std::string& directory,
                                                 std::string federation,
                                                 absl::Time now);

  const std::string& root_pem() const { return root_pem_; }
  const std::string& issuing_pem() const { return issuing_pem_; }
  const CertificateInfo& root() const { return root_; }
  // The one that issues, then former ones, the newest first.
  const std::vector<CertificateInfo>& authorities() const {
    return authorities_;
  }

  // A server certificate (EKU serverAuth) for `key`'s public half; returns the
  // chain: leaf, then issuing CA. Renewal passes the same key and names.
  // Errors: INVALID_ARGUMENT     no host, or a bad one;
  //         FAILED_PRECONDITION  the issuing CA has expired.
  absl::StatusOr<std::string> IssueServer(const ServerNames& names,
                                          const TlsKey& key, absl::Time now,
                                          absl::Duration lifetime,
                                          RandomSource& random) const;

  // A peer certificate (EKU clientAuth, URI SAN of `peer`) for the public key
  // of a request; every name in the request is ignored. Returns the chain.
  // Errors: INVALID_ARGUMENT     the request does not verify, or `peer` is
  //                              not of this federation;
  //         FAILED_PRECONDITION  the issuing CA has expired.
  absl::StatusOr<std::string> IssuePeer(std::string_view csr_pem,
                                        const PeerName& peer, absl::Time now,
                                        absl::Duration lifetime,
                                        RandomSource& random) const;

 private:
  IssuingCa(std::string federation, std::string root_pem,
            std::string issuing_pem, TlsKey key);
  std::string federation_;
  std::string root_pem_;
  std::string issuing_pem_;
  CertificateInfo root_;
  std::vector<CertificateInfo> authorities_;
  TlsKey key_;
};

// The issuing CA of a running coordinator, which can be replaced while it
// runs. Thread-safe.
class LiveIssuingCa {
 public:
  explicit LiveIssuingCa(IssuingCa ca);
  std::shared_ptr<const IssuingCa> Get() const;
  void Set(IssuingCa ca);

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const IssuingCa> ca_ ABSL_GUARDED_BY(mutex_);
};

// The names of an existing server certificate, to issue its successor.
absl::StatusOr<ServerNames> ServerNamesOf(std::string_view certificate_pem);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_CA_H_

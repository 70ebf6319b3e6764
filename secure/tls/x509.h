// X.509 handles with owners, and what the files of this folder share.
#ifndef CONSILIUM_SECURE_TLS_X509_H_
#define CONSILIUM_SECURE_TLS_X509_H_

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/random.h"
#include "consilium/secure/certificate.h"
#include "secure/crypto/openssl.h"

namespace consilium {

struct TlsKey::Handle {
  openssl::Pkey key;
};

namespace openssl {

using X509Ptr = std::unique_ptr<X509, FreeWith<X509_free>>;
using X509Request = std::unique_ptr<X509_REQ, FreeWith<X509_REQ_free>>;
using X509StorePtr = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;
using X509StoreContext =
    std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;

inline constexpr size_t kMaxCertificateTextBytes = 64 * 1024;
inline constexpr size_t kMaxChainLength = 8;

// Errors: INVALID_ARGUMENT  no certificate, text or chain too long, or
//                           something else than certificates.
absl::StatusOr<std::vector<X509Ptr>> ReadCertificates(std::string_view pem);
absl::StatusOr<X509Ptr> ReadCertificate(std::string_view pem);  // the first
absl::StatusOr<std::string> CertificateToPem(X509& certificate);

// What the certificate says; see CertificateInfo.
absl::StatusOr<CertificateInfo> Describe(X509& certificate);
absl::StatusOr<Sha256Digest> FingerprintOf(const X509& certificate);

// OK when `key` is a P-256 key.
absl::Status CheckP256(const EVP_PKEY& key, std::string_view what);

// True for an IPv4 or IPv6 address as text.
bool IsIpAddress(std::string_view host);

// Verifies certificates[0] with the others as intermediates against `root`;
// `host` is checked unless empty.
absl::Status VerifyChain(const std::vector<X509Ptr>& certificates, X509& root,
                         CertificateUse use, std::string_view host,
                         absl::Time now);

enum class CertificateKind { kRootCa, kIssuingCa, kServer, kClient };

struct CertificateSpec {
  CertificateKind kind = CertificateKind::kClient;
  std::string organization;
  std::string common_name;         // at most 64 bytes
  std::vector<std::string> hosts;  // SANs: DNS names and IP addresses
  std::string uri;                 // SAN, "" for none
  absl::Time not_before;
  absl::Time not_after;
  EVP_PKEY* subject_key = nullptr;
  X509* issuer = nullptr;  // null: self-signed
  EVP_PKEY* issuer_key = nullptr;
};

absl::StatusOr<X509Ptr> BuildCertificate(const CertificateSpec& spec,
                                         RandomSource& random);

}  // namespace openssl
}  // namespace consilium

#endif  // CONSILIUM_SECURE_TLS_X509_H_

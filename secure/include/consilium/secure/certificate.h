// TLS keys, what a certificate says, and whether a chain holds.
#ifndef CONSILIUM_SECURE_CERTIFICATE_H_
#define CONSILIUM_SECURE_CERTIFICATE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/base/file.h"
#include "consilium/secure/identity.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

// A P-256 key for a certificate. Thread-safe after creation.
class TlsKey {
 public:
  static absl::StatusOr<TlsKey> Generate();
  // Errors: INVALID_ARGUMENT  not a PEM private key on P-256.
  static absl::StatusOr<TlsKey> FromPem(const SecretBytes& pem);
  static absl::StatusOr<TlsKey> LoadFile(FileSystem* fs,
                                         const std::string& path);
  absl::Status SaveFile(FileSystem* fs, const std::string& path) const;

  TlsKey(TlsKey&&) noexcept;
  TlsKey& operator=(TlsKey&&) noexcept;
  ~TlsKey();

  absl::StatusOr<SecretBytes> ToPem() const;         // PKCS#8
  absl::StatusOr<std::string> PublicKeyPem() const;  // SubjectPublicKeyInfo

  struct Handle;
  const Handle& handle() const { return *handle_; }

 private:
  explicit TlsKey(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
};

// What a certificate says. Times are UTC, whole seconds.
struct CertificateInfo {
  std::string serial;        // lower-case hex, 32 digits for ours
  std::string subject_name;  // common name
  std::string subject_uri;   // the URI SAN, "" when there is none
  std::string issuer_name;   // common name of the issuer
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;  // as text
  absl::Time not_before;
  absl::Time not_after;
  Sha256Digest fingerprint;  // of the DER
  bool is_ca = false;
  bool client_auth = false;  // extended key usage
  bool server_auth = false;
};

// The first certificate of a PEM text.
// Errors: INVALID_ARGUMENT  none there, larger than 64 KiB, or more than one
//                           URI SAN.
absl::StatusOr<CertificateInfo> ParseCertificate(std::string_view pem);

// Every certificate of a PEM text, in order; at most 8.
absl::StatusOr<std::vector<CertificateInfo>> ParseCertificateChain(
    std::string_view pem);

// SHA-256 of the DER of the first certificate: what `--ca-fingerprint` takes.
absl::StatusOr<Sha256Digest> CertificateFingerprint(std::string_view pem);

// The peer that a certificate names.
// Errors: INVALID_ARGUMENT  no consilium:// URI SAN.
absl::StatusOr<PeerName> PeerFromCertificatePem(std::string_view pem);

enum class CertificateUse { kServer, kClient, kAuthority };

// Verifies leaf + intermediates against one root at `now`: signatures, path
// length, validity of every certificate, and that the first may be used for
// `use`.
// Errors: UNAUTHENTICATED  why, and which certificate; expiry gives the date.
absl::Status VerifyCertificateChain(std::string_view chain_pem,
                                    std::string_view root_pem,
                                    CertificateUse use, absl::Time now);

// The same for a server, and that its certificate names `host` (a DNS name or
// an IP address).
absl::Status VerifyServerChain(std::string_view chain_pem,
                               std::string_view root_pem, std::string_view host,
                               absl::Time now);

// Root, chain (leaf first, then the issuing CA) and private key of one end of
// a TLS connection, checked to fit together.
struct TlsIdentity {
  std::string root_pem;
  std::string chain_pem;
  SecretBytes key_pem;
  CertificateInfo leaf;
};

struct TlsIdentityFiles {
  std::string root;   // root CA, PEM
  std::string chain;  // leaf, then issuing CA, PEM
  std::string key;    // private key, PEM, mode 0600
};

// Errors: those of ReadKeyFile; INVALID_ARGUMENT when key and certificate do
// not belong together; UNAUTHENTICATED when the chain does not lead to the
// root or is not valid at `now`.
absl::StatusOr<TlsIdentity> LoadTlsIdentity(FileSystem* fs,
                                            const TlsIdentityFiles& files,
                                            CertificateUse use, absl::Time now);
absl::StatusOr<TlsIdentity> MakeTlsIdentity(std::string root_pem,
                                            std::string chain_pem,
                                            SecretBytes key_pem,
                                            CertificateUse use, absl::Time now);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_CERTIFICATE_H_

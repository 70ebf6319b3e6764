#include "consilium/secure/ca.h"

#include <algorithm>
#include <span>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/ca_files.h"
#include "consilium/secure/sha256.h"
#include "secure/tls/x509.h"

namespace consilium {
namespace {

using openssl::CertificateKind;
using openssl::CertificateSpec;
using openssl::X509Ptr;

constexpr size_t kMaxRequestBytes = 16 * 1024;
constexpr size_t kMaxHintBytes = 64;
constexpr size_t kMaxHosts = 64;

constexpr char kRootName[] = "Consilium root CA";
constexpr char kIssuingName[] = "Consilium issuing CA";
constexpr char kServerName[] = "Consilium coordinator";

bool IsDnsName(std::string_view host) {
  if (host.substr(0, 2) == "*.") host.remove_prefix(2);
  if (host.empty() || host.size() > 253) return false;
  size_t label = 0;
  for (size_t i = 0; i <= host.size(); ++i) {
    if (i == host.size() || host[i] == '.') {
      if (label == 0 || label > 63) return false;
      if (host[i - 1] == '-' || host[i - label] == '-') return false;
      label = 0;
      continue;
    }
    const char c = host[i];
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!good) return false;
    ++label;
  }
  return true;
}

absl::StatusOr<std::vector<std::string>> AllHosts(const ServerNames& names) {
  std::vector<std::string> hosts = names.hosts;
  if (names.localhost) {
    hosts.insert(hosts.end(), {"localhost", "127.0.0.1", "::1"});
  }
  if (hosts.empty() || hosts.size() > kMaxHosts) {
    return absl::InvalidArgumentError(Cat("a server certificate is for 1 to ",
                                          kMaxHosts, " hosts, not ",
                                          hosts.size()));
  }
  std::vector<std::string> distinct;
  for (std::string& host : hosts) {
    if (!IsDnsName(host) && !openssl::IsIpAddress(host)) {
      return absl::InvalidArgumentError(
          Cat("host ", Quoted(host, 256),
              " is neither a DNS name nor an IP address; give it without "
              "port, scheme and brackets"));
    }
    if (std::find(distinct.begin(), distinct.end(), host) == distinct.end()) {
      distinct.push_back(std::move(host));
    }
  }
  return distinct;
}

absl::StatusOr<openssl::X509Request> ReadRequest(std::string_view csr_pem) {
  if (csr_pem.size() > kMaxRequestBytes) {
    return absl::InvalidArgumentError(Cat("certificate request of ",
                                          csr_pem.size(), " bytes exceeds ",
                                          kMaxRequestBytes, " bytes"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Bio bio, openssl::BioOf(csr_pem));
  openssl::X509Request request(PEM_read_bio_X509_REQ(
      bio.get(), nullptr, openssl::NoPassphrase, nullptr));
  if (request == nullptr) {
    return openssl::Error(absl::StatusCode::kInvalidArgument,
                          "not a PEM certificate request");
  }
  EVP_PKEY* const key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr) {
    return openssl::Error(absl::StatusCode::kInvalidArgument,
                          "the certificate request has no usable key");
  }
  CONSILIUM_RETURN_IF_ERROR(
      openssl::CheckP256(*key, "the certificate request's key"));
  if (X509_REQ_verify(request.get(), key) != 1) {
    return openssl::Error(
        absl::StatusCode::kInvalidArgument,
        "the certificate request is not signed by its own key");
  }
  return request;
}

// Validity of a certificate issued now by `issuer`.
absl::Status SetValidity(const CertificateInfo& issuer, absl::Time now,
                         absl::Duration lifetime, CertificateSpec& spec) {
  if (lifetime <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(Cat(
        "certificate lifetime ", FormatDuration(lifetime), " is not positive"));
  }
  if (now >= issuer.not_after) {
    return absl::FailedPreconditionError(
        Cat("the issuing CA expired at ", FormatTime(issuer.not_after),
            "; make a new one with `consilium cert renew-issuer`"));
  }
  spec.not_before = std::max(now - kClockSkew, issuer.not_before);
  spec.not_after = std::min(now + lifetime, issuer.not_after);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NewCertificateAuthority> CreateCertificateAuthority(
    const std::string& federation, absl::Time now, RandomSource& random) {
  CONSILIUM_RETURN_IF_ERROR(ValidateName("federation", federation));
  CONSILIUM_ASSIGN_OR_RETURN(TlsKey root_key, TlsKey::Generate());
  CONSILIUM_ASSIGN_OR_RETURN(TlsKey issuing_key, TlsKey::Generate());

  CertificateSpec spec;
  spec.kind = CertificateKind::kRootCa;
  spec.organization = federation;
  spec.common_name = kRootName;
  spec.not_before = now - kClockSkew;
  spec.not_after = now + kRootCaLifetime;
  spec.subject_key = root_key.handle().key.get();
  spec.issuer_key = spec.subject_key;
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr root,
                             openssl::BuildCertificate(spec, random));
  CONSILIUM_ASSIGN_OR_RETURN(std::string root_pem,
                             openssl::CertificateToPem(*root));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::string issuing_pem,
      IssueIssuingCa(federation, root_pem, root_key, issuing_key, now, random));
  return NewCertificateAuthority{std::move(root_pem), std::move(root_key),
                                 std::move(issuing_pem),
                                 std::move(issuing_key)};
}

absl::StatusOr<std::string> IssueIssuingCa(const std::string& federation,
                                           const std::string& root_pem,
                                           const TlsKey& root_key,
                                           const TlsKey& issuing_key,
                                           absl::Time now,
                                           RandomSource& random) {
  CONSILIUM_RETURN_IF_ERROR(ValidateName("federation", federation));
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr root,
                             openssl::ReadCertificate(root_pem));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo root_info,
                             openssl::Describe(*root));
  if (X509_check_private_key(root.get(), root_key.handle().key.get()) != 1) {
    openssl::ClearErrors();
    return absl::InvalidArgumentError(
        "the root key is not the root certificate's");
  }
  if (now >= root_info.not_after) {
    return absl::FailedPreconditionError(
        Cat("the root CA expired at ", FormatTime(root_info.not_after),
            "; its members pin it, so make a new federation"));
  }
  CertificateSpec spec;
  spec.kind = CertificateKind::kIssuingCa;
  spec.organization = federation;
  spec.common_name = kIssuingName;
  CONSILIUM_RETURN_IF_ERROR(
      SetValidity(root_info, now, kIssuingCaLifetime, spec));
  spec.subject_key = issuing_key.handle().key.get();
  spec.issuer = root.get();
  spec.issuer_key = root_key.handle().key.get();
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr issuing,
                             openssl::BuildCertificate(spec, random));
  return openssl::CertificateToPem(*issuing);
}

absl::StatusOr<std::string> CreateCertificateRequest(const TlsKey& key,
                                                     std::string_view hint) {
  const openssl::X509Request request(X509_REQ_new());
  const std::string name(hint.substr(0, kMaxHintBytes));
  EVP_PKEY* const handle = key.handle().key.get();
  const openssl::Bio bio(BIO_new(BIO_s_mem()));
  if (request == nullptr || bio == nullptr ||
      X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      (!name.empty() &&
       X509_NAME_add_entry_by_NID(
           X509_REQ_get_subject_name(request.get()), NID_commonName,
           MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.data()),
           static_cast<int>(name.size()), -1, 0) != 1) ||
      X509_REQ_set_pubkey(request.get(), handle) != 1 ||
      X509_REQ_sign(request.get(), handle, EVP_sha256()) == 0 ||
      PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot make a certificate request");
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

absl::Status VerifyCertificateRequest(std::string_view csr_pem) {
  return ReadRequest(csr_pem).status();
}

absl::StatusOr<Sha256Digest> CertificateRequestKey(std::string_view csr_pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Request request,
                             ReadRequest(csr_pem));
  unsigned char* der = nullptr;
  const int size =
      i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request.get()), &der);
  if (size <= 0) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot encode the certificate request's key");
  }
  const Sha256Digest digest =
      Sha256(std::as_bytes(std::span(der, static_cast<size_t>(size))));
  OPENSSL_free(der);
  return digest;
}

IssuingCa::IssuingCa(std::string federation, std::string root_pem,
                     std::string issuing_pem, TlsKey key)
    : federation_(std::move(federation)),
      root_pem_(std::move(root_pem)),
      issuing_pem_(std::move(issuing_pem)),
      key_(std::move(key)) {}

absl::StatusOr<IssuingCa> IssuingCa::Create(std::string federation,
                                            std::string root_pem,
                                            std::string issuing_pem,
                                            TlsKey issuing_key,
                                            absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(ValidateName("federation", federation));
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr issuing,
                             openssl::ReadCertificate(issuing_pem));
  if (X509_check_private_key(issuing.get(), issuing_key.handle().key.get()) !=
      1) {
    openssl::ClearErrors();
    return absl::InvalidArgumentError(
        "the issuing CA's key is not its certificate's");
  }
  CONSILIUM_RETURN_IF_ERROR(VerifyCertificateChain(
      issuing_pem, root_pem, CertificateUse::kAuthority, now));
  // A chain has the certificate of its own issuer only.
  CONSILIUM_ASSIGN_OR_RETURN(std::string own,
                             openssl::CertificateToPem(*issuing));
  IssuingCa ca(std::move(federation), std::move(root_pem), std::move(own),
               std::move(issuing_key));
  CONSILIUM_ASSIGN_OR_RETURN(ca.root_, ParseCertificate(ca.root_pem_));
  CONSILIUM_ASSIGN_OR_RETURN(ca.authorities_,
                             ParseCertificateChain(issuing_pem));
  return ca;
}

absl::StatusOr<IssuingCa> IssuingCa::LoadDirectory(FileSystem* fs,
                                                   const std::string& directory,
                                                   std::string federation,
                                                   absl::Time now) {
  return LoadIssuingCa(fs,
                       {JoinPath(directory, "root-ca.pem"),
                        JoinPath(directory, "issuing-ca.pem"),
                        JoinPath(directory, "issuing-ca.key")},
                       std::move(federation), now);
}

LiveIssuingCa::LiveIssuingCa(IssuingCa ca)
    : ca_(std::make_shared<const IssuingCa>(std::move(ca))) {}

std::shared_ptr<const IssuingCa> LiveIssuingCa::Get() const {
  const MutexLock lock(&mutex_);
  return ca_;
}

void LiveIssuingCa::Set(IssuingCa ca) {
  auto next = std::make_shared<const IssuingCa>(std::move(ca));
  const MutexLock lock(&mutex_);
  ca_.swap(next);
}

absl::StatusOr<std::string> IssuingCa::IssueServer(const ServerNames& names,
                                                   const TlsKey& key,
                                                   absl::Time now,
                                                   absl::Duration lifetime,
                                                   RandomSource& random) const {
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr issuing,
                             openssl::ReadCertificate(issuing_pem_));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo issuer,
                             openssl::Describe(*issuing));
  CertificateSpec spec;
  spec.kind = CertificateKind::kServer;
  spec.organization = federation_;
  spec.common_name = kServerName;
  CONSILIUM_ASSIGN_OR_RETURN(spec.hosts, AllHosts(names));
  CONSILIUM_RETURN_IF_ERROR(SetValidity(issuer, now, lifetime, spec));
  spec.subject_key = key.handle().key.get();
  spec.issuer = issuing.get();
  spec.issuer_key = key_.handle().key.get();
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr leaf,
                             openssl::BuildCertificate(spec, random));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string pem,
                             openssl::CertificateToPem(*leaf));
  return pem + issuing_pem_;
}

absl::StatusOr<std::string> IssuingCa::IssuePeer(std::string_view csr_pem,
                                                 const PeerName& peer,
                                                 absl::Time now,
                                                 absl::Duration lifetime,
                                                 RandomSource& random) const {
  CONSILIUM_RETURN_IF_ERROR(peer.Validate());
  if (peer.federation != federation_) {
    return absl::InvalidArgumentError(Cat("identity ", peer.Uri(),
                                          " is not of federation ",
                                          Quoted(federation_)));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Request request,
                             ReadRequest(csr_pem));
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr issuing,
                             openssl::ReadCertificate(issuing_pem_));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo issuer,
                             openssl::Describe(*issuing));
  CertificateSpec spec;
  spec.kind = CertificateKind::kClient;
  spec.organization = federation_;
  spec.common_name = peer.name;
  spec.uri = peer.Uri();
  CONSILIUM_RETURN_IF_ERROR(SetValidity(issuer, now, lifetime, spec));
  spec.subject_key = X509_REQ_get0_pubkey(request.get());
  spec.issuer = issuing.get();
  spec.issuer_key = key_.handle().key.get();
  CONSILIUM_ASSIGN_OR_RETURN(const X509Ptr leaf,
                             openssl::BuildCertificate(spec, random));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string pem,
                             openssl::CertificateToPem(*leaf));
  return pem + issuing_pem_;
}

absl::StatusOr<ServerNames> ServerNamesOf(std::string_view certificate_pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                             ParseCertificate(certificate_pem));
  ServerNames names;
  names.hosts = info.dns_names;
  names.hosts.insert(names.hosts.end(), info.ip_addresses.begin(),
                     info.ip_addresses.end());
  if (names.hosts.empty()) {
    return absl::InvalidArgumentError(
        Cat("certificate ", info.serial, " is for no host"));
  }
  return names;
}

}  // namespace consilium

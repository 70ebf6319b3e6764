#include "consilium/secure/certificate.h"

#include <arpa/inet.h>
#include <openssl/err.h>

#include <ctime>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/key_file.h"
#include "secure/tls/x509.h"

namespace consilium {
namespace openssl {
namespace {

inline void FreeGeneralNames(GENERAL_NAMES* names) {
  GENERAL_NAMES_free(names);
}
using GeneralNames = std::unique_ptr<GENERAL_NAMES, FreeWith<FreeGeneralNames>>;

std::span<const std::byte> StringBytes(const ASN1_STRING* text) {
  return std::as_bytes(
      std::span(ASN1_STRING_get0_data(text),
                static_cast<size_t>(ASN1_STRING_length(text))));
}

std::string CommonName(const X509_NAME* name) {
  const int index = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (index < 0) return "";
  const ASN1_STRING* text =
      X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
  return std::string(AsChars(StringBytes(text)));
}

absl::StatusOr<absl::Time> ToTime(const ASN1_TIME* time) {
  std::tm fields{};
  if (ASN1_TIME_to_tm(time, &fields) != 1) {
    return Error(absl::StatusCode::kInvalidArgument,
                 "a certificate's validity does not parse");
  }
  return absl::FromTM(fields, absl::UTCTimeZone());
}

std::string IpText(std::span<const std::byte> raw) {
  char text[INET6_ADDRSTRLEN] = {};
  const int family = raw.size() == 4 ? AF_INET : AF_INET6;
  if ((raw.size() != 4 && raw.size() != 16) ||
      inet_ntop(family, raw.data(), text, sizeof(text)) == nullptr) {
    return "";
  }
  return text;
}

// A name with a zero byte in it reads differently in C than it was signed.
absl::StatusOr<std::string> NameText(const ASN1_STRING* text) {
  const std::string_view name = AsChars(StringBytes(text));
  if (name.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        Cat("certificate name ", Quoted(name), " contains a zero byte"));
  }
  return std::string(name);
}

absl::Status DescribeNames(const X509& certificate, CertificateInfo& info) {
  const GeneralNames names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  const int count = names == nullptr ? 0 : sk_GENERAL_NAME_num(names.get());
  bool has_uri = false;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      CONSILIUM_ASSIGN_OR_RETURN(std::string dns, NameText(name->d.dNSName));
      info.dns_names.push_back(std::move(dns));
    } else if (name->type == GEN_IPADD) {
      info.ip_addresses.push_back(IpText(StringBytes(name->d.iPAddress)));
    } else if (name->type == GEN_URI) {
      if (std::exchange(has_uri, true)) {
        return absl::InvalidArgumentError(
            "certificate has more than one URI name, so it names nobody");
      }
      CONSILIUM_ASSIGN_OR_RETURN(info.subject_uri,
                                 NameText(name->d.uniformResourceIdentifier));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<X509Ptr>> ReadCertificates(std::string_view pem) {
  if (pem.size() > kMaxCertificateTextBytes) {
    return absl::InvalidArgumentError(Cat("certificate text of ", pem.size(),
                                          " bytes exceeds ",
                                          kMaxCertificateTextBytes, " bytes"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const Bio bio, BioOf(pem));
  std::vector<X509Ptr> certificates;
  while (true) {
    X509Ptr next(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (next == nullptr) break;
    if (certificates.size() == kMaxChainLength) {
      return absl::InvalidArgumentError(Cat("certificate text holds more than ",
                                            kMaxChainLength, " certificates"));
    }
    certificates.push_back(std::move(next));
  }
  // The end of the text shows as a missing start line.
  const unsigned long error = ERR_peek_last_error();
  if (certificates.empty() || ERR_GET_LIB(error) != ERR_LIB_PEM ||
      ERR_GET_REASON(error) != PEM_R_NO_START_LINE) {
    return Error(absl::StatusCode::kInvalidArgument, "not a PEM certificate");
  }
  ClearErrors();
  return certificates;
}

absl::StatusOr<X509Ptr> ReadCertificate(std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(std::vector<X509Ptr> all, ReadCertificates(pem));
  return std::move(all.front());
}

absl::StatusOr<std::string> CertificateToPem(X509& certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || PEM_write_bio_X509(bio.get(), &certificate) != 1) {
    return Error(absl::StatusCode::kInternal, "cannot write a certificate");
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

absl::StatusOr<Sha256Digest> FingerprintOf(const X509& certificate) {
  Sha256Digest digest;
  unsigned int size = 0;
  if (X509_digest(&certificate, EVP_sha256(), Data(std::span(digest.bytes)),
                  &size) != 1 ||
      size != digest.bytes.size()) {
    return Error(absl::StatusCode::kInternal, "cannot hash a certificate");
  }
  return digest;
}

absl::StatusOr<CertificateInfo> Describe(X509& certificate) {
  CertificateInfo info;
  const ASN1_STRING* serial = X509_get0_serialNumber(&certificate);
  info.serial = HexEncode(StringBytes(serial));
  // Ours have 16 bytes; DER drops leading zeros, so put them back.
  if (info.serial.size() < 32)
    info.serial.insert(0, 32 - info.serial.size(), '0');
  info.subject_name = CommonName(X509_get_subject_name(&certificate));
  info.issuer_name = CommonName(X509_get_issuer_name(&certificate));
  CONSILIUM_RETURN_IF_ERROR(DescribeNames(certificate, info));
  CONSILIUM_ASSIGN_OR_RETURN(info.not_before,
                             ToTime(X509_get0_notBefore(&certificate)));
  CONSILIUM_ASSIGN_OR_RETURN(info.not_after,
                             ToTime(X509_get0_notAfter(&certificate)));
  CONSILIUM_ASSIGN_OR_RETURN(info.fingerprint, FingerprintOf(certificate));
  const uint32_t flags = X509_get_extension_flags(&certificate);
  info.is_ca = (flags & EXFLAG_CA) != 0;
  if ((flags & EXFLAG_XKUSAGE) != 0) {
    const uint32_t usage = X509_get_extended_key_usage(&certificate);
    info.client_auth = (usage & XKU_SSL_CLIENT) != 0;
    info.server_auth = (usage & XKU_SSL_SERVER) != 0;
  }
  ClearErrors();
  return info;
}

}  // namespace openssl

absl::StatusOr<CertificateInfo> ParseCertificate(std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Ptr certificate,
                             openssl::ReadCertificate(pem));
  return openssl::Describe(*certificate);
}

absl::StatusOr<std::vector<CertificateInfo>> ParseCertificateChain(
    std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<openssl::X509Ptr> certificates,
                             openssl::ReadCertificates(pem));
  std::vector<CertificateInfo> chain;
  for (const openssl::X509Ptr& certificate : certificates) {
    CONSILIUM_ASSIGN_OR_RETURN(CertificateInfo info,
                               openssl::Describe(*certificate));
    chain.push_back(std::move(info));
  }
  return chain;
}

absl::StatusOr<Sha256Digest> CertificateFingerprint(std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Ptr certificate,
                             openssl::ReadCertificate(pem));
  return openssl::FingerprintOf(*certificate);
}

absl::StatusOr<PeerName> PeerFromCertificatePem(std::string_view pem) {
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info, ParseCertificate(pem));
  if (info.subject_uri.empty()) {
    return absl::InvalidArgumentError(Cat("certificate ", info.serial, " (",
                                          Quoted(info.subject_name),
                                          ") has no consilium:// name"));
  }
  return PeerName::Parse(info.subject_uri);
}

absl::StatusOr<TlsIdentity> MakeTlsIdentity(std::string root_pem,
                                            std::string chain_pem,
                                            SecretBytes key_pem,
                                            CertificateUse use,
                                            absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Ptr leaf,
                             openssl::ReadCertificate(chain_pem));
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, TlsKey::FromPem(key_pem));
  if (X509_check_private_key(leaf.get(), key.handle().key.get()) != 1) {
    openssl::ClearErrors();
    return absl::InvalidArgumentError(
        "the private key is not the certificate's");
  }
  CONSILIUM_RETURN_IF_ERROR(
      VerifyCertificateChain(chain_pem, root_pem, use, now));
  CONSILIUM_ASSIGN_OR_RETURN(CertificateInfo info, openssl::Describe(*leaf));
  return TlsIdentity{std::move(root_pem), std::move(chain_pem),
                     std::move(key_pem), std::move(info)};
}

absl::StatusOr<TlsIdentity> LoadTlsIdentity(FileSystem* fs,
                                            const TlsIdentityFiles& files,
                                            CertificateUse use,
                                            absl::Time now) {
  constexpr int64_t kMost = openssl::kMaxCertificateTextBytes;
  CONSILIUM_ASSIGN_OR_RETURN(std::string root,
                             ReadWholeFile(fs, files.root, kMost));
  CONSILIUM_ASSIGN_OR_RETURN(std::string chain,
                             ReadWholeFile(fs, files.chain, kMost));
  CONSILIUM_ASSIGN_OR_RETURN(SecretBytes key, ReadKeyFile(fs, files.key));
  absl::StatusOr<TlsIdentity> identity = MakeTlsIdentity(
      std::move(root), std::move(chain), std::move(key), use, now);
  if (!identity.ok()) {
    return Annotate(identity.status(), Cat(files.chain, " with ", files.key));
  }
  return identity;
}

}  // namespace consilium

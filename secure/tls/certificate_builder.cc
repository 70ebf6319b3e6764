#include <arpa/inet.h>
#include <openssl/evp.h>

#include <array>
#include <string>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/tls/x509.h"

namespace consilium::openssl {
namespace {

using Integer = std::unique_ptr<ASN1_INTEGER, FreeWith<ASN1_INTEGER_free>>;
using BigNumber = std::unique_ptr<BIGNUM, FreeWith<BN_free>>;
using OctetString =
    std::unique_ptr<ASN1_OCTET_STRING, FreeWith<ASN1_OCTET_STRING_free>>;
using BitString =
    std::unique_ptr<ASN1_BIT_STRING, FreeWith<ASN1_BIT_STRING_free>>;
using Constraints =
    std::unique_ptr<BASIC_CONSTRAINTS, FreeWith<BASIC_CONSTRAINTS_free>>;
using KeyId = std::unique_ptr<AUTHORITY_KEYID, FreeWith<AUTHORITY_KEYID_free>>;
using Usages =
    std::unique_ptr<EXTENDED_KEY_USAGE, FreeWith<EXTENDED_KEY_USAGE_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
using Name = std::unique_ptr<GENERAL_NAME, FreeWith<GENERAL_NAME_free>>;
using Ia5String =
    std::unique_ptr<ASN1_IA5STRING, FreeWith<ASN1_IA5STRING_free>>;

constexpr size_t kSerialBytes = 16;
constexpr size_t kKeyIdBytes = 20;
constexpr int kMaxDepthBelowRoot = 1;

// Bits of KeyUsage, RFC 5280 section 4.2.1.3.
enum KeyUsageBit { kDigitalSignature = 0, kKeyCertSign = 5, kCrlSign = 6 };

bool IsCa(CertificateKind kind) {
  return kind == CertificateKind::kRootCa ||
         kind == CertificateKind::kIssuingCa;
}

bool AddExtension(X509& certificate, int nid, void* value, bool critical) {
  return X509_add1_ext_i2d(&certificate, nid, value, critical ? 1 : 0,
                           X509V3_ADD_REPLACE) == 1;
}

bool SetSerial(X509& certificate, RandomSource& random) {
  std::array<std::byte, kSerialBytes> raw;
  random.Fill(raw);
  raw[0] |= std::byte{0x01};  // RFC 5280 wants a positive number
  const BigNumber number(
      BN_bin2bn(Data(std::span(raw)), static_cast<int>(raw.size()), nullptr));
  if (number == nullptr) return false;
  const Integer serial(BN_to_ASN1_INTEGER(number.get(), nullptr));
  return serial != nullptr &&
         X509_set_serialNumber(&certificate, serial.get()) == 1;
}

bool AppendName(X509_NAME* name, int nid, const std::string& text) {
  return text.empty() ||
         X509_NAME_add_entry_by_NID(
             name, nid, MBSTRING_UTF8,
             reinterpret_cast<const unsigned char*>(text.data()),
             static_cast<int>(text.size()), -1, 0) == 1;
}

bool SetNames(X509& certificate, const CertificateSpec& spec) {
  X509_NAME* const subject = X509_get_subject_name(&certificate);
  return AppendName(subject, NID_organizationName, spec.organization) &&
         AppendName(subject, NID_commonName, spec.common_name) &&
         X509_set_issuer_name(&certificate,
                              spec.issuer == nullptr
                                  ? subject
                                  : X509_get_subject_name(spec.issuer)) == 1;
}

bool SetValidity(X509& certificate, const CertificateSpec& spec) {
  return ASN1_TIME_set(X509_getm_notBefore(&certificate),
                       absl::ToTimeT(spec.not_before)) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(&certificate),
                       absl::ToTimeT(spec.not_after)) != nullptr;
}

bool AddConstraints(X509& certificate, CertificateKind kind) {
  const Constraints constraints(BASIC_CONSTRAINTS_new());
  if (constraints == nullptr) return false;
  constraints->ca = IsCa(kind) ? 0xff : 0;
  if (IsCa(kind)) {
    constraints->pathlen = ASN1_INTEGER_new();
    const int depth = kind == CertificateKind::kRootCa ? kMaxDepthBelowRoot : 0;
    if (constraints->pathlen == nullptr ||
        ASN1_INTEGER_set(constraints->pathlen, depth) != 1) {
      return false;
    }
  }
  return AddExtension(certificate, NID_basic_constraints, constraints.get(),
                      /*critical=*/true);
}

bool AddKeyUsage(X509& certificate, CertificateKind kind) {
  const BitString bits(ASN1_BIT_STRING_new());
  if (bits == nullptr) return false;
  const bool set =
      IsCa(kind)
          ? ASN1_BIT_STRING_set_bit(bits.get(), kKeyCertSign, 1) == 1 &&
                ASN1_BIT_STRING_set_bit(bits.get(), kCrlSign, 1) == 1
          : ASN1_BIT_STRING_set_bit(bits.get(), kDigitalSignature, 1) == 1;
  return set && AddExtension(certificate, NID_key_usage, bits.get(),
                             /*critical=*/true);
}

// One purpose per leaf: an institution's certificate must not pass for a
// server's, nor the other way round.
bool AddExtendedKeyUsage(X509& certificate, CertificateKind kind) {
  if (IsCa(kind)) return true;
  const Usages usages(EXTENDED_KEY_USAGE_new());
  const int nid =
      kind == CertificateKind::kServer ? NID_server_auth : NID_client_auth;
  return usages != nullptr &&
         sk_ASN1_OBJECT_push(usages.get(), OBJ_nid2obj(nid)) > 0 &&
         AddExtension(certificate, NID_ext_key_usage, usages.get(),
                      /*critical=*/false);
}

// RFC 7093, method 1: the leftmost 160 bits of SHA-256 of the public key.
bool AddKeyIds(X509& certificate, X509* issuer) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  const OctetString id(ASN1_OCTET_STRING_new());
  if (id == nullptr ||
      X509_pubkey_digest(&certificate, EVP_sha256(), digest, &size) != 1 ||
      ASN1_OCTET_STRING_set(id.get(), digest, kKeyIdBytes) != 1 ||
      !AddExtension(certificate, NID_subject_key_identifier, id.get(),
                    /*critical=*/false)) {
    return false;
  }
  const KeyId authority(AUTHORITY_KEYID_new());
  if (authority == nullptr) return false;
  const ASN1_OCTET_STRING* issuer_id =
      issuer == nullptr ? id.get() : X509_get0_subject_key_id(issuer);
  if (issuer_id == nullptr) return false;
  authority->keyid = ASN1_OCTET_STRING_dup(issuer_id);
  return authority->keyid != nullptr &&
         AddExtension(certificate, NID_authority_key_identifier,
                      authority.get(), /*critical=*/false);
}

bool PushText(GENERAL_NAMES* names, int type, const std::string& text) {
  Name name(GENERAL_NAME_new());
  Ia5String value(ASN1_IA5STRING_new());
  if (name == nullptr || value == nullptr ||
      ASN1_STRING_set(value.get(), text.data(),
                      static_cast<int>(text.size())) != 1) {
    return false;
  }
  GENERAL_NAME_set0_value(name.get(), type, value.release());
  if (sk_GENERAL_NAME_push(names, name.get()) <= 0) return false;
  name.release();
  return true;
}

bool PushIp(GENERAL_NAMES* names, const std::string& text) {
  Name name(GENERAL_NAME_new());
  OctetString value(a2i_IPADDRESS(text.c_str()));
  if (name == nullptr || value == nullptr) return false;
  GENERAL_NAME_set0_value(name.get(), GEN_IPADD, value.release());
  if (sk_GENERAL_NAME_push(names, name.get()) <= 0) return false;
  name.release();
  return true;
}

bool AddSubjectNames(X509& certificate, const CertificateSpec& spec) {
  if (spec.hosts.empty() && spec.uri.empty()) return true;
  const Names names(GENERAL_NAMES_new());
  if (names == nullptr) return false;
  for (const std::string& host : spec.hosts) {
    const bool pushed = IsIpAddress(host)
                            ? PushIp(names.get(), host)
                            : PushText(names.get(), GEN_DNS, host);
    if (!pushed) return false;
  }
  if (!spec.uri.empty() && !PushText(names.get(), GEN_URI, spec.uri)) {
    return false;
  }
  return AddExtension(certificate, NID_subject_alt_name, names.get(),
                      /*critical=*/false);
}

}  // namespace

absl::StatusOr<X509Ptr> BuildCertificate(const CertificateSpec& spec,
                                         RandomSource& random) {
  X509Ptr certificate(X509_new());
  if (certificate == nullptr ||
      X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      !SetSerial(*certificate, random) || !SetNames(*certificate, spec) ||
      !SetValidity(*certificate, spec) ||
      X509_set_pubkey(certificate.get(), spec.subject_key) != 1 ||
      !AddConstraints(*certificate, spec.kind) ||
      !AddKeyUsage(*certificate, spec.kind) ||
      !AddExtendedKeyUsage(*certificate, spec.kind) ||
      !AddKeyIds(*certificate, spec.issuer) ||
      !AddSubjectNames(*certificate, spec) ||
      X509_sign(certificate.get(), spec.issuer_key, EVP_sha256()) == 0) {
    return Error(
        absl::StatusCode::kInternal,
        Cat("cannot make a certificate for ", Quoted(spec.common_name)));
  }
  return certificate;
}

}  // namespace consilium::openssl

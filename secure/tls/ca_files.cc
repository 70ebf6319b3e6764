#include "consilium/secure/ca_files.h"

#include <memory>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/tls/x509.h"

namespace consilium {
namespace {

using openssl::X509Ptr;

constexpr int64_t kMost = openssl::kMaxCertificateTextBytes;
// A chain of the new CA and these must still be read.
constexpr size_t kMaxFormer = openssl::kMaxChainLength - 2;

std::string NextKey(const IssuingCaFiles& files) {
  return Cat(files.key, ".next");
}

bool Fits(const X509& certificate, const TlsKey& key) {
  const bool fits =
      X509_check_private_key(&certificate, key.handle().key.get()) == 1;
  openssl::ClearErrors();
  return fits;
}

// The key of the certificate that issues, wherever a renewal has left it.
absl::StatusOr<TlsKey> LoadKey(FileSystem* fs, const IssuingCaFiles& files,
                               const X509& certificate) {
  const std::string next = NextKey(files);
  if (fs->Exists(next)) {
    absl::StatusOr<TlsKey> key = TlsKey::LoadFile(fs, next);
    if (key.ok() && Fits(certificate, *key)) return key;
  }
  return TlsKey::LoadFile(fs, files.key);
}

// A renewal that ended between certificate and key has one step left.
absl::Status FinishRenewal(FileSystem* fs, const IssuingCaFiles& files,
                           const X509& certificate) {
  const std::string next = NextKey(files);
  if (!fs->Exists(next)) return absl::OkStatus();
  const absl::StatusOr<TlsKey> key = TlsKey::LoadFile(fs, next);
  if (!key.ok() || !Fits(certificate, *key)) return absl::OkStatus();
  return RenameDurably(fs, next, files.key);
}

// Those of `certificates` that may still have issued somebody's certificate.
absl::StatusOr<std::string> StillTrusted(
    const std::vector<X509Ptr>& certificates, const std::string& root_pem,
    absl::Time now) {
  std::string out;
  size_t taken = 0;
  for (const X509Ptr& certificate : certificates) {
    if (taken == kMaxFormer) break;
    CONSILIUM_ASSIGN_OR_RETURN(const std::string pem,
                               openssl::CertificateToPem(*certificate));
    if (!VerifyCertificateChain(pem, root_pem, CertificateUse::kAuthority, now)
             .ok()) {
      continue;
    }
    out += pem;
    ++taken;
  }
  return out;
}

}  // namespace

absl::StatusOr<IssuingCa> LoadIssuingCa(FileSystem* fs,
                                        const IssuingCaFiles& files,
                                        std::string federation,
                                        absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string root,
                             ReadWholeFile(fs, files.root, kMost));
  CONSILIUM_ASSIGN_OR_RETURN(std::string issuing,
                             ReadWholeFile(fs, files.certificate, kMost));
  const auto certificate = openssl::ReadCertificate(issuing);
  if (!certificate.ok()) {
    return Annotate(certificate.status(), files.certificate);
  }
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                             openssl::Describe(**certificate));
  if (now > info.not_after) {
    return absl::FailedPreconditionError(
        Cat(files.certificate, ": the issuing CA expired at ",
            FormatTime(info.not_after),
            "; make a new one with `consilium --offline DIR cert "
            "renew-issuer`"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(TlsKey key, LoadKey(fs, files, **certificate));
  auto ca = IssuingCa::Create(std::move(federation), std::move(root),
                              std::move(issuing), std::move(key), now);
  if (!ca.ok()) return Annotate(ca.status(), files.certificate);
  return ca;
}

absl::StatusOr<IssuingCa> RenewIssuingCa(FileSystem* fs,
                                         const IssuingCaFiles& files,
                                         const std::string& federation,
                                         const TlsKey& root_key, absl::Time now,
                                         RandomSource& random) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<FileLock> lock,
                             fs->LockFile(Cat(files.certificate, ".lock")));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string root,
                             ReadWholeFile(fs, files.root, kMost));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string old,
                             ReadWholeFile(fs, files.certificate, kMost));
  const auto olds = openssl::ReadCertificates(old);
  if (!olds.ok()) return Annotate(olds.status(), files.certificate);
  CONSILIUM_RETURN_IF_ERROR(FinishRenewal(fs, files, *olds->front()));

  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, TlsKey::Generate());
  CONSILIUM_ASSIGN_OR_RETURN(
      std::string certificate,
      IssueIssuingCa(federation, root, root_key, key, now, random));
  CONSILIUM_ASSIGN_OR_RETURN(const std::string former,
                             StillTrusted(*olds, root, now));
  certificate += former;
  CONSILIUM_RETURN_IF_ERROR(key.SaveFile(fs, NextKey(files)));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, files.certificate, AsBytes(certificate), 0600));
  CONSILIUM_RETURN_IF_ERROR(RenameDurably(fs, NextKey(files), files.key));
  return LoadIssuingCa(fs, files, federation, now);
}

absl::StatusOr<CertificateInfo> RenewServerCertificate(
    FileSystem* fs, const std::string& certificate, const std::string& key,
    const IssuingCa& ca, absl::Time now, absl::Duration lifetime,
    RandomSource& random) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string old,
                             ReadWholeFile(fs, certificate, kMost));
  const auto names = ServerNamesOf(old);
  if (!names.ok()) return Annotate(names.status(), certificate);
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey server_key,
                             TlsKey::LoadFile(fs, key));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string chain,
      ca.IssueServer(*names, server_key, now, lifetime, random));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, certificate, AsBytes(chain), 0600));
  return ParseCertificate(chain);
}

}  // namespace consilium

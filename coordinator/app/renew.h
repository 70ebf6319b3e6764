// Certificates renewed on the coordinator's host, from its files: what works
// when nobody can connect any more.

#ifndef CONSILIUM_COORDINATOR_APP_RENEW_H_
#define CONSILIUM_COORDINATOR_APP_RENEW_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "consilium/secure/certificate.h"
#include "coordinator/app/config.h"

namespace consilium {

// Where and when; nothing is owned.
struct RenewContext {
  const CoordinatorConfig& config;  // paths are absolute
  FileSystem* fs = nullptr;
  RandomSource* random = nullptr;
  absl::Time now;
};

struct FileCertificates {
  CertificateInfo server;
  std::vector<CertificateInfo> issuing;  // the one that issues first
  CertificateInfo root;
};

// One file's chain, also when it has ended. Errors name the file.
absl::StatusOr<std::vector<CertificateInfo>> ReadCertificateFile(
    FileSystem* fs, const std::string& path);
// As they lie on the disk, also when they have ended.
absl::StatusOr<FileCertificates> ReadCertificates(const RenewContext& context);

// A new issuing CA from the root's key, and a server certificate of it. Beside
// a running coordinator, too, which takes both within tls.reload_interval.
// Errors: those of RenewIssuingCa; one that came between the two says so.
absl::StatusOr<FileCertificates> RenewIssuerFiles(const RenewContext& context,
                                                  const std::string& root_key);

// The server's, for its key and names. Also beside a running coordinator.
absl::StatusOr<CertificateInfo> RenewServerFiles(const RenewContext& context);

// An operator's or auditor's, for his key; the coordinator is stopped. Returns
// the chain, which is noted in the history and not yet written anywhere.
// Errors: FAILED_PRECONDITION  the coordinator runs; he is revoked;
//         INVALID_ARGUMENT     the certificate is not of such a member.
absl::StatusOr<std::string> RenewStaffCertificate(
    const RenewContext& context, const std::string& certificate_pem,
    const TlsKey& key);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_RENEW_H_

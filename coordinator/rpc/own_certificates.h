// The coordinator's own certificates: which there are, when each must be
// renewed, and how. Shared by the running coordinator and the offline command.

#ifndef CONSILIUM_COORDINATOR_RPC_OWN_CERTIFICATES_H_
#define CONSILIUM_COORDINATOR_RPC_OWN_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "consilium/secure/certificate.h"
#include "consilium/v1/admin.pb.h"

namespace consilium {

struct OwnCertificates {
  std::vector<CertificateInfo> server;   // one, or none known
  std::vector<CertificateInfo> issuing;  // the one that issues first
  std::vector<CertificateInfo> root;
};

struct RenewalTimes {
  absl::Duration renew_before;
  // No certificate of an institution should be cut short by its issuer's end.
  absl::Duration institution_lifetime;
};

// From when on a certificate should be renewed: `before` its end, but never
// more than a third of its life.
absl::Time RenewFrom(absl::Time not_before, absl::Time not_after,
                     absl::Duration before);

// Server, issuing CAs, root; with state and advice.
std::vector<v1::CertificateInfo> DescribeOwn(const OwnCertificates& own,
                                             const RenewalTimes& times,
                                             absl::Time now);

// One sentence for each that is due or has ended.
std::vector<std::string> RenewalWarnings(
    const std::vector<v1::CertificateInfo>& certificates);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_OWN_CERTIFICATES_H_

#include "coordinator/rpc/own_certificates.h"

#include <algorithm>

#include "consilium/base/strings.h"
#include "proto/wire/convert.h"

namespace consilium {
namespace {

constexpr char kRenewServer[] = "run `consilium cert renew --server`";
// Nobody connects to one that has ended.
constexpr char kRenewServerOffline[] =
    "run `consilium --offline DIR cert renew --server` on the coordinator's "
    "host";
constexpr char kRenewIssuer[] =
    "run `consilium --offline DIR cert renew-issuer --root-key FILE` on the "
    "coordinator's host";
constexpr char kNewRoot[] =
    "members pin the root: make a new federation with `consilium init` and "
    "let them enrol there";

std::string NameOf(std::string_view role) {
  if (role == "server") return "the server certificate";
  return role == "root-ca" ? "the root CA" : "the issuing CA";
}

v1::CertificateInfo Describe(const CertificateInfo& info, const char* role,
                             absl::Duration before, const char* advice,
                             absl::Time now) {
  v1::CertificateInfo out;
  out.set_serial(info.serial);
  out.set_subject(info.subject_name);
  out.set_role(role);
  out.set_not_before(MicrosOf(info.not_before));
  out.set_not_after(MicrosOf(info.not_after));
  out.set_fingerprint(info.fingerprint.Hex());
  const bool due = now >= RenewFrom(info.not_before, info.not_after, before);
  out.set_state(now >= info.not_after ? "expired" : due ? "expiring" : "valid");
  if (due) out.set_advice(advice);
  return out;
}

}  // namespace

absl::Time RenewFrom(absl::Time not_before, absl::Time not_after,
                     absl::Duration before) {
  return not_after - std::min(before, (not_after - not_before) / 3);
}

std::vector<v1::CertificateInfo> DescribeOwn(const OwnCertificates& own,
                                             const RenewalTimes& times,
                                             absl::Time now) {
  const absl::Duration ahead =
      std::max(times.renew_before, times.institution_lifetime);
  std::vector<v1::CertificateInfo> out;
  for (const CertificateInfo& info : own.server) {
    out.push_back(
        Describe(info, "server", times.renew_before, kRenewServer, now));
    v1::CertificateInfo& server = out.back();
    if (server.advice().empty()) continue;
    // Cut short by its issuer, it would end with it again.
    if (!own.issuing.empty() &&
        info.not_after >= own.issuing.front().not_after) {
      server.set_advice(kRenewIssuer);
    } else if (server.state() == "expired") {
      server.set_advice(kRenewServerOffline);
    }
  }
  for (size_t i = 0; i < own.issuing.size(); ++i) {
    v1::CertificateInfo info =
        Describe(own.issuing[i], "issuing-ca", ahead, kRenewIssuer, now);
    if (i > 0) {
      info.clear_advice();
      if (info.state() != "expired") info.set_state("former");
    }
    out.push_back(info);
  }
  for (const CertificateInfo& info : own.root) {
    out.push_back(Describe(info, "root-ca", ahead, kNewRoot, now));
  }
  return out;
}

std::vector<std::string> RenewalWarnings(
    const std::vector<v1::CertificateInfo>& certificates) {
  std::vector<std::string> out;
  for (const v1::CertificateInfo& c : certificates) {
    if (c.advice().empty()) continue;
    if (c.state() == "unknown") {
      out.push_back(Cat(NameOf(c.role()), " is not known; ", c.advice()));
      continue;
    }
    out.push_back(Cat(NameOf(c.role()),
                      c.state() == "expired" ? " ended " : " ends ",
                      FormatTime(TimeOf(c.not_after())), "; ", c.advice()));
  }
  return out;
}

}  // namespace consilium

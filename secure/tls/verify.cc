#include <arpa/inet.h>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/tls/x509.h"

namespace consilium {
namespace openssl {
namespace {

// A list of certificates that somebody else owns.
inline void FreeList(STACK_OF(X509) * list) { sk_X509_free(list); }
using BorrowedStack = std::unique_ptr<STACK_OF(X509), FreeWith<FreeList>>;

std::string DescribeForPeople(X509* certificate) {
  if (certificate == nullptr) return "the certificate";
  const absl::StatusOr<CertificateInfo> info = Describe(*certificate);
  if (!info.ok()) return "the certificate";
  return Cat("certificate ", info->serial, " (",
             Quoted(info->subject_uri.empty() ? info->subject_name
                                              : info->subject_uri),
             ")");
}

absl::Status VerifyFailure(X509_STORE_CTX* context, std::string_view host,
                           absl::Time now) {
  const int error = X509_STORE_CTX_get_error(context);
  X509* const culprit = X509_STORE_CTX_get_current_cert(context);
  const std::string who = DescribeForPeople(culprit);
  const absl::StatusOr<CertificateInfo> info =
      culprit == nullptr ? absl::InternalError("none") : Describe(*culprit);
  ClearErrors();
  if (error == X509_V_ERR_CERT_HAS_EXPIRED && info.ok()) {
    return absl::UnauthenticatedError(
        Cat(who, " expired at ", FormatTime(info->not_after), ", it is now ",
            FormatTime(now), "; renew it or enrol again"));
  }
  if (error == X509_V_ERR_CERT_NOT_YET_VALID && info.ok()) {
    return absl::UnauthenticatedError(
        Cat(who, " is valid from ", FormatTime(info->not_before),
            ", it is now ", FormatTime(now), "; check this machine's clock"));
  }
  if (error == X509_V_ERR_HOSTNAME_MISMATCH ||
      error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    std::string names;
    if (info.ok()) {
      for (const std::string& name : info->dns_names) CatInto(names, " ", name);
      for (const std::string& ip : info->ip_addresses) CatInto(names, " ", ip);
    }
    return absl::UnauthenticatedError(
        Cat(who, " is not for host ", Quoted(host, 256),
            "; it is for:", names.empty() ? " none" : names));
  }
  return absl::UnauthenticatedError(
      Cat(who, " does not verify: ", X509_verify_cert_error_string(error)));
}

int PurposeOf(CertificateUse use) {
  switch (use) {
    case CertificateUse::kServer:
      return X509_PURPOSE_SSL_SERVER;
    case CertificateUse::kClient:
      return X509_PURPOSE_SSL_CLIENT;
    case CertificateUse::kAuthority:
      return X509_PURPOSE_ANY;
  }
  return X509_PURPOSE_SSL_CLIENT;
}

}  // namespace

bool IsIpAddress(std::string_view host) {
  unsigned char raw[16];
  const std::string text(host);
  return inet_pton(AF_INET, text.c_str(), raw) == 1 ||
         inet_pton(AF_INET6, text.c_str(), raw) == 1;
}

absl::Status VerifyChain(const std::vector<X509Ptr>& certificates, X509& root,
                         CertificateUse use, std::string_view host,
                         absl::Time now) {
  const auto no_memory = [] {
    return Error(absl::StatusCode::kInternal, "cannot verify a certificate");
  };
  if (use == CertificateUse::kAuthority &&
      X509_check_ca(certificates.front().get()) != 1) {
    return absl::UnauthenticatedError(
        Cat(DescribeForPeople(certificates.front().get()),
            " is not a CA certificate"));
  }
  const X509StorePtr store(X509_STORE_new());
  const X509StoreContext context(X509_STORE_CTX_new());
  const BorrowedStack others(sk_X509_new_null());
  if (store == nullptr || context == nullptr || others == nullptr ||
      X509_STORE_add_cert(store.get(), &root) != 1) {
    return no_memory();
  }
  for (size_t i = 1; i < certificates.size(); ++i) {
    if (sk_X509_push(others.get(), certificates[i].get()) <= 0) {
      return no_memory();
    }
  }
  if (X509_STORE_CTX_init(context.get(), store.get(),
                          certificates.front().get(), others.get()) != 1) {
    return no_memory();
  }
  X509_VERIFY_PARAM* const param = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(param, absl::ToTimeT(now));
  X509_VERIFY_PARAM_set_purpose(param, PurposeOf(use));
  if (!host.empty()) {
    const std::string text(host);
    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    const int set = IsIpAddress(host)
                        ? X509_VERIFY_PARAM_set1_ip_asc(param, text.c_str())
                        : X509_VERIFY_PARAM_set1_host(param, text.c_str(), 0);
    if (set != 1) return no_memory();
  }
  if (X509_verify_cert(context.get()) != 1) {
    return VerifyFailure(context.get(), host, now);
  }
  return absl::OkStatus();
}

}  // namespace openssl

namespace {

absl::Status Verify(std::string_view chain_pem, std::string_view root_pem,
                    CertificateUse use, std::string_view host, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<openssl::X509Ptr> chain,
                             openssl::ReadCertificates(chain_pem));
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::X509Ptr root,
                             openssl::ReadCertificate(root_pem));
  return openssl::VerifyChain(chain, *root, use, host, now);
}

}  // namespace

absl::Status VerifyCertificateChain(std::string_view chain_pem,
                                    std::string_view root_pem,
                                    CertificateUse use, absl::Time now) {
  return Verify(chain_pem, root_pem, use, "", now);
}

absl::Status VerifyServerChain(std::string_view chain_pem,
                               std::string_view root_pem, std::string_view host,
                               absl::Time now) {
  if (host.empty()) {
    return absl::InvalidArgumentError("no host to look for in a certificate");
  }
  return Verify(chain_pem, root_pem, CertificateUse::kServer, host, now);
}

}  // namespace consilium

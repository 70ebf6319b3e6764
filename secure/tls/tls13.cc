#include "consilium/secure/tls13.h"

#include <openssl/conf.h>
#include <openssl/ssl.h>

#include <memory>

#include "consilium/base/status_macros.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

using openssl::FreeWith;
using Conf = std::unique_ptr<CONF, FreeWith<NCONF_free>>;
using SslContext = std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>>;

// gRPC sets its own minimum version on each context, which beats MinProtocol;
// the disabled protocols stay.
constexpr char kConfiguration[] =
    "consilium = modules\n"
    "[modules]\n"
    "ssl_conf = contexts\n"
    "[contexts]\n"
    "system_default = every_context\n"
    "[every_context]\n"
    "MinProtocol = TLSv1.3\n"
    "Protocol = -TLSv1.2, -TLSv1.1, -TLSv1, -SSLv3\n";

absl::Status Configure() {
  // The machine's own configuration first: loaded later, on first use, it
  // would replace ours.
  if (OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, nullptr) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "OpenSSL does not start");
  }
  openssl::ClearErrors();
  const Conf conf(NCONF_new(nullptr));
  CONSILIUM_ASSIGN_OR_RETURN(const openssl::Bio text,
                             openssl::BioOf(kConfiguration));
  long line = 0;
  if (conf == nullptr || NCONF_load_bio(conf.get(), text.get(), &line) != 1 ||
      CONF_modules_load(conf.get(), "consilium", 0) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "OpenSSL does not take the TLS configuration");
  }
  // Trust what a new context does, not what was asked for.
  const SslContext probe(SSL_CTX_new(TLS_method()));
  if (probe == nullptr ||
      (SSL_CTX_get_options(probe.get()) & SSL_OP_NO_TLSv1_2) == 0) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "OpenSSL still allows TLS 1.2");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ConfigureTls13Only() {
  static const absl::Status* const result = new absl::Status(Configure());
  return *result;
}

}  // namespace consilium

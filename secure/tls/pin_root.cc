#include "consilium/secure/pin_root.h"

#include <openssl/ssl.h>

#include <array>
#include <memory>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/tls/connect.h"
#include "secure/tls/x509.h"

namespace consilium {
namespace {

using openssl::FreeWith;
using SslContext = std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, FreeWith<SSL_free>>;

// gRPC servers expect this protocol name in a handshake.
constexpr unsigned char kAlpn[] = {2, 'h', '2'};

absl::StatusOr<Ssl> NewSession(const SslContext& context,
                               const std::string& host) {
  Ssl ssl(context == nullptr ? nullptr : SSL_new(context.get()));
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (ssl == nullptr || in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot make a TLS session");
  }
  SSL_set_bio(ssl.get(), in, out);  // takes both
  SSL_set_connect_state(ssl.get());
  if (SSL_set_alpn_protos(ssl.get(), kAlpn, sizeof(kAlpn)) != 0 ||
      (!openssl::IsIpAddress(host) &&
       SSL_set_tlsext_host_name(ssl.get(), host.c_str()) != 1)) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot set up a TLS session");
  }
  return ssl;
}

// TLS talks to memory and we to the socket: so every wait has the deadline,
// and a peer that closes cannot raise SIGPIPE.
absl::Status Handshake(SSL* ssl, TcpConnection& connection,
                       const Deadline& deadline) {
  std::array<std::byte, 16 * 1024> buffer;
  while (true) {
    openssl::ClearErrors();
    const int result = SSL_do_handshake(ssl);
    const int reason = SSL_get_error(ssl, result);
    absl::Status failure;
    if (result != 1 && reason != SSL_ERROR_WANT_READ) {
      failure = openssl::Error(absl::StatusCode::kUnavailable,
                               "the TLS 1.3 handshake failed");
    }
    while (true) {
      const int size = BIO_read(SSL_get_wbio(ssl), buffer.data(),
                                static_cast<int>(buffer.size()));
      if (size <= 0) break;
      CONSILIUM_RETURN_IF_ERROR(connection.SendAll(
          std::span(buffer).first(static_cast<size_t>(size)), deadline));
    }
    CONSILIUM_RETURN_IF_ERROR(failure);
    if (result == 1) return absl::OkStatus();
    CONSILIUM_ASSIGN_OR_RETURN(const size_t got,
                               connection.Receive(buffer, deadline));
    if (BIO_write(SSL_get_rbio(ssl), buffer.data(), static_cast<int>(got)) !=
        static_cast<int>(got)) {
      return openssl::Error(absl::StatusCode::kInternal,
                            "cannot take in TLS bytes");
    }
  }
}

absl::StatusOr<std::vector<openssl::X509Ptr>> PeerChain(SSL* ssl) {
  STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
  const int count = chain == nullptr ? 0 : sk_X509_num(chain);
  if (count == 0 || count > static_cast<int>(openssl::kMaxChainLength)) {
    return absl::UnauthenticatedError(
        Cat("the server shows ", count, " certificates; 1 to ",
            openssl::kMaxChainLength, " are in order"));
  }
  std::vector<openssl::X509Ptr> certificates;
  for (int i = 0; i < count; ++i) {
    X509* const certificate = sk_X509_value(chain, i);
    X509_up_ref(certificate);
    certificates.emplace_back(certificate);
  }
  return certificates;
}

}  // namespace

absl::StatusOr<std::string> FetchAndPinRoot(const PinRootOptions& options) {
  const Deadline deadline(options.timeout, options.cancel);
  CONSILIUM_ASSIGN_OR_RETURN(
      TcpConnection connection,
      TcpConnection::Open(options.server, options.proxy, deadline));

  // The handshake accepts any chain; the pinned fingerprint decides below,
  // before anything is sent. That the server holds the leaf's key is part of
  // every handshake.
  const SslContext context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr ||
      SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot make a TLS 1.3 context");
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  const std::string& name =
      options.server_name.empty() ? options.server.host : options.server_name;
  CONSILIUM_ASSIGN_OR_RETURN(const Ssl ssl, NewSession(context, name));
  const absl::Status handshake = Handshake(ssl.get(), connection, deadline);
  if (!handshake.ok()) {
    return Annotate(handshake, options.server.ToString());
  }

  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<openssl::X509Ptr> chain,
                             PeerChain(ssl.get()));
  std::string seen;
  for (const openssl::X509Ptr& certificate : chain) {
    CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest fingerprint,
                               openssl::FingerprintOf(*certificate));
    if (fingerprint == options.fingerprint) {
      const absl::Status verified = openssl::VerifyChain(
          chain, *certificate, CertificateUse::kServer, name, options.now);
      if (!verified.ok()) {
        return Annotate(verified, options.server.ToString());
      }
      return openssl::CertificateToPem(*certificate);
    }
    CatInto(seen, seen.empty() ? "" : ", ", fingerprint.Hex());
  }
  return absl::UnauthenticatedError(
      Cat(options.server.ToString(), " shows no certificate with fingerprint ",
          options.fingerprint.Hex(), " (it shows ", seen,
          "). Compare --ca-fingerprint with the invitation; if it is right, "
          "this is not your federation's coordinator"));
}

}  // namespace consilium

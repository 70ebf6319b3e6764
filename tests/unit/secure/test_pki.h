// A federation's certificates in memory.
#ifndef CONSILIUM_TESTS_UNIT_SECURE_TEST_PKI_H_
#define CONSILIUM_TESTS_UNIT_SECURE_TEST_PKI_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "consilium/base/status_macros.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/random.h"

namespace consilium {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) ADD_FAILURE() << value.status();
  CONSILIUM_CHECK(value.ok());
  return *std::move(value);
}

struct TestPki {
  std::string federation;
  absl::Time now;
  NewCertificateAuthority authority;
  IssuingCa ca;

  static TestPki Create(absl::Time now, std::string federation = "cards") {
    NewCertificateAuthority authority =
        Must(CreateCertificateAuthority(federation, now, *SystemRandom()));
    TlsKey key = Must(TlsKey::FromPem(Must(authority.issuing_key.ToPem())));
    IssuingCa ca =
        Must(IssuingCa::Create(federation, authority.root_pem,
                               authority.issuing_pem, std::move(key), now));
    return TestPki{std::move(federation), now, std::move(authority),
                   std::move(ca)};
  }

  PeerName Name(const std::string& name,
                PeerRole role = PeerRole::kInstitution) const {
    return PeerName{federation, role, name};
  }

  // Issued at `issued_at`, by default now; not verified.
  TlsIdentity Peer(const PeerName& name, absl::Duration lifetime,
                   absl::Time issued_at) const {
    const TlsKey key = Must(TlsKey::Generate());
    TlsIdentity identity;
    identity.root_pem = ca.root_pem();
    identity.chain_pem =
        Must(ca.IssuePeer(Must(CreateCertificateRequest(key, "")), name,
                          issued_at, lifetime, *SystemRandom()));
    identity.key_pem = Must(key.ToPem());
    identity.leaf = Must(ParseCertificate(identity.chain_pem));
    return identity;
  }
  TlsIdentity Peer(const std::string& name) const {
    return Peer(Name(name), kPeerLifetime, now);
  }

  TlsIdentity Server(ServerNames names = {{"coordinator.example"},
                                          true}) const {
    const TlsKey key = Must(TlsKey::Generate());
    TlsIdentity identity;
    identity.root_pem = ca.root_pem();
    identity.chain_pem =
        Must(ca.IssueServer(names, key, now, kServerLifetime, *SystemRandom()));
    identity.key_pem = Must(key.ToPem());
    identity.leaf = Must(ParseCertificate(identity.chain_pem));
    return identity;
  }
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_SECURE_TEST_PKI_H_

// Mutual TLS for gRPC, with certificates that reload.
#ifndef CONSILIUM_SECURE_GRPC_CREDENTIALS_H_
#define CONSILIUM_SECURE_GRPC_CREDENTIALS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/certificate.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace consilium {

// The certificate of a running server, which can be replaced while it runs:
// handshakes after a reload present the new one, connections stay. The files
// are looked at by Reload() and, at most once per check interval, by the
// handshake that comes next. A reload that fails (files half written, key of
// another certificate, expired) keeps what is in use. Thread-safe.
class ReloadableServerIdentity {
 public:
  struct Options {
    TlsIdentityFiles files;
    absl::Duration check_interval = absl::Seconds(60);
    FileSystem* fs = nullptr;  // not owned
    Clock* clock = nullptr;    // not owned
  };

  // Errors: those of LoadTlsIdentity.
  static absl::StatusOr<std::shared_ptr<ReloadableServerIdentity>> Create(
      Options options);

  // Reads the files now. OK when they are unchanged, too.
  absl::Status Reload();
  CertificateInfo leaf() const;
  // Why the last look at the files failed; OK when it did not.
  absl::Status last_check() const;

  // For the credentials below: what the next handshake presents, with a number
  // that changes when it does.
  struct Material {
    uint64_t generation = 0;
    TlsIdentity identity;
  };
  std::shared_ptr<const Material> Current();

 private:
  ReloadableServerIdentity(Options options, TlsIdentity identity);
  absl::Status ReloadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  std::shared_ptr<const Material> material_ ABSL_GUARDED_BY(mutex_);
  absl::Duration checked_at_ ABSL_GUARDED_BY(mutex_);  // monotonic
  absl::Status last_check_ ABSL_GUARDED_BY(mutex_);
};

// Mutual TLS: a handshake without a client certificate that leads to the root
// and is for client use fails. Take roles from PeerAuthenticator (peer.h).
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<ReloadableServerIdentity> identity);

// For the enrolment listener: the server proves itself, the client does not.
// Its chain also holds the root, so that FetchAndPinRoot() can find it.
std::shared_ptr<grpc::ServerCredentials> MakeEnrollmentServerCredentials(
    std::shared_ptr<ReloadableServerIdentity> identity);

// A channel of an institution or operator. After a renewal, make a new channel.
std::shared_ptr<grpc::ChannelCredentials> MakeClientCredentials(
    const TlsIdentity& identity);

// A channel to the enrolment listener that trusts one root (the PEM that
// FetchAndPinRoot() returned) and shows no certificate.
std::shared_ptr<grpc::ChannelCredentials> MakeEnrollmentChannelCredentials(
    const std::string& root_pem);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_GRPC_CREDENTIALS_H_

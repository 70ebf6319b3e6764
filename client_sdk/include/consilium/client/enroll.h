#ifndef CONSILIUM_CLIENT_ENROLL_H_
#define CONSILIUM_CLIENT_ENROLL_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/retry.h"

namespace consilium::client {

struct EnrollOptions {
  // host:port of the coordinator's enrolment listener.
  std::string coordinator;
  // From `consilium institution invite`, single use.
  std::string token;
  // SHA-256 of the root CA certificate, 64 hexadecimal digits (colons are
  // allowed), told by the same person over another channel.
  std::string ca_fingerprint;
  // Where the identity goes; made when missing. An identity that is already
  // there is not overwritten, unless its certificate has expired: then the same
  // institution gets a new one for its key, and keeps state and outbox.
  std::string directory;
  // As ClientOptions::proxy.
  std::string proxy;
  // As ClientOptions::server_name, for the enrolment listener.
  std::string server_name;
  absl::Duration timeout = absl::Seconds(30);
  // A coordinator that cannot be reached, is busy, or whose answer was lost, is
  // asked again for this long, with growing pauses.
  absl::Duration retry_for = absl::Minutes(2);
  // Told before each pause why there is one, and its length.
  std::function<void(const absl::Status& error, absl::Duration pause)> on_retry;
  Sleeper* sleeper = nullptr;  // null: pauses in real time
  std::string software;
};

struct Enrollment {
  std::string federation;
  std::string institution;
  std::string uri;                 // consilium://<federation>/<role>/<name>
  std::string service_address;     // host:port, for ClientOptions::coordinator
  std::string signing_key;         // hexadecimal, as pinned
  std::string certificate_serial;  // hexadecimal
  absl::Time not_after;
  // directory/consilium-client.toml; for an operator or auditor
  // directory/config.toml, for the `consilium` command.
  std::string config_path;
};

// Makes a P-256 key that never leaves this machine, proves the server by the
// root's fingerprint, trades token and CSR for a certificate, and writes to
// `directory`: client.key (0600), client.pem, root-ca.pem, signing.pub and
// the configuration. Blocks up to `retry_for` and one more `timeout`, and for
// as long as the system's resolver looks for names. Thread-safe.
//
// The key is written first and used again by the next call with the same
// directory: whatever was lost on the way, the same token gets the same
// certificate, until it expires.
//
// Errors:
//   INVALID_ARGUMENT    an option; the message names it
//   ALREADY_EXISTS      `directory` holds an identity that has not expired
//   FAILED_PRECONDITION the expired one there is somebody else's; or no
//                       protocol version in common
//   PERMISSION_DENIED   the key in `directory` can be read by others
//   UNAVAILABLE         cannot connect, for longer than `retry_for`
//   RESOURCE_EXHAUSTED  too many enrolments, for longer than `retry_for`
//   DEADLINE_EXCEEDED   no answer within `timeout`, for longer than `retry_for`
//   CANCELLED           `cancel` was
//   UNAUTHENTICATED     the server has another root, or it refuses the token
//                       (wrong, used or expired), or what it issued does not
//                       verify
absl::StatusOr<Enrollment> Enroll(const EnrollOptions& options,
                                  const CancelToken& cancel = {});

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_ENROLL_H_

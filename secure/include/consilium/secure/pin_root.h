// First contact: from a root CA's fingerprint to the root CA.
#ifndef CONSILIUM_SECURE_PIN_ROOT_H_
#define CONSILIUM_SECURE_PIN_ROOT_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/cancel.h"
#include "consilium/base/digest.h"
#include "consilium/secure/proxy.h"

namespace consilium {

struct PinRootOptions {
  HostPort server;           // the enrolment listener
  std::string server_name;   // of its certificate; "": server.host
  Sha256Digest fingerprint;  // of the root CA, from the invitation
  std::optional<ProxyAddress> proxy;
  absl::Duration timeout = absl::Seconds(20);  // over all steps
  CancelToken cancel;
  absl::Time now;
};

// First contact of an institution, which knows only a fingerprint: makes one
// TLS 1.3 handshake with the enrolment listener, looks for the root CA with
// that fingerprint in the chain it sends, verifies the chain and the host name
// against it, and returns the root as PEM. Nothing is sent after the
// handshake. Blocks up to `timeout`, after the name lookup, which only the
// system's resolver bounds.
// Errors:
//   UNAVAILABLE        cannot connect, or the proxy refuses (with its status)
//   DEADLINE_EXCEEDED  `timeout` passed
//   CANCELLED          `cancel` was
//   UNAUTHENTICATED    no certificate has the fingerprint (the text lists
//                      those seen), or the chain or host name does not verify
absl::StatusOr<std::string> FetchAndPinRoot(const PinRootOptions& options);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_PIN_ROOT_H_

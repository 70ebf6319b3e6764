// Names of peers and the URIs that stand for them in certificates.
#ifndef CONSILIUM_SECURE_IDENTITY_H_
#define CONSILIUM_SECURE_IDENTITY_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

enum class PeerRole { kInstitution, kOperator, kAuditor };

// "institution", "operator", "auditor".
std::string_view PeerRoleName(PeerRole role);
// Errors: INVALID_ARGUMENT  another word.
absl::StatusOr<PeerRole> ParsePeerRole(std::string_view text);

// Names of federations, institutions, operators and auditors: 1 to 63 of
// [a-z0-9-], first a letter or digit. They appear in URIs, paths and tables.
// Errors: INVALID_ARGUMENT  naming `what` and the name.
absl::Status ValidateName(std::string_view what, std::string_view name);

// Who a certificate stands for: its URI SAN
// consilium://<federation>/<role>/<name>.
struct PeerName {
  std::string federation;
  PeerRole role = PeerRole::kInstitution;
  std::string name;

  // Errors: INVALID_ARGUMENT  not such a URI, a bad name or an unknown role.
  static absl::StatusOr<PeerName> Parse(std::string_view uri);
  absl::Status Validate() const;
  std::string Uri() const;
  friend bool operator==(const PeerName&, const PeerName&) = default;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_IDENTITY_H_

#include "consilium/secure/identity.h"

#include <algorithm>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr std::string_view kScheme = "consilium://";
constexpr size_t kMaxNameBytes = 63;

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

}  // namespace

std::string_view PeerRoleName(PeerRole role) {
  switch (role) {
    case PeerRole::kInstitution:
      return "institution";
    case PeerRole::kOperator:
      return "operator";
    case PeerRole::kAuditor:
      return "auditor";
  }
  return "unknown";
}

absl::StatusOr<PeerRole> ParsePeerRole(std::string_view text) {
  for (const PeerRole role :
       {PeerRole::kInstitution, PeerRole::kOperator, PeerRole::kAuditor}) {
    if (text == PeerRoleName(role)) return role;
  }
  return absl::InvalidArgumentError(
      Cat("role ", Quoted(text),
          " is unknown; use institution, operator or auditor"));
}

absl::Status ValidateName(std::string_view what, std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes &&
                    IsNameStart(name.front()) &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return IsNameStart(c) || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat(what, " name ", Quoted(name), " is not 1 to ", kMaxNameBytes,
          " characters of a-z, 0-9 and '-', starting with a letter or digit"));
}

absl::StatusOr<PeerName> PeerName::Parse(std::string_view uri) {
  const auto bad = [uri] {
    return absl::InvalidArgumentError(
        Cat("identity ", Quoted(uri, 256),
            " is not consilium://<federation>/<role>/<name>"));
  };
  if (uri.substr(0, kScheme.size()) != kScheme) return bad();
  const std::string_view path = uri.substr(kScheme.size());
  const size_t first = path.find('/');
  if (first == std::string_view::npos) return bad();
  const size_t second = path.find('/', first + 1);
  if (second == std::string_view::npos) return bad();

  PeerName peer;
  peer.federation = std::string(path.substr(0, first));
  CONSILIUM_ASSIGN_OR_RETURN(
      peer.role, ParsePeerRole(path.substr(first + 1, second - first - 1)));
  peer.name = std::string(path.substr(second + 1));
  CONSILIUM_RETURN_IF_ERROR(peer.Validate());
  return peer;
}

absl::Status PeerName::Validate() const {
  CONSILIUM_RETURN_IF_ERROR(ValidateName("federation", federation));
  return ValidateName(PeerRoleName(role), name);
}

std::string PeerName::Uri() const {
  return Cat(kScheme, federation, "/", PeerRoleName(role), "/", name);
}

}  // namespace consilium

#include "coordinator/cli/invitation.h"

#include "consilium/base/strings.h"

namespace consilium {
namespace {

// An enrolment listener bound to every address is reached where the
// coordinator is.
std::string ReachableAddress(const std::string& told,
                             const std::string& coordinator) {
  const auto enrollment = HostPort::Parse(told);
  const auto known = HostPort::Parse(coordinator);
  if (!enrollment.ok() || !known.ok()) return told;
  if (enrollment->host != "0.0.0.0" && enrollment->host != "::") return told;
  return HostPort{known->host, enrollment->port}.ToString();
}

}  // namespace

absl::StatusOr<uint64_t> TokenLifetime(const std::string& expires) {
  if (expires.empty()) return uint64_t{0};
  return WholeSeconds("--expires", expires);
}

absl::Status ShowInvitation(Cli& cli, const std::string& name,
                            v1::InviteInstitutionResponse invitation) {
  CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, cli.Session());
  invitation.set_enrollment_address(ReachableAddress(
      invitation.enrollment_address(), session->config.coordinator));
  return cli.Show(invitation, [&](std::ostream& out) {
    Fields()
        .Add("invited", name)
        .Add("token", invitation.token())
        .Add("good until", cli.style().When(invitation.expires_at()))
        .Add("CA fingerprint", invitation.ca_fingerprint())
        .Print(out, cli.style());
    out << "\nThe token works once and is shown only now. At " << name
        << ", run:\n  consilium-client enroll --coordinator "
        << invitation.enrollment_address() << " \\\n    --token "
        << invitation.token() << " \\\n    --ca-fingerprint "
        << invitation.ca_fingerprint() << " --dir " << name << "\n";
  });
}

}  // namespace consilium

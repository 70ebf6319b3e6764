// What follows from an invitation, the same for everybody who enrols.

#ifndef CONSILIUM_COORDINATOR_CLI_INVITATION_H_
#define CONSILIUM_COORDINATOR_CLI_INVITATION_H_

#include <string>

#include "coordinator/cli/cli.h"

namespace consilium {

// "48h" as seconds; "" is 0, the coordinator's default.
absl::StatusOr<uint64_t> TokenLifetime(const std::string& expires);

// Prints the token and the command that `name` runs with it.
absl::Status ShowInvitation(Cli& cli, const std::string& name,
                            v1::InviteInstitutionResponse invitation);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_INVITATION_H_

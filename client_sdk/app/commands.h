#ifndef CONSILIUM_CLIENT_SDK_APP_COMMANDS_H_
#define CONSILIUM_CLIENT_SDK_APP_COMMANDS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "client_sdk/app/config.h"
#include "consilium/base/cancel.h"
#include "consilium/client/enroll.h"

// The subcommands of consilium-client, after their flags were parsed. Results
// go to `out`; errors are returned.
namespace consilium::client::internal {

// 0 ok, 1 failed, 2 wrong use or configuration, 3 no connection or an identity
// that is not accepted, 4 a timeout passed. Scripts rely on these.
int ExitCodeFor(const absl::Status& status);

absl::Status EnrollCommand(const EnrollOptions& options, bool json,
                           std::ostream& out, const CancelToken& cancel);

// Identity, connection and outbox, without taking the state directory's lock:
// it works beside a running `consilium-client run`. What it found is printed
// even when the coordinator does not answer, which is the error then.
absl::Status StatusCommand(const ClientConfig& config, bool json,
                           std::ostream& out, const CancelToken& cancel);

// The receipts of this institution, each checked against the coordinator's
// pinned key; DATA_LOSS when one of them does not hold. Needs no connection.
absl::Status ReceiptsCommand(const ClientConfig& config, bool json,
                             std::ostream& out);

absl::Status RenewCommand(const ClientConfig& config, bool json,
                          std::ostream& out, const CancelToken& cancel);

// Runs until cancelled, or for `rounds` contributions.
absl::Status RunCommand(ClientConfig config, uint64_t rounds,
                        const CancelToken& cancel);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_COMMANDS_H_

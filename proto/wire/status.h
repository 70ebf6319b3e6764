// The one place where gRPC's and absl's status codes meet.

#ifndef CONSILIUM_PROTO_WIRE_STATUS_H_
#define CONSILIUM_PROTO_WIRE_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace consilium {

// Codes have equal numbers on both sides. The message is passed on whole; it
// must not hold secrets, which no status of ours does.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// For a call that this side did not cancel: a server that stops while a call
// is under way ends it with CANCELLED, which here is UNAVAILABLE.
absl::Status FromPeer(const grpc::Status& status);

}  // namespace consilium

#endif  // CONSILIUM_PROTO_WIRE_STATUS_H_

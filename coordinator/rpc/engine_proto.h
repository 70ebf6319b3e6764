// Engine outcomes as messages.

#ifndef CONSILIUM_COORDINATOR_RPC_ENGINE_PROTO_H_
#define CONSILIUM_COORDINATOR_RPC_ENGINE_PROTO_H_

#include "absl/status/statusor.h"
#include "consilium/v1/common.pb.h"
#include "consilium/v1/federation.pb.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/refusal.h"

namespace consilium {

v1::Refusal ToProto(const Refused& refused);

// Errors: INVALID_ARGUMENT naming the field. Sizes are only checked for range;
// CheckManifest() compares them with the round.
absl::StatusOr<UploadManifest> FromProto(const v1::UploadManifest& in);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_ENGINE_PROTO_H_

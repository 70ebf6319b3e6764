#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_CONVERT_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_CONVERT_H_

#include "absl/status/statusor.h"
#include "client_sdk/session/transport.h"
#include "consilium/v1/federation.pb.h"

// The session's structs and the messages of federation.proto. A message of the
// coordinator that breaks its own rules gives INTERNAL, naming the field.
namespace consilium::client::internal {

void ToProto(const HelloCall& call, v1::HelloRequest* out);
void ToProto(const Manifest& manifest, v1::UploadManifest* out);
void ToProto(const Version& version, v1::VersionRef* out);

absl::StatusOr<Greeting> FromProto(const v1::HelloResponse& in);
absl::StatusOr<WorkReply> FromProto(const v1::WaitForWorkResponse& in);
absl::StatusOr<SignedReceipt> FromProto(const v1::Receipt& in);
absl::StatusOr<BeginOutcome> FromProto(const v1::BeginUploadResponse& in);
absl::StatusOr<CommitOutcome> FromProto(const v1::CommitUploadResponse& in);
Refused FromProto(const v1::Refusal& in);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_CONVERT_H_

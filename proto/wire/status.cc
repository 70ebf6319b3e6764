#include "proto/wire/status.h"

#include <string>

namespace consilium {

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

absl::Status FromPeer(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::CANCELLED) {
    return FromGrpc(status);
  }
  return absl::UnavailableError("the other side ended the call");
}

}  // namespace consilium

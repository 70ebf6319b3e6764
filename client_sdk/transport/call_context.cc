#include "client_sdk/transport/call_context.h"

#include <array>
#include <string_view>

#include "consilium/base/strings.h"
#include "proto/wire/status.h"

namespace consilium::client::internal {
namespace {

// Of OpenSSL and of gRPC's TLS connector.
constexpr std::array<std::string_view, 3> kSignsOfAnotherServer = {
    "certificate verify failed", "is not in peer certificate",
    "Hostname Verification Check failed"};

}  // namespace

absl::Status StatusOfCall(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    for (const std::string_view sign : kSignsOfAnotherServer) {
      if (status.error_message().find(sign) == std::string::npos) continue;
      return absl::UnauthenticatedError(
          Cat("the coordinator's certificate does not lead to root-ca.pem of "
              "this identity, or is for another host name; check the address "
              "(and server_name): ",
              status.error_message()));
    }
  }
  return FromGrpc(status);
}

}  // namespace consilium::client::internal

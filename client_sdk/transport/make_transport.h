#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_MAKE_TRANSPORT_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_MAKE_TRANSPORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client_sdk/session/transport.h"
#include "consilium/client/options.h"

namespace consilium::client::internal {

// The transport that Client::Connect() uses, without a session: no lock, no
// state. Errors: as Client::Connect() before it calls anybody.
absl::StatusOr<std::unique_ptr<Transport>> MakeGrpcTransport(
    const ClientOptions& options);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_MAKE_TRANSPORT_H_

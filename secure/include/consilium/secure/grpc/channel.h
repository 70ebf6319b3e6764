// Keepalive, limits and proxy of channels and servers.
#ifndef CONSILIUM_SECURE_GRPC_CHANNEL_H_
#define CONSILIUM_SECURE_GRPC_CHANNEL_H_

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "consilium/secure/proxy.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/channel_arguments.h"

namespace consilium {

// Limits and keepalive of one side. The defaults of both sides fit together:
// a client pings every 30 s, idle or not, so that no NAT forgets a site that
// waits for a round; a server takes a ping every 10 s and more seldom.
struct ChannelOptions {
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  int max_message_bytes = 4 << 20;
  // From ChooseProxy(). Unset: no proxy; gRPC's own look at the environment is
  // off, so that enrolment and channels decide alike.
  std::optional<ProxyAddress> proxy;
  // Between attempts to connect, which are gRPC's own: it grows from the first
  // to the second. gRPC waits no less than 100 ms.
  absl::Duration reconnect_initial = absl::Milliseconds(500);
  absl::Duration reconnect_cap = absl::Seconds(15);
  // The name to look for in the server's certificate when it is not the
  // target's host (a tunnel, a test). "": the target's host.
  std::string server_name;
  // Channels with equal arguments share one connection unless this is set.
  bool own_connection = false;
};

// Failed calls are not retried by gRPC: the session decides what may be
// repeated.
grpc::ChannelArguments MakeChannelArguments(const ChannelOptions& options);

struct ServerOptions {
  absl::Duration keepalive_time = absl::Seconds(60);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  absl::Duration min_ping_interval = absl::Seconds(10);
  int max_message_bytes = 4 << 20;   // of what is received
  int max_response_bytes = 4 << 20;  // of what is sent
  // Taken in for a stream, of a message that nobody waits for yet.
  int stream_lookahead_bytes = 512 << 10;
  // Calls of one connection at a time; further ones wait on the caller's side.
  int max_streams_per_connection = 32;
  // From accept to the end of the TLS handshake.
  absl::Duration handshake_timeout = absl::Seconds(20);
};

// Limits that hold before anybody is authenticated, and keepalive.
void ApplyServerOptions(const ServerOptions& options,
                        grpc::ServerBuilder& builder);

// For a program's main(), before the first call: Abseil as Debian builds it
// looks for cycles whenever gRPC takes a lock, about 2 % of a transfer.
void StopDeadlockDetection();

}  // namespace consilium

#endif  // CONSILIUM_SECURE_GRPC_CHANNEL_H_

// Client::Connect lives here and not in the session, so that the session
// builds and is tested without gRPC.

#include <algorithm>
#include <memory>
#include <utility>

#include "client_sdk/session/session.h"
#include "client_sdk/session/timer_thread.h"
#include "client_sdk/transport/grpc_transport.h"
#include "client_sdk/transport/make_transport.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/retry.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/secure/proxy.h"
#include "consilium/secure/random.h"

namespace consilium::client {
namespace internal {

absl::StatusOr<std::unique_ptr<Transport>> MakeGrpcTransport(
    const ClientOptions& options) {
  auto address = HostPort::Parse(options.coordinator);
  if (!address.ok()) return Annotate(address.status(), "coordinator");
  ChannelOptions channel;
  channel.keepalive_time = options.keepalive_time;
  channel.keepalive_timeout = options.keepalive_timeout;
  // A policy that asks for quick retries is not held up by the connection.
  channel.reconnect_initial =
      std::min(channel.reconnect_initial, options.retry.cap);
  channel.reconnect_cap = std::min(channel.reconnect_cap, options.retry.cap);
  channel.server_name = options.server_name;
  // Two clients of one process are two institutions, or one that renews.
  channel.own_connection = true;
  CONSILIUM_ASSIGN_OR_RETURN(
      channel.proxy,
      ChooseProxy(options.proxy, address->host, ProcessEnvironment()));
  return GrpcTransport::Create({.target = address->ToString(),
                                .identity = IdentityPaths(options.identity_dir),
                                .channel = std::move(channel),
                                .fs = PosixFileSystem(),
                                .clock = SystemClock()});
}

}  // namespace internal

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const ClientOptions& options, const CancelToken& cancel) {
  CONSILIUM_RETURN_IF_ERROR(internal::ValidateOptions(options));
  internal::Session::Parts parts;
  parts.options = options;
  parts.deps.fs = PosixFileSystem();
  parts.deps.clock = SystemClock();
  parts.deps.sleeper = SystemSleeper();
  parts.deps.random = SystemRandom();
  parts.runner = std::make_unique<internal::TimerThread>(parts.deps.clock);
  CONSILIUM_RETURN_IF_ERROR(
      internal::CheckIdentityPresent(parts.deps.fs, options.identity_dir));
  // Under the lock: a renewal that another process is at is not cut short.
  CONSILIUM_ASSIGN_OR_RETURN(parts.lock,
                             internal::LockState(parts.deps.fs, options));
  CONSILIUM_RETURN_IF_ERROR(internal::FinishRenewal(
      parts.deps.fs, internal::IdentityPaths(options.identity_dir)));
  CONSILIUM_ASSIGN_OR_RETURN(
      parts.identity,
      internal::LoadIdentity(parts.deps.fs, options.identity_dir,
                             parts.deps.clock->Now()));
  CONSILIUM_ASSIGN_OR_RETURN(parts.transport,
                             internal::MakeGrpcTransport(options));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<internal::Session> session,
      internal::Session::Create(std::move(parts), cancel));
  return std::make_unique<Client>(std::move(session));
}

}  // namespace consilium::client

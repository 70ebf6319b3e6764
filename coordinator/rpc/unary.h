// Runs a unary handler on the executor and measures it.

#ifndef CONSILIUM_COORDINATOR_RPC_UNARY_H_
#define CONSILIUM_COORDINATOR_RPC_UNARY_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "coordinator/rpc/caller.h"
#include "grpcpp/support/server_callback.h"
#include "proto/wire/status.h"

namespace consilium {

inline void ReportRpc(const RpcDeps& deps, std::string_view method,
                      const absl::Status& status, absl::Duration started) {
  deps.engine->listener().OnRpc(method, absl::StatusCodeToString(status.code()),
                                deps.engine->Monotonic() - started);
}

// `handler` is called as absl::Status(const Admitted&) on the executor, after
// `admit` on this thread; request and response live until the call ends.
template <typename Admitted, typename Handler>
grpc::ServerUnaryReactor* RunUnary(const RpcDeps& deps,
                                   grpc::CallbackServerContext* context,
                                   std::string_view method,
                                   absl::StatusOr<Admitted> admitted,
                                   Handler handler) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::Duration started = deps.engine->Monotonic();
  if (!admitted.ok()) {
    ReportRpc(deps, method, admitted.status(), started);
    reactor->Finish(ToGrpc(admitted.status()));
    return reactor;
  }
  deps.executor->Schedule([deps, reactor, method, started,
                           caller = *std::move(admitted),
                           handler = std::move(handler)]() mutable {
    const absl::Status status = handler(caller);
    ReportRpc(deps, method, status, started);
    reactor->Finish(ToGrpc(status));
  });
  return reactor;
}

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_UNARY_H_

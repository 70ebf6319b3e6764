// Runs a unary handler on the executor and measures it.

#ifndef CONSILIUM_COORDINATOR_RPC_UNARY_H_
#define CONSILIUM_COORDINATOR_RPC_UNARY_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/strings.h"
#include "coordinator/rpc/caller.h"
#include "grpcpp/support/server_callback.h"
#include "proto/wire/status.h"

namespace consilium {

// Who is told of in the log: "" for one who is not admitted yet.
inline std::string CallerName(const Staff& staff) { return staff.name.name; }
template <typename Admitted>
std::string CallerName(const Admitted&) {
  return "";
}

inline void ReportRpc(const RpcDeps& deps, std::string_view who,
                      std::string_view method, const absl::Status& status,
                      absl::Duration started) {
  const absl::Duration took = deps.engine->Monotonic() - started;
  const std::string code = absl::StatusCodeToString(status.code());
  deps.engine->listener().OnRpc(method, code, took);
  deps.engine->Log("debug", 0, who,
                   Cat(method, ": ", code, status.ok() ? "" : ": ",
                       StdView(status.message()), ", ", FormatDuration(took)));
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
    ReportRpc(deps, "", method, admitted.status(), started);
    reactor->Finish(ToGrpc(admitted.status()));
    return reactor;
  }
  deps.executor->Schedule([deps, reactor, method, started,
                           caller = *std::move(admitted),
                           handler = std::move(handler)]() mutable {
    const absl::Status status = handler(caller);
    ReportRpc(deps, CallerName(caller), method, status, started);
    reactor->Finish(ToGrpc(status));
  });
  return reactor;
}

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_UNARY_H_

#ifndef CONSILIUM_CLIENT_SDK_TRANSPORT_CALL_CONTEXT_H_
#define CONSILIUM_CLIENT_SDK_TRANSPORT_CALL_CONTEXT_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client_sdk/session/transport.h"
#include "grpc/support/time.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/status.h"

namespace consilium::client::internal {

// FromGrpc, but for a server that is not the one pinned: gRPC calls it
// UNAVAILABLE, like a cable that was pulled out, and only its text tells.
absl::Status StatusOfCall(const grpc::Status& status);

// A grpc::ClientContext with the deadline and the cancellation of a
// CallContext. The deadline is monotonic: a clock that jumps cuts no call.
class GrpcCall {
 public:
  explicit GrpcCall(const CallContext& context) : cancel_(context.cancel) {
    if (context.timeout < absl::InfiniteDuration()) {
      grpc_.set_deadline(gpr_time_add(
          gpr_now(GPR_CLOCK_MONOTONIC),
          gpr_time_from_nanos(absl::ToInt64Nanoseconds(context.timeout),
                              GPR_TIMESPAN)));
    }
    registration_ = cancel_.OnCancel([this] { grpc_.TryCancel(); });
  }
  ~GrpcCall() { registration_.Release(); }
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  grpc::ClientContext* grpc() { return &grpc_; }

  absl::Status Result(const grpc::Status& status) const {
    if (!status.ok() && cancel_.cancelled()) return cancel_.status();
    return StatusOfCall(status);
  }

 private:
  const CancelToken cancel_;
  grpc::ClientContext grpc_;
  CancelRegistration registration_;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_TRANSPORT_CALL_CONTEXT_H_

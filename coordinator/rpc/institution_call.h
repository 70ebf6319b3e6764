// A unary call of an institution, which may be hostile: nothing of its request
// is parsed before the caller is admitted, its size checked and the number of
// its calls, and no more requests are parsed at a time than the executor has
// threads. An entry of a repeated field may be 2 bytes here and 80 in memory.

#ifndef CONSILIUM_COORDINATOR_RPC_INSTITUTION_CALL_H_
#define CONSILIUM_COORDINATOR_RPC_INSTITUTION_CALL_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "coordinator/rpc/caller.h"
#include "coordinator/rpc/institution_queues.h"
#include "coordinator/rpc/unary.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "proto/wire/status.h"

namespace consilium {

// Errors: INVALID_ARGUMENT naming the size and limits.max_control_bytes, or for
// bytes that are no such message.
absl::Status ParseRequest(const grpc::ByteBuffer& bytes, int64_t max_bytes,
                          google::protobuf::MessageLite* request);

// Counts a call of an institution while it lives.
class CallSlot {
 public:
  CallSlot() = default;
  CallSlot(const CallSlot&) = delete;
  CallSlot& operator=(const CallSlot&) = delete;
  ~CallSlot() {
    if (peer_ != nullptr) --peer_->calls;
  }
  // Errors: RESOURCE_EXHAUSTED naming limits.max_calls_per_institution.
  absl::Status Take(const Caller& caller, int64_t max_calls);

 private:
  std::shared_ptr<PeerState> peer_;
};

// Owned by gRPC. After Start, End comes exactly once, and then this may be
// gone.
template <typename Request, typename Response>
class InstitutionCall : public grpc::ServerUnaryReactor {
 public:
  InstitutionCall(const RpcDeps& deps, InstitutionQueues* queues,
                  std::string_view method, const grpc::ByteBuffer& request,
                  grpc::ByteBuffer* response)
      : deps_(deps),
        queues_(queues),
        method_(method),
        started_(deps.engine->Monotonic()),
        bytes_(request),
        out_(response) {}

  void Start(const grpc::CallbackServerContext& context) {
    auto caller = AdmitInstitution(deps_, context);
    absl::Status status = caller.status();
    if (status.ok()) {
      caller_ = *std::move(caller);
      status = slot_.Take(caller_, deps_.max_calls_per_institution);
    }
    if (!status.ok()) {
      End(status);
      return;
    }
    queues_->Of(caller_.id()).Schedule([this] {
      const absl::Status parsed =
          ParseRequest(bytes_, deps_.max_control_bytes, &request_);
      bytes_.Clear();
      if (parsed.ok()) {
        Run();
      } else {
        End(parsed);
      }
    });
  }

  void OnDone() override { delete this; }

 protected:
  // On a thread of the queue's executor. Leads to End.
  virtual void Run() = 0;

  void End(const absl::Status& result) {
    const std::string who = caller_.peer == nullptr ? "" : caller_.name();
    const absl::Status status = ForPeer(deps_, who, method_, result);
    ReportRpc(deps_, who, method_, status, started_);
    if (status.ok()) {
      bool own_buffer = false;
      (void)grpc::SerializationTraits<Response>::Serialize(response_, out_,
                                                           &own_buffer);
    }
    Finish(ToGrpc(status));
  }

  const RpcDeps& deps() const { return deps_; }
  const Caller& caller() const { return caller_; }
  const Request& request() const { return request_; }
  Response* response() { return &response_; }

 private:
  const RpcDeps deps_;
  InstitutionQueues* const queues_;
  const std::string_view method_;
  const absl::Duration started_;
  grpc::ByteBuffer bytes_;
  grpc::ByteBuffer* const out_;
  Caller caller_;
  CallSlot slot_;
  Request request_;
  Response response_;
};

// `handler` is called as absl::Status(const Caller&, const Request&,
// Response*).
template <typename Request, typename Response, typename Handler>
grpc::ServerUnaryReactor* RunInstitutionCall(
    const RpcDeps& deps, InstitutionQueues* queues,
    const grpc::CallbackServerContext& context, std::string_view method,
    const grpc::ByteBuffer& request, grpc::ByteBuffer* response,
    Handler handler) {
  class Call final : public InstitutionCall<Request, Response> {
   public:
    Call(const RpcDeps& deps, InstitutionQueues* queues,
         std::string_view method, const grpc::ByteBuffer& request,
         grpc::ByteBuffer* response, Handler handler)
        : InstitutionCall<Request, Response>(deps, queues, method, request,
                                             response),
          handler_(std::move(handler)) {}

   private:
    void Run() override {
      this->End(handler_(this->caller(), this->request(), this->response()));
    }
    Handler handler_;
  };
  auto* const call =
      new Call(deps, queues, method, request, response, std::move(handler));
  call->Start(context);
  return call;
}

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_INSTITUTION_CALL_H_

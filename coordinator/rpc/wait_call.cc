#include "coordinator/rpc/wait_call.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "coordinator/rpc/institution_call.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

// Where a call waits on the board; outlives the call, since the cancellation
// may come before the id is known.
struct Place {
  static void Take(Engine& engine, Place& place, uint64_t id) {
    bool cancelled = false;
    {
      MutexLock lock(&place.mu);
      place.id = id;
      cancelled = place.cancelled;
    }
    if (cancelled) engine.board().Drop(id);
  }
  static void Cancel(Engine& engine, Place& place) {
    uint64_t id = 0;
    {
      MutexLock lock(&place.mu);
      place.cancelled = true;
      id = place.id;
    }
    if (id != 0) engine.board().Drop(id);
  }

  Mutex mu;
  uint64_t id ABSL_GUARDED_BY(mu) = 0;
  bool cancelled ABSL_GUARDED_BY(mu) = false;
};

// Deleted by gRPC's OnDone, which comes after Finish; Finish comes exactly
// once, from the board's answer.
class WaitCall final : public grpc::ServerUnaryReactor {
 public:
  WaitCall(const RpcDeps& deps, grpc::ByteBuffer* response)
      : deps_(deps), response_(response) {}

  void Begin(grpc::CallbackServerContext* context,
             const grpc::ByteBuffer& bytes) {
    auto caller = AdmitInstitution(deps_, *context);
    if (!caller.ok()) {
      Finish(ToGrpc(caller.status()));
      return;
    }
    caller_ = *std::move(caller);
    // One waits; others are those whose end has not been noticed yet.
    const int64_t waits = ++caller_.peer->waits;
    if (waits > deps_.max_streams_per_institution) {
      Finish(ToGrpc(absl::ResourceExhaustedError(
          Cat(caller_.name(), " waits ", waits,
              " times at once, the limit is "
              "limits.max_streams_per_institution ",
              deps_.max_streams_per_institution))));
      return;
    }
    v1::WaitForWorkRequest request;
    if (const absl::Status parsed =
            ParseRequest(bytes, deps_.max_control_bytes, &request);
        !parsed.ok()) {
      Finish(ToGrpc(parsed));
      return;
    }
    Engine& engine = *deps_.engine;
    const uint64_t known = request.known_revision();
    const int64_t most =
        absl::ToInt64Milliseconds(engine.options().long_poll.get());
    const int64_t wanted = static_cast<int64_t>(std::min<uint64_t>(
        request.max_wait_millis(), static_cast<uint64_t>(most)));
    deps_.executor->Schedule([this, known, wanted] { Wait(known, wanted); });
  }

  void OnCancel() override { Place::Cancel(*deps_.engine, *place_); }

  void OnDone() override {
    if (caller_.peer != nullptr) --caller_.peer->waits;
    delete this;
  }

 private:
  void Wait(uint64_t known, int64_t wanted_millis) {
    Engine& engine = *deps_.engine;
    const Work work = engine.WorkFor(*caller_.peer);
    if (work.revision != known || wanted_millis == 0) {
      Answer(work);
      return;
    }
    if (static_cast<int64_t>(engine.board().size()) >= deps_.max_calls) {
      Finish(ToGrpc(absl::ResourceExhaustedError(
          Cat("limits.max_waiting_calls ", deps_.max_calls,
              " calls are waiting already; try again later"))));
      return;
    }
    const std::string name = caller_.name();
    const std::shared_ptr<PeerState> peer = caller_.peer;
    const std::shared_ptr<Place> place = place_;
    const uint64_t id = engine.board().Add(
        name, known, engine.Monotonic() + absl::Milliseconds(wanted_millis),
        [this](WorkBoard::Why) {
          // The board may call under the engine's lock.
          deps_.executor->Schedule(
              [this] { Answer(deps_.engine->WorkFor(*caller_.peer)); });
        });
    // Answered already, perhaps, and this object gone: only copies are used.
    Place::Take(engine, *place, id);
    // Work may have changed between looking and waiting.
    const uint64_t now = engine.WorkFor(*peer).revision;
    if (now != known) engine.board().Wake(name, now);
  }

  void Answer(const Work& work) {
    const absl::Status alive = caller_.Alive();
    if (alive.ok()) {
      v1::WaitForWorkResponse response;
      ToProto(work, deps_.engine->options(), &response);
      bool own_buffer = false;
      (void)grpc::SerializationTraits<v1::WaitForWorkResponse>::Serialize(
          response, response_, &own_buffer);
    }
    Finish(ToGrpc(alive));
  }

  const RpcDeps deps_;
  grpc::ByteBuffer* const response_;
  Caller caller_;
  const std::shared_ptr<Place> place_ = std::make_shared<Place>();
};

}  // namespace

void ToProto(const Work& work, const EngineOptions& options,
             v1::WaitForWorkResponse* out) {
  out->set_revision(work.revision);
  if (const auto* train = std::get_if<TrainWork>(&work.what)) {
    v1::TrainTask& task = *out->mutable_train();
    ToProto(train->context->statement, task.mutable_announcement());
    task.set_signature(train->context->signature.ToString());
    task.mutable_parameters()->insert(train->parameters.begin(),
                                      train->parameters.end());
    task.set_progress_period_millis(static_cast<uint64_t>(
        absl::ToInt64Milliseconds(options.progress_period.get())));
  } else if (const auto* evaluate = std::get_if<EvaluateWork>(&work.what)) {
    v1::EvaluateTask& task = *out->mutable_evaluate();
    task.set_round(static_cast<uint64_t>(evaluate->round));
    task.set_attempt(static_cast<uint32_t>(evaluate->attempt));
    ToProto(evaluate->candidate, task.mutable_candidate());
    task.set_signature(evaluate->signature.ToString());
    task.set_deadline(MicrosOf(evaluate->deadline));
  } else {
    const auto& idle = std::get<IdleWork>(work.what);
    v1::Idle& task = *out->mutable_idle();
    task.set_reason(idle.reason);
    if (idle.next_round_at.has_value()) {
      task.set_next_round_at(MicrosOf(*idle.next_round_at));
    }
    if (idle.current.has_value()) {
      ToProto(*idle.current, task.mutable_current());
    }
  }
}

grpc::ServerUnaryReactor* StartWait(const RpcDeps& deps,
                                    grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer& request,
                                    grpc::ByteBuffer* response) {
  auto* const call = new WaitCall(deps, response);
  call->Begin(context, request);
  return call;
}

}  // namespace consilium

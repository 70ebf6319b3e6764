#include "coordinator/rpc/upload_stream.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/buffer_pool.h"
#include "consilium/base/bytes.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "consilium/v1/federation.pb.h"
#include "coordinator/engine/upload_hub.h"
#include "coordinator/rpc/engine_proto.h"
#include "coordinator/rpc/upload_chunk.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

// Messages in one piece, while a thread works on them.
constexpr size_t kKeptBuffers = 4;

BufferPool& MessageBuffers() {
  static BufferPool* const pool =
      new BufferPool(kMaxUploadMessageBytes, kKeptBuffers);
  return *pool;
}

// Owned by itself until gRPC is done with it; the session may hold it longer.
//
// Threads: gRPC calls On*; the strand runs Process, in order; syncer and engine
// threads call the UploadSink side. mu_ guards what they share. gRPC allows one
// read, one write and one Finish at a time: reading_, writing_, finished_.
class UploadStream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public UploadSink,
      public std::enable_shared_from_this<UploadStream> {
 public:
  explicit UploadStream(const RpcDeps& deps)
      : deps_(deps), strand_(deps.ingest) {}

  void Begin(grpc::CallbackServerContext* context) {
    self_ = shared_from_this();
    context_ = context;
    auto caller = AdmitInstitution(deps_, *context);
    if (!caller.ok()) {
      End(caller.status());
      return;
    }
    caller_ = *std::move(caller);
    deps_.engine->uploads().Expect(self_);
    const int64_t streams = ++caller_.peer->streams;
    counted_ = true;
    if (streams > deps_.max_streams_per_institution) {
      End(absl::ResourceExhaustedError(
          Cat(caller_.name(), " has ", streams,
              " streams open, the limit is "
              "limits.max_streams_per_institution ",
              deps_.max_streams_per_institution)));
      return;
    }
    MutexLock lock(&mu_);
    ReadNext();
  }

  // --- gRPC -----------------------------------------------------------------
  void OnReadDone(bool ok) override {
    MutexLock lock(&mu_);
    reading_ = false;
    if (!ok) {
      read_end_ = true;
      MaybeFinish();
      return;
    }
    ++queued_;
    strand_.Schedule([self = shared_from_this()] { self->Process(); });
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) read_end_ = true;
    WriteNext();
    MaybeFinish();
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    cancelled_ = true;
    MaybeFinish();
  }

  void OnDone() override {
    // The strand may still hold a task; it keeps this alive by itself.
    strand_.Schedule([self = shared_from_this()] { self->Leave(); });
    self_.reset();
  }

  // --- UploadSink
  // -------------------------------------------------------------
  void OnDurable(uint64_t next_chunk) override {
    MutexLock lock(&mu_);
    durable_ = next_chunk;
    WriteNext();
    MaybeFinish();
  }
  void OnRefused(const Refused& refused) override {
    MutexLock lock(&mu_);
    if (refusal_.has_value() || failed_.has_value()) return;
    refusal_ = refused;
    WriteNext();
    MaybeFinish();
  }
  void OnBroken(const absl::Status& status) override {
    bool ending = false;
    {
      MutexLock lock(&mu_);
      ending = ending_;
    }
    End(status);
    MutexLock lock(&mu_);
    // It had its time; a peer that takes no answer would never let it end.
    if (ending && writing_ && !finished_) context_->TryCancel();
  }

 private:
  void End(const absl::Status& status) {
    MutexLock lock(&mu_);
    if (!failed_.has_value()) failed_ = status;
    MaybeFinish();
  }

  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reading_ || read_end_ || Over()) return;
    reading_ = true;
    StartRead(&message_);
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    v1::UploadReply reply;
    if (refusal_.has_value()) {
      if (refusal_sent_) return;
      refusal_sent_ = true;
      *reply.mutable_refusal() = ToProto(*refusal_);
    } else {
      if (durable_ <= acked_) return;
      acked_ = durable_;
      reply.set_next_chunk(acked_);
    }
    writing_ = true;
    reply_.Clear();
    bool own_buffer = false;
    (void)grpc::SerializationTraits<v1::UploadReply>::Serialize(reply, &reply_,
                                                                &own_buffer);
    StartWrite(&reply_);
  }

  bool Over() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return finished_ || cancelled_ || failed_.has_value() ||
           refusal_.has_value();
  }

  // Ends the call once nothing that must be said is left unsaid.
  void MaybeFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_) return;
    if (writing_) {
      // Its peer has so long to take the answer that is on its way.
      const bool over = failed_.has_value() || refusal_.has_value();
      if (over && !std::exchange(ending_, true)) {
        deps_.engine->uploads().Expect(shared_from_this());
      }
      return;
    }
    if (failed_.has_value()) {
      finished_ = true;
      Finish(ToGrpc(ForPeer(deps_, caller_.peer ? caller_.name() : "", "Upload",
                            *failed_)));
      return;
    }
    if (refusal_.has_value() && refusal_sent_) {
      finished_ = true;
      Finish(grpc::Status::OK);
      return;
    }
    // Half-closed by the sender: what was taken is still acknowledged.
    const bool no_more = read_end_ || (cancelled_ && !reading_);
    if (no_more && queued_ == 0 &&
        (cancelled_ || session_ == nullptr || acked_ >= appended_)) {
      finished_ = true;
      Finish(cancelled_ ? grpc::Status::CANCELLED : grpc::Status::OK);
    }
  }

  void Process() {
    const BufferPool::Buffer buffer = MessageBuffers().Get();
    const auto bytes = Gather(message_, buffer.bytes());
    message_.Clear();
    bool over = false;
    {
      // The next message comes in while this one is worked on.
      MutexLock lock(&mu_);
      over = Over();
      if (bytes.ok()) ReadNext();
    }
    if (!over) Take(bytes);
    MutexLock lock(&mu_);
    --queued_;
    MaybeFinish();
  }

  void Take(const absl::StatusOr<std::span<const std::byte>>& bytes) {
    if (!bytes.ok()) {
      End(bytes.status());
      return;
    }
    const auto parsed = ParseUploadChunk(*bytes);
    if (!parsed.ok()) {
      End(parsed.status());
      return;
    }
    const UploadChunkView& chunk = *parsed;
    UploadHub& hub = deps_.engine->uploads();
    std::shared_ptr<UploadSession> session;
    {
      MutexLock lock(&mu_);
      session = session_;
    }
    if (session == nullptr) {
      auto attached = hub.Attach(caller_, chunk.upload_id, shared_from_this());
      if (!attached.ok()) {
        End(attached.status());
        return;
      }
      session = *std::move(attached);
      MutexLock lock(&mu_);
      session_ = session;
      durable_ = std::max(durable_, session->durable_chunks());
      appended_ = durable_;
      // Nobody will say again what was durable before.
      WriteNext();
    } else if (!chunk.upload_id.empty() &&
               chunk.upload_id != AsChars(session->manifest().upload_id)) {
      End(absl::InvalidArgumentError(
          Cat("chunk ", chunk.index, " names upload ",
              HexEncode(AsBytes(chunk.upload_id.substr(0, kUploadIdBytes))),
              ", the stream began with ", session->manifest().IdHex(),
              "; one stream carries one upload")));
      return;
    }
    deps_.engine->Touch(*caller_.peer);
    auto refused = hub.Append(caller_, *session, chunk.index, chunk.data);
    if (!refused.ok()) {
      End(refused.status());
    } else if (refused->has_value()) {
      OnRefused(**refused);
    } else {
      MutexLock lock(&mu_);
      appended_ = std::max(appended_, chunk.index + 1);
    }
  }

  void Leave() {
    std::shared_ptr<UploadSession> session;
    std::string reason = "the stream ended";
    {
      MutexLock lock(&mu_);
      session = std::exchange(session_, nullptr);
      if (failed_.has_value()) reason = std::string(failed_->message());
    }
    deps_.engine->uploads().Unexpect(this);
    if (session != nullptr) {
      deps_.engine->uploads().Detach(*session, this, reason);
    }
    if (counted_) --caller_.peer->streams;
  }

  const RpcDeps deps_;
  Strand strand_;
  Caller caller_;
  bool counted_ = false;
  grpc::CallbackServerContext* context_ = nullptr;  // until OnDone
  std::shared_ptr<UploadStream> self_;
  grpc::ByteBuffer message_;  // gRPC's while it reads, then the strand's

  Mutex mu_;
  int queued_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool read_end_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool refusal_sent_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t durable_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t acked_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t appended_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<Refused> refusal_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> failed_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<UploadSession> session_ ABSL_GUARDED_BY(mu_);
  grpc::ByteBuffer reply_;
};

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartUpload(
    const RpcDeps& deps, grpc::CallbackServerContext* context) {
  const auto stream = std::make_shared<UploadStream>(deps);
  stream->Begin(context);
  return stream.get();
}

}  // namespace consilium

#include "coordinator/rpc/download_stream.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/buffer_pool.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/v1/federation.pb.h"
#include "coordinator/engine/upload_hub.h"
#include "coordinator/rpc/institution_call.h"
#include "coordinator/store/tables.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

constexpr int64_t kPieceBytes = int64_t{256} << 10;
// Buffers kept between pieces.
constexpr size_t kKeptBuffers = 8;

// Protobuf's wire format: tag = field << 3 | type, then a varint or a length
// and bytes (protobuf.dev/programming-guides/encoding).
constexpr char kTotalTag = 1 << 3 | 0;
constexpr char kOffsetTag = 2 << 3 | 0;
constexpr char kDataTag = 3 << 3 | 2;

void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// Straight to gRPC, which gives them back when they are sent.
BufferPool& PieceBuffers() {
  static BufferPool* const pool =
      new BufferPool(static_cast<size_t>(kPieceBytes), kKeptBuffers);
  return *pool;
}

grpc::Slice SliceOf(BufferPool::Buffer buffer, size_t size) {
  auto* const lent = new BufferPool::Buffer(std::move(buffer));
  return grpc::Slice(
      lent->bytes().data(), size,
      [](void* user) { delete static_cast<BufferPool::Buffer*>(user); }, lent);
}

// What is sent: a blob, or a text that is in memory anyway.
struct Content {
  std::unique_ptr<File> file;
  std::shared_ptr<const FederationLayout> layout;
  int64_t bytes = 0;
};

absl::StatusOr<Content> OpenContent(Engine& engine,
                                    const v1::DownloadRequest& request) {
  Content content;
  if (request.what_case() == v1::DownloadRequest::kLayoutDigest) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const Sha256Digest digest,
        DigestOf(request.layout_digest(), "layout_digest"));
    content.layout = engine.layout();
    if (content.layout == nullptr || content.layout->id != digest) {
      return absl::NotFoundError(
          Cat("layout ", digest.Hex(), " is not this federation's layout"));
    }
    content.bytes = static_cast<int64_t>(content.layout->text.size());
    return content;
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      const Sha256Digest digest,
      DigestOf(request.version_digest(), "version_digest"));
  std::optional<VersionRow> row;
  CONSILIUM_RETURN_IF_ERROR(
      engine.store().history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, FindVersionByDigest(tx, digest));
        return absl::OkStatus();
      }));
  if (!row.has_value()) {
    return absl::NotFoundError(Cat("there is no version ", digest.Hex()));
  }
  CONSILIUM_ASSIGN_OR_RETURN(content.file,
                             OpenVersionBlob(engine.store().blobs(), *row));
  content.bytes = row->blob_bytes;
  return content;
}

// Ends the call when its peer takes no piece of it for the idle timeout.
class Patience final : public UploadSink {
 public:
  explicit Patience(grpc::CallbackServerContext* context) : context_(context) {}
  void OnDurable(uint64_t) override {}
  void OnRefused(const Refused&) override {}
  void OnBroken(const absl::Status&) override {
    MutexLock lock(&mu_);
    if (context_ != nullptr) context_->TryCancel();
  }
  void CallIsOver() {
    MutexLock lock(&mu_);
    context_ = nullptr;
  }

 private:
  Mutex mu_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mu_);
};

class DownloadStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  DownloadStream(const RpcDeps& deps, grpc::CallbackServerContext* context)
      : deps_(deps), patience_(std::make_shared<Patience>(context)) {}

  void Begin(grpc::CallbackServerContext* context,
             const grpc::ByteBuffer& request) {
    auto admitted = AdmitMember(deps_, *context);
    if (!admitted.ok()) {
      Finish(ToGrpc(admitted.status()));
      return;
    }
    caller_ = *std::move(admitted);
    const std::string& name = caller_.name.name;
    if (caller_.name.role == PeerRole::kInstitution) {
      peer_ = deps_.engine->peers().Find(name);
      const int64_t streams = ++peer_->streams;
      if (streams > deps_.max_streams_per_institution) {
        Finish(ToGrpc(absl::ResourceExhaustedError(
            Cat(name, " has ", streams,
                " streams open, the limit is "
                "limits.max_streams_per_institution ",
                deps_.max_streams_per_institution))));
        return;
      }
    }
    if (const absl::Status parsed =
            ParseRequest(request, deps_.max_control_bytes, &request_);
        !parsed.ok()) {
      Finish(ToGrpc(parsed));
      return;
    }
    deps_.executor->Schedule([this] { Open(); });
  }

  void OnWriteDone(bool ok) override {
    deps_.engine->uploads().Unexpect(patience_.get());
    if (!ok) {
      Finish(
          grpc::Status(grpc::StatusCode::UNAVAILABLE, "the caller went away"));
      return;
    }
    deps_.ingest->Schedule([this] { Next(); });
  }
  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override {
    patience_->CallIsOver();
    if (peer_ != nullptr) --peer_->streams;
    delete this;
  }

 private:
  void Open() {
    auto content = OpenContent(*deps_.engine, request_);
    if (!content.ok()) {
      Finish(ToGrpc(ForCaller(content.status())));
      return;
    }
    content_ = *std::move(content);
    if (request_.offset() > static_cast<uint64_t>(content_.bytes)) {
      Finish(ToGrpc(absl::OutOfRangeError(Cat("offset ", request_.offset(),
                                              " is beyond the ", content_.bytes,
                                              " bytes of the file"))));
      return;
    }
    offset_ = static_cast<int64_t>(request_.offset());
    total_ = static_cast<uint64_t>(content_.bytes);
    Next();
  }

  // Staff reads what is wrong with the disk.
  absl::Status ForCaller(const absl::Status& status) const {
    if (caller_.name.role != PeerRole::kInstitution) return status;
    return ForPeer(deps_, caller_.name.name, "Download", status);
  }

  // The first message goes out even where there is nothing to send.
  void Next() {
    const bool over = total_ == 0 && offset_ == content_.bytes;
    const absl::Status status = over ? absl::OkStatus() : Fill();
    if (over || !status.ok()) {
      Finish(ToGrpc(ForCaller(status)));
      return;
    }
    deps_.engine->uploads().Expect(patience_);
    StartWrite(&chunk_);
  }

  absl::Status Fill() {
    if (cancelled_.load()) return absl::CancelledError("cancelled");
    CONSILIUM_RETURN_IF_ERROR(peer_ != nullptr
                                  ? Caller{peer_, caller_.serial}.Alive()
                                  : caller_.Alive(deps_));
    const size_t size =
        static_cast<size_t>(std::min(kPieceBytes, content_.bytes - offset_));
    BufferPool::Buffer buffer = PieceBuffers().Get();
    const std::span<std::byte> data = buffer.bytes().first(size);
    if (content_.layout != nullptr) {
      const auto text = AsBytes(content_.layout->text)
                            .subspan(static_cast<size_t>(offset_), size);
      std::copy(text.begin(), text.end(), data.begin());
    } else {
      CONSILIUM_RETURN_IF_ERROR(
          ReadExactlyAt(content_.file.get(), offset_, data));
    }
    const grpc::Slice slices[] = {
        grpc::Slice(
            DownloadChunkPrefix(total_, static_cast<uint64_t>(offset_), size)),
        SliceOf(std::move(buffer), size)};
    chunk_ = grpc::ByteBuffer(slices, 2);
    total_ = 0;
    offset_ += static_cast<int64_t>(size);
    deps_.engine->listener().OnTraffic(TrafficKind::kDownload,
                                       static_cast<int64_t>(size));
    return absl::OkStatus();
  }

  const RpcDeps deps_;
  const std::shared_ptr<Patience> patience_;
  v1::DownloadRequest request_;
  Staff caller_;
  std::shared_ptr<PeerState> peer_;  // null for staff
  Content content_;
  int64_t offset_ = 0;
  uint64_t total_ = 0;  // until it was said
  grpc::ByteBuffer chunk_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

std::string DownloadChunkPrefix(uint64_t total_bytes, uint64_t offset,
                                size_t data_bytes) {
  std::string prefix;
  if (total_bytes > 0) {
    prefix.push_back(kTotalTag);
    AppendVarint(total_bytes, prefix);
  }
  if (offset > 0) {
    prefix.push_back(kOffsetTag);
    AppendVarint(offset, prefix);
  }
  prefix.push_back(kDataTag);
  AppendVarint(data_bytes, prefix);
  return prefix;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartDownload(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    const grpc::ByteBuffer& request) {
  auto* const stream = new DownloadStream(deps, context);
  stream->Begin(context, request);
  return stream;
}

}  // namespace consilium

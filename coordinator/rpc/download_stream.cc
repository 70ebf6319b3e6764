#include "coordinator/rpc/download_stream.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

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
  if (row->pruned_at.has_value()) {
    return absl::NotFoundError(Cat("version ", row->number,
                                   " was deleted by "
                                   "storage.version_retention on ",
                                   FormatTime(*row->pruned_at)));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      content.file, engine.store().blobs().Open(digest, row->blob_bytes));
  content.bytes = row->blob_bytes;
  return content;
}

class DownloadStream final
    : public grpc::ServerWriteReactor<v1::DownloadChunk> {
 public:
  DownloadStream(const RpcDeps& deps, v1::DownloadRequest request)
      : deps_(deps), request_(std::move(request)) {}

  void Begin(grpc::CallbackServerContext* context) {
    auto admitted = AdmitMember(deps_, *context);
    if (!admitted.ok()) {
      Finish(ToGrpc(admitted.status()));
      return;
    }
    if (admitted->role == PeerRole::kInstitution) {
      peer_ = deps_.engine->peers().Find(admitted->name);
      ++peer_->streams;
    }
    deps_.executor->Schedule([this] { Open(); });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(
          grpc::Status(grpc::StatusCode::UNAVAILABLE, "the caller went away"));
      return;
    }
    deps_.ingest->Schedule([this] { Next(); });
  }
  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override {
    if (peer_ != nullptr) --peer_->streams;
    delete this;
  }

 private:
  void Open() {
    auto content = OpenContent(*deps_.engine, request_);
    if (!content.ok()) {
      Finish(ToGrpc(content.status()));
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
    chunk_.set_total_bytes(static_cast<uint64_t>(content_.bytes));
    first_ = true;
    Next();
  }

  void Next() {
    const absl::Status status = Fill();
    if (!status.ok() || (chunk_.data().empty() && !first_)) {
      Finish(ToGrpc(status));
      return;
    }
    if (first_) {
      first_ = false;
    } else {
      chunk_.clear_total_bytes();
    }
    StartWrite(&chunk_);
  }

  absl::Status Fill() {
    if (cancelled_.load()) return absl::CancelledError("cancelled");
    if (peer_ != nullptr) {
      CONSILIUM_RETURN_IF_ERROR((Caller{peer_, {}}.Alive()));
    }
    const size_t size =
        static_cast<size_t>(std::min(kPieceBytes, content_.bytes - offset_));
    std::string& data = *chunk_.mutable_data();
    if (data.size() != size) data.resize(size);
    chunk_.set_offset(static_cast<uint64_t>(offset_));
    if (content_.layout != nullptr) {
      data.assign(content_.layout->text, static_cast<size_t>(offset_), size);
    } else if (size > 0) {
      CONSILIUM_RETURN_IF_ERROR(
          ReadExactlyAt(content_.file.get(), offset_,
                        std::as_writable_bytes(std::span(data.data(), size))));
    }
    offset_ += static_cast<int64_t>(size);
    deps_.engine->listener().OnTraffic(TrafficKind::kDownload,
                                       static_cast<int64_t>(size));
    return absl::OkStatus();
  }

  const RpcDeps deps_;
  const v1::DownloadRequest request_;
  std::shared_ptr<PeerState> peer_;  // null for staff
  Content content_;
  int64_t offset_ = 0;
  bool first_ = false;
  v1::DownloadChunk chunk_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

grpc::ServerWriteReactor<v1::DownloadChunk>* StartDownload(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    const v1::DownloadRequest& request) {
  auto* const stream = new DownloadStream(deps, request);
  stream->Begin(context);
  return stream;
}

}  // namespace consilium

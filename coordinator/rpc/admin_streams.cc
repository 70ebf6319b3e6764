#include "coordinator/rpc/admin_streams.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/bytes.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/rpc/admin_queries.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

class WatchStream final : public grpc::ServerWriteReactor<v1::RoundInfo>,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(const RpcDeps& deps, uint64_t round, absl::Duration renew_before)
      : deps_(deps), round_(round), renew_before_(renew_before) {}

  void Begin(grpc::CallbackServerContext* context) {
    self_ = shared_from_this();
    auto staff = AdmitStaff(deps_, *context, /*reads=*/true);
    if (!staff.ok()) {
      Finish(ToGrpc(staff.status()));
      return;
    }
    staff_ = *std::move(staff);
    std::weak_ptr<WatchStream> weak = self_;
    watch_ = deps_.engine->Subscribe([weak](int64_t) {
      if (const auto self = weak.lock(); self != nullptr) self->Changed();
    });
    Changed();
  }

  void OnWriteDone(bool ok) override {
    bool again = false;
    {
      MutexLock lock(&mu_);
      busy_ = false;
      if (!ok) dirty_ = true;
      gone_ = gone_ || !ok;
      again = dirty_;
    }
    if (again) Schedule();
  }
  void OnCancel() override {
    {
      MutexLock lock(&mu_);
      gone_ = true;
      dirty_ = true;
    }
    Schedule();
  }
  void OnDone() override {
    if (watch_ != 0) deps_.engine->Unsubscribe(watch_);
    self_.reset();
  }

 private:
  // Called under the engine's lock: only marks and schedules.
  void Changed() {
    {
      MutexLock lock(&mu_);
      dirty_ = true;
    }
    Schedule();
  }

  void Schedule() {
    deps_.executor->Schedule([self = shared_from_this()] { self->Send(); });
  }

  void Send() {
    {
      MutexLock lock(&mu_);
      if (busy_ || finished_ || !dirty_) return;
      dirty_ = false;
      if (gone_) {
        finished_ = true;
        Finish(grpc::Status::CANCELLED);
        return;
      }
      if (deps_.engine->stopping()) {
        finished_ = true;
        Finish(ToGrpc(absl::UnavailableError(
            "the coordinator is shutting down; watch again later")));
        return;
      }
      busy_ = true;
    }
    message_.Clear();
    AdminQueries queries(&deps_.engine->store(), deps_.engine,
                         deps_.engine->Now(), renew_before_);
    absl::Status status = staff_.Alive(deps_);
    if (status.ok()) status = queries.Round(round_, false, &message_);
    if (round_ == 0 && absl::IsNotFound(status)) {
      message_.set_phase("none");
      message_.set_waiting_for("waiting for the first round");
    } else if (!status.ok()) {
      MutexLock lock(&mu_);
      finished_ = true;
      Finish(ToGrpc(status));
      return;
    }
    if (round_ != 0 && message_.terminal()) {
      MutexLock lock(&mu_);
      finished_ = true;
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    }
    StartWrite(&message_);
  }

  const RpcDeps deps_;
  const uint64_t round_;
  const absl::Duration renew_before_;
  Staff staff_;
  uint64_t watch_ = 0;
  std::shared_ptr<WatchStream> self_;
  v1::RoundInfo message_;
  Mutex mu_;
  bool dirty_ ABSL_GUARDED_BY(mu_) = false;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class ImportStream final
    : public grpc::ServerReadReactor<v1::ImportVersionChunk> {
 public:
  ImportStream(const RpcDeps& deps, v1::VersionInfo* response,
               absl::Duration renew_before, JobLimit* jobs)
      : deps_(deps),
        response_(response),
        renew_before_(renew_before),
        jobs_(*jobs) {}

  void Begin(grpc::CallbackServerContext* context) {
    auto staff = AdmitStaff(deps_, *context, /*reads=*/false);
    if (!staff.ok()) {
      Finish(ToGrpc(staff.status()));
      return;
    }
    auto job = jobs_.Begin("version import");
    if (!job.ok()) {
      Finish(ToGrpc(job.status()));
      return;
    }
    job_.emplace(*std::move(job));
    staff_ = *std::move(staff);
    StartRead(&chunk_);
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      deps_.ingest->Schedule([this] {
        const absl::Status status = Take();
        if (!status.ok()) {
          End(status);
          return;
        }
        StartRead(&chunk_);
      });
      return;
    }
    deps_.executor->Schedule([this] { End(Import()); });
  }
  void OnDone() override { delete this; }

 private:
  // Whoever hears of the end finds file and slot free.
  void End(const absl::Status& status) {
    writer_.reset();
    job_.reset();
    Finish(ToGrpc(ForStaff(status)));
  }

  absl::Status Take() {
    CONSILIUM_RETURN_IF_ERROR(staff_.Alive(deps_));
    CONSILIUM_RETURN_IF_ERROR(TakeLayout());
    if (!writer_.has_value()) {
      CONSILIUM_RETURN_IF_ERROR(CheckReason(chunk_.reason()));
      reason_ = chunk_.reason();
      CONSILIUM_ASSIGN_OR_RETURN(digest_, DigestOf(chunk_.sha256(), "sha256"));
      const int64_t limit = deps_.engine->options().max_update_bytes;
      if (chunk_.total_bytes() == 0) {
        return absl::InvalidArgumentError("total_bytes is 0");
      }
      if (chunk_.total_bytes() > static_cast<uint64_t>(limit)) {
        return absl::ResourceExhaustedError(
            Cat("a version of ", FormatBytes(chunk_.total_bytes()),
                " exceeds storage.max_update_bytes ",
                FormatBytes(static_cast<uint64_t>(limit))));
      }
      total_ = static_cast<int64_t>(chunk_.total_bytes());
      Store& store = deps_.engine->store();
      // Held until the file has its size.
      CONSILIUM_ASSIGN_OR_RETURN(
          const SpaceReservation space,
          store.space().Reserve(total_, "the imported version",
                                SpaceUse::kVersion));
      CONSILIUM_ASSIGN_OR_RETURN(BlobWriter writer,
                                 store.blobs().NewWriter(total_));
      writer_.emplace(std::move(writer));
      hasher_ = NewSha256Hasher();
    }
    const std::span<const std::byte> data = AsBytes(chunk_.data());
    if (offset_ + static_cast<int64_t>(data.size()) > total_) {
      return absl::InvalidArgumentError(
          Cat("more than the declared ", total_, " bytes"));
    }
    CONSILIUM_RETURN_IF_ERROR(writer_->file()->WriteAt(offset_, data));
    hasher_->Update(data);
    offset_ += static_cast<int64_t>(data.size());
    return absl::OkStatus();
  }

  absl::Status TakeLayout() {
    const std::string& piece = chunk_.layout_text();
    if (piece.empty()) return absl::OkStatus();
    if (offset_ > 0) {
      return absl::InvalidArgumentError(
          Cat("layout_text comes after ", offset_, " bytes of data"));
    }
    const int64_t limit = deps_.engine->options().layout.max_text_bytes;
    if (static_cast<int64_t>(layout_text_.size() + piece.size()) > limit) {
      return absl::ResourceExhaustedError(
          Cat("the layout has more than limits.max_layout_bytes ", limit));
    }
    layout_text_ += piece;
    return absl::OkStatus();
  }

  absl::Status Import() {
    CONSILIUM_RETURN_IF_ERROR(staff_.Alive(deps_));
    if (!writer_.has_value() || offset_ != total_) {
      return absl::InvalidArgumentError(
          Cat("the import ended after ", offset_, " of ", total_, " bytes"));
    }
    const Sha256Digest digest = hasher_->Finish();
    if (digest != digest_) {
      return absl::DataLossError(Cat("the file has digest ", digest.Hex(),
                                     ", declared was ", digest_.Hex()));
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        const VersionRow row,
        deps_.engine->ImportVersion(staff_.name.Uri(), layout_text_,
                                    *std::move(writer_), digest, total_,
                                    reason_));
    AdminQueries queries(&deps_.engine->store(), deps_.engine,
                         deps_.engine->Now(), renew_before_);
    return queries.Version(static_cast<uint64_t>(row.number), response_);
  }

  const RpcDeps deps_;
  v1::VersionInfo* const response_;
  const absl::Duration renew_before_;
  JobLimit& jobs_;
  std::optional<JobLimit::Slot> job_;
  Staff staff_;
  v1::ImportVersionChunk chunk_;
  std::string layout_text_;
  std::string reason_;
  Sha256Digest digest_;
  int64_t total_ = 0;
  int64_t offset_ = 0;
  std::optional<BlobWriter> writer_;
  std::unique_ptr<Hasher> hasher_;
};

}  // namespace

grpc::ServerWriteReactor<v1::RoundInfo>* StartWatch(
    const RpcDeps& deps, grpc::CallbackServerContext* context, uint64_t round,
    absl::Duration renew_before) {
  const auto stream = std::make_shared<WatchStream>(deps, round, renew_before);
  stream->Begin(context);
  return stream.get();
}

grpc::ServerReadReactor<v1::ImportVersionChunk>* StartImport(
    const RpcDeps& deps, grpc::CallbackServerContext* context,
    v1::VersionInfo* response, absl::Duration renew_before, JobLimit* jobs) {
  auto* const stream = new ImportStream(deps, response, renew_before, jobs);
  stream->Begin(context);
  return stream;
}

}  // namespace consilium

#include "tests/unit/client_sdk/session/fake_transport.h"

#include <algorithm>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {

template <typename T, typename Effect>
absl::StatusOr<T> FakeTransport::Unary(const char* what,
                                       const CallContext& context,
                                       const Effect& effect) {
  if (context.cancel.cancelled()) return context.cancel.status();
  MutexLock lock(&far_->mutex_);
  const Fault fault = far_->NextStep(what);
  if (fault == Fault::kRequestLost) {
    return absl::UnavailableError("connection refused");
  }
  if (const auto it = far_->answers_.find(what); it != far_->answers_.end()) {
    return it->second;
  }
  absl::StatusOr<T> result = effect();
  if (fault != Fault::kNone) return absl::UnavailableError("connection reset");
  return result;
}

absl::StatusOr<Greeting> FakeTransport::Hello(const HelloCall&,
                                              const CallContext& context) {
  return Unary<Greeting>(
      "Hello", context, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
        Greeting greeting;
        greeting.protocol = 1;
        greeting.federation = "cards";
        greeting.institution = "bank-a";
        if (!far_->layout_hidden_) {
          greeting.layout_digest = far_->layout_digest_;
          greeting.layout_bytes = far_->objects_[far_->layout_digest_].size();
        }
        greeting.max_update_bytes = 64 << 20;
        greeting.max_chunk_bytes = far_->max_chunk_;
        greeting.upload_window_bytes = far_->window_;
        greeting.long_poll = absl::Seconds(60);
        greeting.certificate_not_after = far_->clock_->Now() + absl::Hours(1);
        greeting.renew_after = far_->clock_->Now() + absl::Minutes(30);
        return greeting;
      });
}

absl::StatusOr<std::string> FakeTransport::RenewCertificate(
    const std::string&, const CallContext& context) {
  return Unary<std::string>("RenewCertificate", context,
                            [] { return std::string("not needed here"); });
}

absl::StatusOr<WorkReply> FakeTransport::WaitForWork(
    uint64_t known_revision, absl::Duration max_wait,
    const CallContext& context) {
  auto reply = Unary<WorkReply>(
      "WaitForWork", context,
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
        WorkReply reply;
        reply.revision = far_->revision_;
        const auto it = far_->rounds_.find(far_->current_round_);
        if (far_->evaluation_.has_value()) {
          reply.work = *far_->evaluation_;
        } else if (it != far_->rounds_.end() &&
                   !it->second.receipt.has_value()) {
          TrainOffer offer = it->second.offer;
          if (far_->edit_) far_->edit_(offer);
          reply.work = std::move(offer);
        } else {
          // As a real one: holds the call while nothing is new. With a
          // contribution it answers at once, as one in a hurry.
          if (known_revision == far_->revision_ && it == far_->rounds_.end()) {
            far_->clock_->Advance(max_wait);
          }
          Idle idle;
          idle.reason = it == far_->rounds_.end()
                            ? "no round is open"
                            : "the round has this contribution";
          reply.work = std::move(idle);
        }
        return reply;
      });
  if (reply.ok() && std::holds_alternative<Idle>(reply->work) &&
      far_->on_idle_) {
    far_->on_idle_();
  }
  return reply;
}

absl::StatusOr<ProgressReply> FakeTransport::ReportProgress(
    const RoundRef&, double, std::string_view, const CallContext& context) {
  auto reply = Unary<ProgressReply>("ReportProgress", context, [&] {
    ProgressReply reply;
    reply.go_on = false;
    reply.reason = "the deadline has passed";
    return reply;
  });
  if (far_->on_progress_) far_->on_progress_();
  return reply;
}

absl::StatusOr<std::optional<Refused>> FakeTransport::Decline(
    const RoundRef&, std::string_view reason, bool evaluation,
    const CallContext& context) {
  auto reply = Unary<std::optional<Refused>>(
      evaluation ? "Decline evaluation" : "Decline", context,
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
        far_->log_.push_back(std::string(reason));
        return std::optional<Refused>();
      });
  if (far_->on_decline_) far_->on_decline_();
  return reply;
}

absl::StatusOr<BeginOutcome> FakeTransport::BeginUpload(
    const Manifest& manifest, const CallContext& context) {
  auto reply =
      Unary<BeginOutcome>("BeginUpload", context,
                          [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
                            return far_->BeginLocked(manifest);
                          });
  if (far_->on_begin_) far_->on_begin_();
  return reply;
}

absl::StatusOr<CommitOutcome> FakeTransport::CommitUpload(
    const std::string& upload_id, const Sha256Digest& payload_digest,
    const CallContext& context) {
  auto reply = Unary<CommitOutcome>(
      "CommitUpload", context,
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
        return far_->CommitLocked(upload_id, payload_digest);
      });
  if (far_->on_commit_) far_->on_commit_();
  return reply;
}

absl::StatusOr<std::optional<Refused>> FakeTransport::ReportEvaluation(
    const EvaluateTask&, uint64_t examples,
    const std::map<std::string, double>& metrics, const CallContext& context) {
  return Unary<std::optional<Refused>>(
      "ReportEvaluation", context,
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(far_->mutex_) {
        far_->log_.push_back(
            Cat(examples, " examples, ", metrics.size(), " metrics"));
        far_->evaluation_.reset();
        return std::optional<Refused>();
      });
}

std::unique_ptr<UploadStream> FakeTransport::OpenUpload(
    const std::string& upload_id) {
  return std::make_unique<FakeStream>(far_, upload_id);
}

absl::Status FakeTransport::Download(const DownloadCall& call,
                                     const DownloadSink& sink,
                                     const CallContext& context) {
  if (context.cancel.cancelled()) return context.cancel.status();
  std::string bytes;
  size_t cut = std::string::npos;
  {
    MutexLock lock(&far_->mutex_);
    if (far_->NextStep("Download") != Fault::kNone) {
      return absl::UnavailableError("connection refused");
    }
    const auto it = far_->objects_.find(call.digest);
    if (it == far_->objects_.end()) {
      return absl::NotFoundError("no such version");
    }
    bytes = it->second;
    if (!far_->cuts_.empty()) {
      cut = far_->cuts_.front();
      far_->cuts_.pop_front();
    }
  }
  constexpr size_t kPiece = 1000;
  for (size_t at = call.offset; at < bytes.size();) {
    const size_t n = std::min(kPiece, bytes.size() - at);
    if (cut < n) return absl::UnavailableError("connection reset");
    if (cut != std::string::npos) cut -= n;
    const absl::Status status =
        sink(bytes.size(), at, AsBytes(std::string_view(bytes).substr(at, n)));
    if (!status.ok()) return status;
    far_->downloaded_ += n;
    at += n;
  }
  return absl::OkStatus();
}

FakeStream::FakeStream(FakeCoordinator* far, std::string upload_id)
    : far_(far), upload_id_(std::move(upload_id)) {
  MutexLock lock(&far_->mutex_);
  epoch_ = far_->epoch_;
}

FakeStream::Upload* FakeStream::Find() {
  for (auto& [id, round] : far_->rounds_) {
    if (round.live.has_value() &&
        round.live->manifest.upload_id == upload_id_) {
      return &*round.live;
    }
  }
  return nullptr;
}

void FakeStream::End(absl::Status status) {
  if (ended_) return;
  ended_ = true;
  status_ = std::move(status);
  far_->wake_.SignalAll();
}

bool FakeStream::Cut() const { return ended_ || epoch_ != far_->epoch_; }

void FakeStream::Ack() {
  Upload* upload = Find();
  if (upload == nullptr || far_->mute_) return;
  upload->durable = upload->chunks.size();
  replies_.push_back(uint64_t{upload->durable});
  far_->wake_.SignalAll();
}

bool FakeStream::Write(uint64_t index, ChunkBytes chunk) {
  MutexLock lock(&far_->mutex_);
  if (Cut()) return false;
  const Fault fault = far_->NextStep(Cat("chunk ", index));
  if (fault == Fault::kRequestLost) {
    End(absl::UnavailableError("connection reset"));
    return false;
  }
  Upload* upload = Find();
  if (upload == nullptr || index != upload->chunks.size()) {
    End(absl::FailedPreconditionError("not the next chunk"));
    return false;
  }
  std::string bytes(AsChars(chunk.bytes()));
  if (upload->manifest.wrapped_key.has_value()) {
    far_->seen_[{upload->manifest.wrapped_key->Serialize(), index}].insert(
        bytes);
  }
  upload->chunks.push_back(std::move(bytes));
  uint64_t in_flight = 0;
  for (size_t i = upload->durable; i < upload->chunks.size(); ++i) {
    in_flight += upload->chunks[i].size();
  }
  far_->max_in_flight_ = std::max(far_->max_in_flight_, in_flight);
  if (fault == Fault::kRestart) upload->chunks.resize(upload->durable);
  if (fault != Fault::kNone) {
    End(absl::UnavailableError("connection reset"));
    return false;
  }
  ++taken_;
  if (far_->refuse_in_stream_.has_value() &&
      taken_ == far_->refuse_in_stream_->first) {
    replies_.push_back(far_->refuse_in_stream_->second);
    End(absl::OkStatus());
    return true;
  }
  if (taken_ % far_->ack_every_ == 0) Ack();
  return true;
}

void FakeStream::Done() {
  MutexLock lock(&far_->mutex_);
  if (Cut()) return;
  Ack();
  if (!far_->mute_) End(absl::OkStatus());
}

absl::StatusOr<std::optional<UploadReply>> FakeStream::Read() {
  MutexLock lock(&far_->mutex_);
  while (replies_.empty() && !Cut()) far_->wake_.Wait(&far_->mutex_);
  if (replies_.empty()) return std::optional<UploadReply>();
  std::optional<UploadReply> reply = std::move(replies_.front());
  replies_.pop_front();
  return reply;
}

absl::Status FakeStream::Finish() {
  MutexLock lock(&far_->mutex_);
  return ended_ ? status_ : absl::UnavailableError("the coordinator restarts");
}

void FakeStream::Cancel() {
  MutexLock lock(&far_->mutex_);
  End(absl::CancelledError("cancelled"));
}

}  // namespace consilium::client::internal

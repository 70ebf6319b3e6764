#include "coordinator/engine/upload_resumption.h"

#include <utility>

#include "consilium/base/buffer_pool.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"

namespace consilium {

absl::Status UploadResumption::CheckRecord(uint64_t index,
                                           std::span<const std::byte> body,
                                           std::span<std::byte> plain) {
  if (index >= source_.keep) {
    return absl::DataLossError("was never acknowledged");
  }
  UploadSession& s = *session_;
  MutexLock work(&s.work_mu_);
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> frame,
                             s.OpenChunk(index, body, plain));
  // A chunk that fails a check stays: its sender was told that it is
  // quarantined, and Finish says so again.
  s.Consume(frame).IgnoreError();
  s.received_bytes_ += static_cast<int64_t>(body.size());
  return absl::OkStatus();
}

absl::StatusOr<bool> UploadResumption::Read(int64_t max_bytes) {
  const BufferPool::Buffer plain = UploadSession::PlainBuffers().Get();
  CONSILIUM_ASSIGN_OR_RETURN(
      const bool all,
      spool_->Read(
          [&](uint64_t index, uint32_t, std::span<const std::byte> body) {
            return CheckRecord(index, body, plain.bytes());
          },
          max_bytes));
  if (!all) return false;
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<SpoolWriter> writer,
                             spool_->Finish(session_->MakeDurableFn()));
  spool_.reset();
  session_->Take(std::move(writer));
  return true;
}

absl::Status UploadResumption::BeginAnew() {
  spool_.reset();
  CONSILIUM_RETURN_IF_ERROR(spools_->Remove(source_.path));
  {
    MutexLock lock(&session_->mu_);
    source_.space = std::move(session_->space_);
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      session_,
      UploadSession::Create(source_.context, source_.peer, source_.manifest,
                            std::move(source_.space), *spools_));
  return absl::OkStatus();
}

absl::StatusOr<bool> UploadResumption::Step(int64_t max_bytes) {
  absl::StatusOr<bool> done = false;
  if (spool_ == nullptr) {
    session_.reset(new UploadSession(source_.context, source_.peer,
                                     source_.manifest,
                                     std::move(source_.space)));
    CONSILIUM_RETURN_IF_ERROR(session_->Prepare());
    auto opened = spools_->OpenToResume(source_.path);
    if (opened.ok()) {
      spool_ = *std::move(opened);
    } else {
      done = opened.status();
    }
  }
  if (done.ok()) done = Read(max_bytes);
  // A disk that cannot read has not lost anything yet.
  const bool lost =
      absl::IsNotFound(done.status()) ||
      (absl::IsDataLoss(done.status()) && !IsLocalError(done.status()));
  if (!lost) return done;
  CONSILIUM_RETURN_IF_ERROR(BeginAnew());
  return true;
}

}  // namespace consilium

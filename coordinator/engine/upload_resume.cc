// Uploads that are read again from their spools: after a restart, a failed
// sync, or a long silence. A piece at a time, so that chunks of others come in
// between, and no further than somebody waits for it.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/upload_hub.h"

namespace consilium {
namespace {

// A few milliseconds of work.
constexpr int64_t kPieceBytes = int64_t{8} << 20;

absl::StatusOr<BeginOutcome> Failed(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return status;
  return BeginOutcome(Refused{
      RefusalCode::kNoSpace, std::string(status.message()), absl::Seconds(60)});
}

const absl::Status& Gone() {
  static const auto* const status = new absl::Status(
      absl::CancelledError("the caller of BeginUpload went away"));
  return *status;
}

}  // namespace

UploadHub::BeginAnswer UploadHub::ReadAgain(
    const Caller& caller, const UploadManifest& manifest,
    std::shared_ptr<const RoundContext> context, const std::string& path,
    uint64_t keep, const std::shared_ptr<BeginWaiter>& waiter) {
  const std::string id = manifest.IdHex();
  {
    MutexLock lock(&mu_);
    for (const ResumePtr& resume : resumes_) {
      if (resume->id != id) continue;
      if (resume->closed.has_value()) {
        return BeginOutcome(Refused{
            RefusalCode::kBusy,
            Cat("upload ", id, " is being closed: ", resume->closed->message),
            absl::Seconds(1)});
      }
      if (waiter->gone()) return Gone();
      resume->waiters.push_back(waiter);
      StartResumes();
      return std::nullopt;
    }
  }
  // What is there already needs no more room.
  const auto info = store_->fs()->Stat(JoinPath(store_->data_dir(), path));
  CONSILIUM_ASSIGN_OR_RETURN(
      auto promised,
      Promise(manifest, caller.name(), info.ok() ? info->size : 0));
  if (auto* refused = std::get_if<Refused>(&promised)) {
    return BeginOutcome(std::move(*refused));
  }
  auto resume = std::make_shared<Resume>();
  resume->caller = caller;
  resume->round = manifest.round;
  resume->id = id;
  resume->work = std::make_unique<UploadResumption>(
      UploadResumption::Source{std::move(context), caller.peer, manifest,
                               std::get<SpaceReservation>(std::move(promised)),
                               path, keep},
      &store_->spools());
  MutexLock lock(&mu_);
  if (auto refused = CheckSlots(); refused.has_value()) {
    return BeginOutcome(*std::move(refused));
  }
  if (waiter->gone()) return Gone();
  resume->waiters.push_back(waiter);
  resumes_.push_back(std::move(resume));
  StartResumes();
  return std::nullopt;
}

void UploadHub::StartResumes() {
  for (const ResumePtr& resume : resumes_) {
    if (running_ >= options_.max_resumes) return;
    if (resume->running || resume->waiters.empty()) continue;
    resume->running = true;
    ++running_;
    ingest_->Schedule([this, resume] { RunPiece(resume); });
  }
}

void UploadHub::RunPiece(const ResumePtr& resume) {
  absl::StatusOr<bool> done = resume->work->Step(kPieceBytes);
  std::shared_ptr<UploadSession> session;
  if (done.ok() && *done) {
    session = resume->work->session();
    session->NoteActivity(clock_->Monotonic());
    if (const absl::Status rest = session->ReserveRest(store_->space());
        !rest.ok()) {
      done = rest;
    }
  }
  Told told;
  int64_t uploads = 0;
  {
    MutexLock lock(&mu_);
    if (!resume->closed.has_value() && done.ok() && !*done) {
      if (!resume->waiters.empty()) {
        ingest_->Schedule([this, resume] { RunPiece(resume); });
        return;
      }
      resume->running = false;
      --running_;
      StartResumes();
      return;
    }
    --running_;
    resumes_.remove(resume);
    told.waiters = std::move(resume->waiters);
    if (resume->closed.has_value()) {
      told.outcome = BeginOutcome(*resume->closed);
    } else if (!done.ok()) {
      told.outcome = Failed(done.status());
    } else {
      sessions_[resume->id] = session;
      told.outcome = BeginOutcome(
          UploadAccepted{std::string(AsChars(session->manifest().upload_id)),
                         session->durable_chunks()});
    }
    StartResumes();
    uploads = static_cast<int64_t>(sessions_.size());
  }
  listener_->OnUploadsInProgress(uploads);
  resume->work.reset();
  if (!resume->remove.empty()) {
    session.reset();
    store_->spools().Remove(resume->remove).IgnoreError();
  }
  const bool waited = !told.waiters.empty();
  if (session != nullptr && done.ok() && !resume->closed.has_value() &&
      waited) {
    host_->UploadResumed(resume->caller, resume->round);
  }
  std::vector<Told> all;
  all.push_back(std::move(told));
  Tell(std::move(all));
}

void UploadHub::AbandonBegin(const BeginWaiter* waiter) {
  std::vector<Told> told;
  {
    MutexLock lock(&mu_);
    for (const ResumePtr& resume : resumes_) {
      auto& waiters = resume->waiters;
      const auto at = std::find_if(
          waiters.begin(), waiters.end(),
          [&](const auto& other) { return other.get() == waiter; });
      if (at == waiters.end()) continue;
      told.push_back({{std::move(*at)}, Gone(), nullptr});
      waiters.erase(at);
      resume->left_at = clock_->Monotonic();
    }
  }
  Tell(std::move(told));
}

void UploadHub::Tell(std::vector<Told> all) {
  for (Told& told : all) {
    for (const auto& waiter : told.waiters) waiter->OnBegun(told.outcome);
  }
}

}  // namespace consilium

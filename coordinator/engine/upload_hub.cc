#include "coordinator/engine/upload_hub.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

bool Counts(const ContributionRow& row) {
  return row.state == ContributionState::kCommitted ||
         row.state == ContributionState::kFolded;
}

}  // namespace

UploadHub::AdmissionLock UploadHub::LockFor(const std::string& institution) {
  MutexLock lock(&mu_);
  AdmissionLock& entry = admission_[institution];
  if (entry == nullptr) entry = std::make_shared<Mutex>();
  return entry;
}

std::shared_ptr<UploadSession> UploadHub::FindSession(
    std::string_view id_hex) const {
  MutexLock lock(&mu_);
  const auto it = sessions_.find(id_hex);
  return it == sessions_.end() ? nullptr : it->second;
}

void UploadHub::Forget(std::string_view id_hex) {
  std::shared_ptr<UploadSession> gone;  // closes its spool outside the lock
  int64_t left = 0;
  {
    MutexLock lock(&mu_);
    const auto it = sessions_.find(id_hex);
    if (it == sessions_.end()) return;
    gone = std::move(it->second);
    sessions_.erase(it);
    left = static_cast<int64_t>(sessions_.size());
  }
  listener_->OnUploadsInProgress(left);
}

void UploadHub::Expect(const std::shared_ptr<UploadSink>& sink) {
  const absl::Duration now = clock_->Monotonic();
  MutexLock lock(&mu_);
  expected_[sink.get()] = {sink, now};
}

void UploadHub::Unexpect(const UploadSink* sink) {
  MutexLock lock(&mu_);
  expected_.erase(sink);
}

absl::StatusOr<std::shared_ptr<UploadSession>> UploadHub::Attach(
    const Caller& caller, std::string_view upload_id,
    std::shared_ptr<UploadSink> sink) {
  if (!upload_id.empty() && upload_id.size() != kUploadIdBytes) {
    return absl::InvalidArgumentError(Cat("upload_id has ", upload_id.size(),
                                          " bytes, must have ",
                                          kUploadIdBytes));
  }
  const std::string id = HexEncode(AsBytes(upload_id));
  const absl::Status closed = absl::NotFoundError(
      Cat("upload ", Quoted(id), " is not open; call BeginUpload first"));
  std::shared_ptr<UploadSession> session = FindSession(id);
  if (session == nullptr) return closed;
  if (session->institution_id() != caller.id()) {
    return absl::PermissionDeniedError(
        Cat("upload ", id, " belongs to another institution"));
  }
  const UploadSink* const key = sink.get();
  session->NoteActivity(clock_->Monotonic());
  session->Attach(std::move(sink));
  // Whoever closes it for want of a stream either sees this one, or is seen.
  if (FindSession(id) != session) {
    session->Detach(key);
    return closed;
  }
  Unexpect(key);
  return session;
}

absl::StatusOr<std::optional<Refused>> UploadHub::Append(
    const Caller& caller, UploadSession& session, uint64_t index,
    std::span<const std::byte> data) {
  CONSILIUM_ASSIGN_OR_RETURN(std::optional<Refused> refused,
                             session.Append(index, data));
  session.NoteActivity(clock_->Monotonic());
  listener_->OnTraffic(TrafficKind::kUpload, static_cast<int64_t>(data.size()));
  if (refused.has_value() && refused->code == RefusalCode::kQuarantined) {
    CONSILIUM_RETURN_IF_ERROR(Quarantine(caller, session, *refused));
  }
  return refused;
}

absl::Status UploadHub::Quarantine(const Caller& caller, UploadSession& session,
                                   const Refused& refused) {
  const UploadManifest& manifest = session.manifest();
  // Forgotten first, so that its stream hears this refusal and not that the
  // round cut it; stored before anybody is told.
  Forget(manifest.IdHex());
  CONSILIUM_RETURN_IF_ERROR(host_->QuarantineUpload(
      caller, manifest.round, manifest.IdHex(), refused.message));
  session.Close(refused);
  return absl::OkStatus();
}

void UploadHub::Detach(UploadSession& session, const UploadSink* sink,
                       const std::string& reason) {
  if (!session.Detach(sink)) return;
  session.NoteActivity(clock_->Monotonic());
  ReportLost(session, reason);
}

void UploadHub::ReportLost(const UploadSession& session,
                           const std::string& reason) {
  const uint64_t total = static_cast<uint64_t>(session.manifest().chunk_count);
  if (session.durable_chunks() < total) {
    host_->UploadLost(Caller{session.peer(), {}}, session.manifest().round,
                      reason);
  }
}

absl::StatusOr<CommitOutcome> UploadHub::CommitUpload(
    const Caller& caller, std::string_view upload_id,
    const Sha256Digest& digest) {
  const AdmissionLock admission = LockFor(caller.name());
  MutexLock lock(admission.get());
  const std::string id = HexEncode(AsBytes(upload_id));
  std::optional<ContributionRow> row;
  CONSILIUM_RETURN_IF_ERROR(
      store_->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, FindContribution(tx, id));
        return absl::OkStatus();
      }));
  if (!row.has_value()) {
    return absl::NotFoundError(
        Cat("upload ", Quoted(id), " is not known; call BeginUpload first"));
  }
  if (row->institution_id != caller.id()) {
    return absl::PermissionDeniedError(
        Cat("upload ", id, " belongs to another institution"));
  }
  if (Counts(*row)) {
    CONSILIUM_ASSIGN_OR_RETURN(SignedReceipt receipt,
                               SignedReceipt::Decode(row->receipt));
    return CommitOutcome(std::move(receipt));
  }
  if (row->state == ContributionState::kQuarantined) {
    return CommitOutcome(Refused{RefusalCode::kQuarantined, row->reason});
  }
  if (row->state != ContributionState::kUploading) {
    return CommitOutcome(Refused{
        row->state == ContributionState::kSuperseded ? RefusalCode::kSuperseded
                                                     : RefusalCode::kLate,
        row->reason.empty() ? Cat("upload ", id, " is ", ToString(row->state))
                            : row->reason});
  }
  std::shared_ptr<UploadSession> session = FindSession(id);
  if (session == nullptr) {
    return absl::FailedPreconditionError(
        Cat("upload ", id,
            " is not open: the coordinator restarted, or no stream served it "
            "for limits.upload_slot_timeout ",
            FormatDuration(options_.slot_timeout.get()),
            "; call BeginUpload to resume it, then commit"));
  }
  absl::StatusOr<UploadResult> result = session->Finish();
  if (const absl::Status disk = session->health(); !disk.ok()) {
    // Our disk failed, not the upload.
    if (absl::IsResourceExhausted(disk)) {
      return CommitOutcome(Refused{RefusalCode::kNoSpace,
                                   std::string(disk.message()),
                                   absl::Seconds(30)});
    }
    return Annotate(absl::UnavailableError(disk.message()),
                    "call BeginUpload to resume");
  }
  if (absl::IsFailedPrecondition(result.status()) ||
      IsLocalError(result.status())) {
    return result.status();
  }
  if (result.ok() && digest != result->payload_digest) {
    result = absl::DataLossError(Cat("CommitUpload names digest ", digest.Hex(),
                                     ", the payload has ",
                                     result->payload_digest.Hex()));
  }
  if (!result.ok()) {
    const bool mismatch = absl::IsDataLoss(result.status());
    const Refused refused{
        mismatch ? RefusalCode::kDigestMismatch : RefusalCode::kQuarantined,
        std::string(result.status().message())};
    CONSILIUM_RETURN_IF_ERROR(Quarantine(caller, *session, refused));
    return CommitOutcome(refused);
  }
  CONSILIUM_ASSIGN_OR_RETURN(CommitOutcome outcome,
                             host_->CommitContribution(caller, *row, *result));
  Forget(id);
  return outcome;
}

void UploadHub::CloseUploads(int64_t round,
                             const std::vector<std::string>& institutions,
                             const Refused& refused) {
  const auto named = [&](int64_t of, std::string_view name) {
    return of == round && std::find(institutions.begin(), institutions.end(),
                                    name) != institutions.end();
  };
  std::vector<std::shared_ptr<UploadSession>> closing;
  std::vector<Told> told;
  int64_t left = 0;
  {
    MutexLock lock(&mu_);
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const UploadSession& session = *it->second;
      if (named(session.manifest().round, session.institution())) {
        closing.push_back(std::move(it->second));
        it = sessions_.erase(it);
      } else {
        ++it;
      }
    }
    told = CloseResumes(
        [&](const Resume& resume) {
          return named(resume.round, resume.caller.name());
        },
        refused);
    left = static_cast<int64_t>(sessions_.size());
  }
  if (!closing.empty()) listener_->OnUploadsInProgress(left);
  for (const auto& session : closing) session->Close(refused);
  Tell(std::move(told));
}

void UploadHub::CloseAll(const Refused& refused) {
  std::vector<std::shared_ptr<UploadSession>> closing;
  std::vector<Told> told;
  {
    MutexLock lock(&mu_);
    stopped_ = true;
    for (auto& [id, session] : sessions_) closing.push_back(session);
    sessions_.clear();
    told = CloseResumes([](const Resume&) { return true; }, refused);
  }
  listener_->OnUploadsInProgress(0);
  for (const auto& session : closing) session->Close(refused);
  Tell(std::move(told));
}

int64_t UploadHub::SpoolBytes() const {
  int64_t bytes = 0;
  const auto paths = store_->spools().List();
  if (!paths.ok()) return 0;
  for (const std::string& path : *paths) {
    const auto info = store_->fs()->Stat(JoinPath(store_->data_dir(), path));
    if (info.ok()) bytes += info->size;
  }
  return bytes;
}

bool UploadHub::active() const {
  MutexLock lock(&mu_);
  return !sessions_.empty();
}

int64_t UploadHub::ReceivedBytes() const {
  MutexLock lock(&mu_);
  int64_t bytes = 0;
  for (const auto& [id, session] : sessions_)
    bytes += session->received_bytes();
  return bytes;
}

absl::Duration UploadHub::ExpireStreams(absl::Duration now) {
  const absl::Duration timeout = options_.idle_timeout;
  const std::string limit =
      Cat("limits.upload_idle_timeout ", FormatDuration(timeout));
  std::vector<std::shared_ptr<UploadSession>> idle;
  std::vector<std::shared_ptr<UploadSink>> silent;
  absl::Duration next = absl::InfiniteDuration();
  {
    MutexLock lock(&mu_);
    for (const auto& [id, session] : sessions_) {
      if (!session->attached()) continue;
      const absl::Duration until = session->last_activity() + timeout;
      if (until <= now) {
        idle.push_back(session);
      } else {
        next = std::min(next, until);
      }
    }
    for (auto it = expected_.begin(); it != expected_.end();) {
      const absl::Duration until = it->second.since + timeout;
      if (until > now) {
        next = std::min(next, until);
        ++it;
        continue;
      }
      silent.push_back(it->second.sink.lock());
      it = expected_.erase(it);
    }
  }
  for (const auto& sink : silent) {
    if (sink == nullptr) continue;
    sink->OnBroken(absl::DeadlineExceededError(
        Cat("the stream named no upload for ", limit,
            "; open it when the first chunk is there")));
  }
  for (const auto& session : idle) {
    const std::string reason = Cat("no chunk came for ", limit);
    // Now, and not once its stream has ended: that may take as long as it
    // likes.
    if (!session->Break(absl::DeadlineExceededError(
            Cat(reason, "; call BeginUpload to resume")))) {
      continue;
    }
    session->NoteActivity(now);
    ReportLost(*session, reason);
  }
  return next;
}

bool UploadHub::Abandoned(const UploadSession& session,
                          absl::Duration now) const {
  return !session.attached() &&
         session.last_activity() + options_.slot_timeout <= now;
}

absl::Duration UploadHub::ExpireIdle(absl::Duration now) {
  absl::Duration next = ExpireStreams(now);
  std::vector<std::shared_ptr<UploadSession>> abandoned;
  std::vector<ResumePtr> forgotten;  // close their spools outside the lock
  {
    MutexLock lock(&mu_);
    for (const auto& [id, session] : sessions_) {
      if (Abandoned(*session, now)) {
        abandoned.push_back(session);
      } else if (!session->attached()) {
        next = std::min(next, session->last_activity() + options_.slot_timeout);
      }
    }
    for (auto it = resumes_.begin(); it != resumes_.end();) {
      const Resume& resume = **it;
      const absl::Duration until = resume.left_at + options_.slot_timeout;
      if (resume.running || !resume.waiters.empty()) {
        ++it;
      } else if (until <= now) {
        forgotten.push_back(std::move(*it));
        it = resumes_.erase(it);
      } else {
        next = std::min(next, until);
        ++it;
      }
    }
  }
  // An admission lock may be held for long.
  for (const auto& session : abandoned) {
    ingest_->Schedule([this, session] { Park(session); });
    next = std::min(next, now + absl::Seconds(1));
  }
  return next;
}

void UploadHub::Park(const std::shared_ptr<UploadSession>& session) {
  const absl::Duration timeout = options_.slot_timeout;
  {
    // Nobody resumes it before its spool is closed.
    const AdmissionLock admission = LockFor(session->institution());
    MutexLock lock(admission.get());
    const std::string id = session->manifest().IdHex();
    {
      MutexLock inner(&mu_);
      const auto it = sessions_.find(id);
      if (it == sessions_.end() || it->second != session ||
          !Abandoned(*session, clock_->Monotonic())) {
        return;
      }
      sessions_.erase(it);
    }
    session->Retire();
  }
  int64_t left = 0;
  {
    MutexLock lock(&mu_);
    left = static_cast<int64_t>(sessions_.size());
  }
  listener_->OnUploadsInProgress(left);
  ReportLost(*session,
             Cat("no stream served it for limits.upload_slot_timeout ",
                 FormatDuration(timeout)));
}

std::map<std::string, UploadHub::Progress> UploadHub::ProgressOf(
    int64_t round) const {
  std::map<std::string, Progress> all;
  MutexLock lock(&mu_);
  for (const auto& [id, session] : sessions_) {
    if (session->manifest().round != round) continue;
    all[session->institution()] =
        Progress{session->received_bytes(), session->manifest().payload_bytes,
                 session->attached()};
  }
  return all;
}

}  // namespace consilium

#include "coordinator/engine/upload_hub.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

UploadAccepted Accepted(const UploadSession& session) {
  const auto& id = session.manifest().upload_id;
  return UploadAccepted{std::string(AsChars(id)), session.durable_chunks()};
}

bool Counts(const ContributionRow& row) {
  return row.state == ContributionState::kCommitted ||
         row.state == ContributionState::kFolded;
}

}  // namespace

std::string SignedReceipt::Encode() const {
  ByteWriter out;
  out.U16(1);
  out.LengthPrefixed(statement.federation);
  out.U64(statement.round);
  out.U32(statement.attempt);
  out.LengthPrefixed(statement.institution);
  out.LengthPrefixed(statement.upload_id);
  out.Bytes(statement.payload_digest.bytes);
  out.U64(statement.payload_bytes);
  out.I64(absl::ToUnixMicros(statement.committed_at));
  out.Bytes(signature.bytes);
  return out.ToString();
}

absl::StatusOr<SignedReceipt> SignedReceipt::Decode(std::string_view bytes) {
  ByteReader in(AsBytes(bytes), "stored receipt");
  SignedReceipt r;
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t version, in.U16());
  if (version != 1) {
    return absl::DataLossError(
        Cat("stored receipt has version ", version, ", expected 1"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view federation,
                             in.LengthPrefixedText(256));
  r.statement.federation = std::string(federation);
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.round, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.attempt, in.U32());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view institution,
                             in.LengthPrefixedText(256));
  r.statement.institution = std::string(institution);
  CONSILIUM_ASSIGN_OR_RETURN(const std::string_view upload_id,
                             in.LengthPrefixedText(256));
  r.statement.upload_id = std::string(upload_id);
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> digest,
                             in.Bytes(Sha256Digest::kSize));
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.payload_digest,
                             Sha256Digest::FromBytes(digest));
  CONSILIUM_ASSIGN_OR_RETURN(r.statement.payload_bytes, in.U64());
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t at, in.I64());
  r.statement.committed_at = absl::FromUnixMicros(at);
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> signature,
                             in.Bytes(Signature::kBytes));
  CONSILIUM_ASSIGN_OR_RETURN(r.signature, Signature::FromBytes(signature));
  CONSILIUM_RETURN_IF_ERROR(in.ExpectEnd());
  return r;
}

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

absl::StatusOr<BeginOutcome> UploadHub::BeginUpload(
    const Caller& caller, const UploadManifest& manifest) {
  const AdmissionLock admission = LockFor(caller.name());
  MutexLock lock(admission.get());

  // After commit the original receipt comes back, whatever the round does now.
  std::optional<ContributionRow> own;
  CONSILIUM_RETURN_IF_ERROR(
      store_->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(own, FindContribution(tx, manifest.IdHex()));
        if (!own.has_value()) {
          CONSILIUM_ASSIGN_OR_RETURN(
              own, FindLiveContribution(tx, manifest.round, manifest.attempt,
                                        caller.id()));
        }
        return absl::OkStatus();
      }));
  if (own.has_value() && own->institution_id != caller.id()) {
    return absl::PermissionDeniedError(
        Cat("upload ", manifest.IdHex(), " belongs to another institution"));
  }
  if (own.has_value() && Counts(*own)) {
    CONSILIUM_ASSIGN_OR_RETURN(SignedReceipt receipt,
                               SignedReceipt::Decode(own->receipt));
    return BeginOutcome(std::move(receipt));
  }

  auto admitted = host_->AdmitUpload(caller, manifest.round, manifest.attempt);
  if (auto* refused = std::get_if<Refused>(&admitted)) {
    return BeginOutcome(std::move(*refused));
  }
  auto context =
      std::get<std::shared_ptr<const RoundContext>>(std::move(admitted));
  if (auto refused = CheckManifest(manifest, *context); refused.has_value()) {
    return BeginOutcome(*std::move(refused));
  }
  return BeginLocked(caller, manifest, std::move(context));
}

absl::StatusOr<BeginOutcome> UploadHub::BeginLocked(
    const Caller& caller, const UploadManifest& manifest,
    std::shared_ptr<const RoundContext> context) {
  const std::string id = manifest.IdHex();
  std::optional<ContributionRow> same;
  std::optional<ContributionRow> live;
  uint64_t keep = std::numeric_limits<uint64_t>::max();
  CONSILIUM_RETURN_IF_ERROR(
      store_->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(same, FindContribution(tx, id));
        CONSILIUM_ASSIGN_OR_RETURN(
            live, FindLiveContribution(tx, manifest.round, manifest.attempt,
                                       caller.id()));
        return absl::OkStatus();
      }));
  if (same.has_value()) {
    if (same->manifest != manifest.Encode()) {
      return BeginOutcome(
          Refused{RefusalCode::kBadManifest,
                  Cat("upload ", id,
                      " was begun with another manifest; a changed "
                      "payload takes a new upload id and key")});
    }
    if (same->state == ContributionState::kQuarantined) {
      return BeginOutcome(Refused{RefusalCode::kQuarantined, same->reason});
    }
    if (same->state != ContributionState::kUploading) {
      return BeginOutcome(
          Refused{RefusalCode::kSuperseded,
                  Cat("upload ", id, " is ", ToString(same->state),
                      "; begin again with a new upload id")});
    }
    if (auto session = FindSession(id); session != nullptr) {
      if (session->health().ok()) {
        host_->UploadResumed(caller, manifest.round);
        return BeginOutcome(Accepted(*session));
      }
      // A sync failed: only what was acknowledged is known to be on the disk.
      keep = session->durable_chunks();
      session->Retire();
      Forget(id);
    }
  }

  const bool resume = same.has_value();
  if (!resume) {
    if (auto refused = CheckSpoolSpace(manifest); refused.has_value()) {
      return BeginOutcome(*std::move(refused));
    }
  }
  auto space = store_->space().Reserve(
      SpoolBytesFor(manifest), Cat("upload ", id, " of ", caller.name()));
  if (absl::IsResourceExhausted(space.status())) {
    return BeginOutcome(Refused{RefusalCode::kNoSpace,
                                std::string(space.status().message()),
                                absl::Seconds(60)});
  }
  CONSILIUM_RETURN_IF_ERROR(space.status());
  {
    MutexLock lock(&mu_);
    if (static_cast<int64_t>(sessions_.size()) >= options_.max_uploads) {
      return BeginOutcome(Refused{RefusalCode::kBusy,
                                  Cat(sessions_.size(),
                                      " uploads are under way, the limit is "
                                      "limits.max_uploads ",
                                      options_.max_uploads.get()),
                                  absl::Seconds(5)});
    }
  }

  std::shared_ptr<UploadSession> session;
  if (resume) {
    CONSILIUM_ASSIGN_OR_RETURN(
        session, ResumeSession(caller, manifest, context, *std::move(space),
                               same->spool_path, keep));
    host_->UploadResumed(caller, manifest.round);
  } else {
    // Of an earlier begin whose row could not be stored.
    CONSILIUM_RETURN_IF_ERROR(store_->spools().Remove(SpoolDir::PathOf(
        {manifest.round, manifest.attempt, caller.name(), id})));
    auto created = UploadSession::Create(context, caller.peer, manifest,
                                         *std::move(space), store_->spools());
    if (absl::IsResourceExhausted(created.status())) {
      return BeginOutcome(Refused{RefusalCode::kNoSpace,
                                  std::string(created.status().message()),
                                  absl::Seconds(60)});
    }
    if (absl::IsDataLoss(created.status()) ||
        absl::IsInvalidArgument(created.status())) {
      return BeginOutcome(
          Refused{RefusalCode::kAuthentication,
                  Cat("the content key does not unwrap: ",
                      StdView(created.status().message()),
                      "; seal to the key of this round's announcement")});
    }
    CONSILIUM_RETURN_IF_ERROR(created.status());
    session = *std::move(created);

    ContributionRow row;
    row.id = id;
    row.round = manifest.round;
    row.attempt = manifest.attempt;
    row.institution_id = caller.id();
    row.state = ContributionState::kUploading;
    row.manifest = manifest.Encode();
    row.payload_digest = manifest.payload_digest;
    row.payload_bytes = manifest.payload_bytes;
    row.spool_path = session->spool_path();
    row.wrapped_key = manifest.ephemeral_public + manifest.wrapped_content_key;
    row.sealed = manifest.sealed;
    row.begun_at = clock_->Now();
    const std::string superseded = live.has_value() ? live->id : "";
    auto began = host_->UploadBegan(caller, row, superseded);
    const absl::Status* const status = std::get_if<absl::Status>(&began);
    // The spool stays: a commit that fails in its sync may be there after a
    // crash. If not, the next begin or the next start removes it.
    if (status != nullptr && !status->ok()) return *status;
    if (status == nullptr) {
      session.reset();
      store_->spools().Remove(row.spool_path).IgnoreError();
      return BeginOutcome(std::get<Refused>(std::move(began)));
    }
    if (live.has_value()) {
      if (auto old = FindSession(live->id); old != nullptr) {
        old->Close(Refused{RefusalCode::kSuperseded,
                           Cat("upload ", live->id, " was replaced by ", id)});
      }
      Forget(live->id);
      store_->spools().Remove(live->spool_path).IgnoreError();
    }
  }
  int64_t uploads = 0;
  {
    MutexLock lock(&mu_);
    sessions_[id] = session;
    uploads = static_cast<int64_t>(sessions_.size());
  }
  listener_->OnUploadsInProgress(uploads);
  return BeginOutcome(Accepted(*session));
}

absl::StatusOr<std::shared_ptr<UploadSession>> UploadHub::ResumeSession(
    const Caller& caller, const UploadManifest& manifest,
    std::shared_ptr<const RoundContext> context, SpaceReservation space,
    const std::string& spool_path, uint64_t keep) {
  auto session =
      UploadSession::Resume(context, caller.peer, manifest, std::move(space),
                            store_->spools(), spool_path, keep);
  if (!absl::IsNotFound(session.status()) &&
      !absl::IsDataLoss(session.status())) {
    return session;
  }
  // The disk lost the spool: the sender has the chunks, and sends them again.
  CONSILIUM_RETURN_IF_ERROR(store_->spools().Remove(spool_path));
  CONSILIUM_ASSIGN_OR_RETURN(
      SpaceReservation again,
      store_->space().Reserve(
          SpoolBytesFor(manifest),
          Cat("upload ", manifest.IdHex(), " of ", caller.name())));
  return UploadSession::Create(std::move(context), caller.peer, manifest,
                               std::move(again), store_->spools());
}

absl::StatusOr<std::shared_ptr<UploadSession>> UploadHub::Attach(
    const Caller& caller, std::string_view upload_id,
    std::shared_ptr<UploadSink> sink) {
  const std::string id = HexEncode(AsBytes(upload_id));
  std::shared_ptr<UploadSession> session = FindSession(id);
  if (session == nullptr) {
    return absl::NotFoundError(
        Cat("upload ", Quoted(id), " is not open; call BeginUpload first"));
  }
  if (session->institution_id() != caller.id()) {
    return absl::PermissionDeniedError(
        Cat("upload ", id, " belongs to another institution"));
  }
  session->Attach(std::move(sink));
  session->NoteActivity(clock_->Monotonic());
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

void UploadHub::Detach(const Caller& caller, UploadSession& session,
                       const UploadSink* sink, const std::string& reason) {
  if (!session.Detach(sink)) return;
  const uint64_t total = static_cast<uint64_t>(session.manifest().chunk_count);
  if (session.durable_chunks() < total) {
    host_->UploadLost(caller, session.manifest().round, reason);
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
            " is not open since the coordinator restarted; "
            "call BeginUpload to resume it, then commit"));
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
  if (absl::IsFailedPrecondition(result.status())) return result.status();
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
  std::vector<std::shared_ptr<UploadSession>> closing;
  int64_t left = 0;
  {
    MutexLock lock(&mu_);
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const UploadSession& session = *it->second;
      bool named = false;
      for (const std::string& name : institutions) {
        named = named || name == session.institution();
      }
      if (named && session.manifest().round == round) {
        closing.push_back(std::move(it->second));
        it = sessions_.erase(it);
      } else {
        ++it;
      }
    }
    left = static_cast<int64_t>(sessions_.size());
  }
  if (closing.empty()) return;
  listener_->OnUploadsInProgress(left);
  for (const auto& session : closing) session->Close(refused);
}

void UploadHub::CloseAll(const Refused& refused) {
  std::vector<std::shared_ptr<UploadSession>> closing;
  {
    MutexLock lock(&mu_);
    for (auto& [id, session] : sessions_) closing.push_back(session);
    sessions_.clear();
  }
  listener_->OnUploadsInProgress(0);
  for (const auto& session : closing) session->Close(refused);
}

std::optional<Refused> UploadHub::CheckSpoolSpace(
    const UploadManifest& manifest) {
  if (options_.max_spool_bytes == 0) return std::nullopt;
  const int64_t used =
      SpoolBytes() + store_->space().reserved_bytes() + SpoolBytesFor(manifest);
  if (used <= options_.max_spool_bytes) return std::nullopt;
  return Refused{
      RefusalCode::kNoSpace,
      Cat("all spools together would take ",
          FormatBytes(static_cast<uint64_t>(used)),
          ", the limit is storage.max_spool_bytes ",
          FormatBytes(static_cast<uint64_t>(options_.max_spool_bytes))),
      absl::Seconds(60)};
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

absl::Duration UploadHub::ExpireIdle(absl::Duration now) {
  std::vector<std::shared_ptr<UploadSession>> idle;
  absl::Duration next = absl::InfiniteDuration();
  {
    MutexLock lock(&mu_);
    for (const auto& [id, session] : sessions_) {
      if (!session->attached()) continue;
      const absl::Duration until =
          session->last_activity() + options_.idle_timeout;
      if (until <= now) {
        idle.push_back(session);
      } else {
        next = std::min(next, until);
      }
    }
  }
  for (const auto& session : idle) {
    session->Break(absl::DeadlineExceededError(
        Cat("no chunk came for limits.upload_idle_timeout ",
            FormatDuration(options_.idle_timeout.get()),
            "; call BeginUpload to resume")));
  }
  return next;
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

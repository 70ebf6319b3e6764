// Which uploads begin, and which go on.

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/upload_hub.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

UploadAccepted Accepted(const UploadSession& session) {
  const auto& id = session.manifest().upload_id;
  return UploadAccepted{std::string(AsChars(id)), session.durable_chunks()};
}

Refused NoSpace(const absl::Status& status) {
  return Refused{RefusalCode::kNoSpace, std::string(status.message()),
                 absl::Seconds(60)};
}

std::string NameOf(const UploadManifest& manifest, std::string_view caller) {
  return Cat("upload ", manifest.IdHex(), " of ", caller);
}

// Why an upload with a row takes nothing more, if so.
std::optional<Refused> Over(const ContributionRow& row,
                            const UploadManifest& manifest) {
  if (row.manifest != manifest.Encode()) {
    return Refused{RefusalCode::kBadManifest,
                   Cat("upload ", row.id,
                       " was begun with another manifest; a changed payload "
                       "takes a new upload id and key")};
  }
  if (row.state == ContributionState::kQuarantined) {
    return Refused{RefusalCode::kQuarantined, row.reason};
  }
  if (row.state != ContributionState::kUploading) {
    return Refused{RefusalCode::kSuperseded,
                   Cat("upload ", row.id, " is ", ToString(row.state),
                       "; begin again with a new upload id")};
  }
  return std::nullopt;
}

}  // namespace

void UploadHub::BeginUpload(const Caller& caller,
                            const UploadManifest& manifest,
                            std::shared_ptr<BeginWaiter> waiter) {
  BeginAnswer answer = Begin(caller, manifest, waiter);
  if (!answer.ok()) {
    waiter->OnBegun(answer.status());
  } else if (answer->has_value()) {
    waiter->OnBegun(**std::move(answer));
  }
}

UploadHub::BeginAnswer UploadHub::Begin(
    const Caller& caller, const UploadManifest& manifest,
    const std::shared_ptr<BeginWaiter>& waiter) {
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
  if (own.has_value() && (own->state == ContributionState::kCommitted ||
                          own->state == ContributionState::kFolded)) {
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
  CONSILIUM_ASSIGN_OR_RETURN(
      std::optional<BeginOutcome> outcome,
      BeginLocked(caller, manifest, std::move(context), waiter));
  // What closed the round's uploads meanwhile did not find this one.
  admitted = host_->AdmitUpload(caller, manifest.round, manifest.attempt);
  if (const auto* refused = std::get_if<Refused>(&admitted)) {
    CloseUploads(manifest.round, {caller.name()}, *refused);
    if (outcome.has_value() &&
        std::holds_alternative<UploadAccepted>(*outcome)) {
      return BeginOutcome(*refused);
    }
  }
  return outcome;
}

UploadHub::BeginAnswer UploadHub::BeginLocked(
    const Caller& caller, const UploadManifest& manifest,
    std::shared_ptr<const RoundContext> context,
    const std::shared_ptr<BeginWaiter>& waiter) {
  const std::string id = manifest.IdHex();
  std::optional<ContributionRow> same;
  std::optional<ContributionRow> live;
  int64_t superseded = 0;
  CONSILIUM_RETURN_IF_ERROR(
      store_->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(same, FindContribution(tx, id));
        CONSILIUM_ASSIGN_OR_RETURN(
            live, FindLiveContribution(tx, manifest.round, manifest.attempt,
                                       caller.id()));
        CONSILIUM_ASSIGN_OR_RETURN(
            superseded, CountContributions(tx, manifest.round, caller.id(),
                                           ContributionState::kSuperseded));
        return absl::OkStatus();
      }));
  if (!same.has_value()) {
    if (live.has_value() && superseded >= options_.max_superseded) {
      return BeginOutcome(Refused{
          RefusalCode::kTooMany,
          Cat(caller.name(), " has replaced ", superseded, " uploads of round ",
              manifest.round, ", the limit is limits.max_superseded_uploads ",
              options_.max_superseded.get(), "; resume upload ", live->id,
              ", or wait for the next round")});
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        BeginOutcome outcome,
        OpenNew(caller, manifest, std::move(context), live));
    return outcome;
  }
  if (auto refused = Over(*same, manifest); refused.has_value()) {
    return BeginOutcome(*std::move(refused));
  }
  uint64_t keep = std::numeric_limits<uint64_t>::max();
  if (auto session = FindSession(id); session != nullptr) {
    session->NoteActivity(clock_->Monotonic());
    if (session->health().ok()) {
      host_->UploadResumed(caller, manifest.round);
      return BeginOutcome(Accepted(*session));
    }
    // A sync failed: only what was acknowledged is known to be on the disk.
    keep = session->durable_chunks();
    session->Retire();
    Forget(id);
  }
  return ReadAgain(caller, manifest, std::move(context), same->spool_path, keep,
                   waiter);
}

absl::StatusOr<BeginOutcome> UploadHub::OpenNew(
    const Caller& caller, const UploadManifest& manifest,
    std::shared_ptr<const RoundContext> context,
    const std::optional<ContributionRow>& live) {
  const std::string id = manifest.IdHex();
  CONSILIUM_ASSIGN_OR_RETURN(auto promised,
                             Promise(manifest, caller.name(), /*on_disk=*/0));
  if (auto* refused = std::get_if<Refused>(&promised)) {
    return BeginOutcome(std::move(*refused));
  }
  // Gives the slot back unless the session takes it.
  struct Slot {
    ~Slot() {
      MutexLock lock(&hub->mu_);
      --hub->opening_;
    }
    UploadHub* hub;
  };
  {
    MutexLock lock(&mu_);
    if (auto refused = CheckSlots(); refused.has_value()) {
      return BeginOutcome(*std::move(refused));
    }
    ++opening_;
  }
  const Slot slot{this};
  // Of an earlier begin whose row could not be stored.
  CONSILIUM_RETURN_IF_ERROR(store_->spools().Remove(
      SpoolDir::PathOf({manifest.round, manifest.attempt, caller.name(), id})));
  auto created = UploadSession::Create(
      std::move(context), caller.peer, manifest,
      std::get<SpaceReservation>(std::move(promised)), store_->spools());
  if (absl::IsResourceExhausted(created.status())) {
    return BeginOutcome(NoSpace(created.status()));
  }
  if (!IsLocalError(created.status()) &&
      (absl::IsDataLoss(created.status()) ||
       absl::IsInvalidArgument(created.status()))) {
    return BeginOutcome(
        Refused{RefusalCode::kAuthentication,
                Cat("the content key does not unwrap: ",
                    StdView(created.status().message()),
                    "; seal to the key of this round's announcement")});
  }
  CONSILIUM_RETURN_IF_ERROR(created.status());
  std::shared_ptr<UploadSession> session = *std::move(created);

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
  auto began =
      host_->UploadBegan(caller, row, live.has_value() ? live->id : "");
  const absl::Status* const status = std::get_if<absl::Status>(&began);
  // The spool stays: a commit that fails in its sync may be there after a
  // crash. If not, the next begin or the next start removes it.
  if (status != nullptr && !status->ok()) return *status;
  if (status == nullptr) {
    session.reset();
    store_->spools().Remove(row.spool_path).IgnoreError();
    return BeginOutcome(std::get<Refused>(std::move(began)));
  }
  if (live.has_value()) DropSuperseded(*live, id);
  session->NoteActivity(clock_->Monotonic());
  int64_t uploads = 0;
  {
    MutexLock lock(&mu_);
    sessions_[id] = session;
    uploads = static_cast<int64_t>(sessions_.size());
  }
  listener_->OnUploadsInProgress(uploads);
  return BeginOutcome(Accepted(*session));
}

void UploadHub::DropSuperseded(const ContributionRow& old,
                               const std::string& by) {
  const Refused refused{RefusalCode::kSuperseded,
                        Cat("upload ", old.id, " was replaced by ", by)};
  if (auto session = FindSession(old.id); session != nullptr) {
    session->Close(refused);
  }
  Forget(old.id);
  std::vector<Told> told;
  bool being_read = false;
  {
    MutexLock lock(&mu_);
    const auto same = [&](const Resume& resume) { return resume.id == old.id; };
    told = CloseResumes(same, refused);
    for (const ResumePtr& resume : resumes_) {
      if (!same(*resume)) continue;
      resume->remove = old.spool_path;
      being_read = true;
    }
  }
  Tell(std::move(told));
  if (!being_read) store_->spools().Remove(old.spool_path).IgnoreError();
}

absl::StatusOr<std::variant<SpaceReservation, Refused>> UploadHub::Promise(
    const UploadManifest& manifest, const std::string& institution,
    int64_t on_disk) {
  using Answer = std::variant<SpaceReservation, Refused>;
  const int64_t bytes = std::max<int64_t>(SpoolBytesFor(manifest) - on_disk, 0);
  if (auto refused = CheckSpoolSpace(bytes); refused.has_value()) {
    return Answer(*std::move(refused));
  }
  auto space = store_->space().Reserve(bytes, NameOf(manifest, institution));
  if (absl::IsResourceExhausted(space.status())) {
    return Answer(NoSpace(space.status()));
  }
  CONSILIUM_RETURN_IF_ERROR(space.status());
  return Answer(*std::move(space));
}

std::optional<Refused> UploadHub::CheckSpoolSpace(int64_t bytes) {
  if (options_.max_spool_bytes == 0) return std::nullopt;
  const int64_t used =
      SpoolBytes() + store_->space().reserved_for_uploads() + bytes;
  if (used <= options_.max_spool_bytes) return std::nullopt;
  return Refused{
      RefusalCode::kNoSpace,
      Cat("all spools together would take ",
          FormatBytes(static_cast<uint64_t>(used)),
          ", the limit is storage.max_spool_bytes ",
          FormatBytes(static_cast<uint64_t>(options_.max_spool_bytes))),
      absl::Seconds(60)};
}

int64_t UploadHub::SlotsTaken() const {
  return static_cast<int64_t>(sessions_.size() + resumes_.size()) + opening_;
}

std::optional<Refused> UploadHub::CheckSlots() const {
  if (stopped_) {
    return Refused{RefusalCode::kBusy,
                   "the coordinator is shutting down; resume later",
                   absl::Seconds(1)};
  }
  if (SlotsTaken() < options_.max_uploads) return std::nullopt;
  return Refused{RefusalCode::kBusy,
                 Cat(SlotsTaken(),
                     " uploads are under way, the limit is "
                     "limits.max_uploads ",
                     options_.max_uploads.get()),
                 absl::Seconds(5)};
}

}  // namespace consilium

#include "client_sdk/session/uploader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client_sdk/session/retrier.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

constexpr uint64_t kDefaultWindowBytes = uint64_t{32} << 20;
constexpr absl::Duration kProgressEvery = absl::Milliseconds(100);
// Attempts without a byte moved before an error that does not name a lost
// connection is believed. A coordinator that restarts may answer oddly once.
constexpr int kPatience = 3;

bool PassesByItself(RefusalCode code) {
  return code == RefusalCode::kBusy || code == RefusalCode::kNoSpace;
}

// The contribution may be wanted once the institution may work again.
bool KeepsOutbox(RefusalCode code) {
  return PassesByItself(code) || code == RefusalCode::kSuspended;
}

absl::Status AsError(const Refused& refused) {
  return absl::UnavailableError(
      Cat(RefusalCodeName(refused.code), ": ", refused.message));
}

}  // namespace

Uploader::Uploader(Options options, const SessionDeps& deps, EventSink* events,
                   Transport* transport, const Trust* trust,
                   ReceiptStore* receipts, Greet greet, LimitsFn limits)
    : options_(std::move(options)),
      deps_(deps),
      events_(events),
      transport_(transport),
      trust_(trust),
      receipts_(receipts),
      greet_(std::move(greet)),
      limits_(std::move(limits)) {}

absl::Status Uploader::CheckChunks(const OutboxEntry& entry) const {
  const uint64_t most = limits_().max_chunk_bytes;
  for (size_t i = 0; most > 0 && i < entry.chunks(); ++i) {
    if (entry.ChunkBytesOf(i) <= most) continue;
    return absl::FailedPreconditionError(Cat(
        "chunk ", i, " of the upload for round ", entry.manifest().round.round,
        " has ", entry.ChunkBytesOf(i),
        " bytes; the coordinator takes at most ", most, " (max_chunk_bytes)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SubmitOutcome> Uploader::Run(Outbox& outbox,
                                            const OutboxEntry& entry,
                                            const ProgressCallback& progress,
                                            const CancelToken& cancel) {
  const uint64_t round = entry.manifest().round.round;
  const std::string what = Cat("upload for round ", round);
  Retrier retrier(options_.retry, deps_, events_, round, cancel);
  int odd_answers = 0;
  int damaged_chunks = 0;
  for (;;) {
    if (cancel.cancelled()) return cancel.status();
    bool moved = false;
    absl::Status status;
    if (retrier.failing()) status = greet_(cancel);
    std::optional<SubmitOutcome> outcome;
    if (status.ok()) {
      CONSILIUM_RETURN_IF_ERROR(CheckChunks(entry));
      auto attempt = Attempt(entry, progress, cancel, &moved);
      if (attempt.ok()) {
        outcome = *std::move(attempt);
      } else {
        status = attempt.status();
      }
    }
    if (moved) {
      retrier.MadeProgress();
      odd_answers = 0;
    }
    if (!outcome.has_value()) {
      if (cancel.cancelled()) return cancel.status();
      // A precondition or a place that does not fit comes of a coordinator
      // that has lost sight of the upload: admission sets it right.
      const bool odd = status.code() == absl::StatusCode::kFailedPrecondition ||
                       status.code() == absl::StatusCode::kOutOfRange ||
                       status.code() == absl::StatusCode::kNotFound;
      if (odd && ++odd_answers < kPatience) {
        status = absl::UnavailableError(status.message());
      }
      CONSILIUM_RETURN_IF_ERROR(retrier.Failed(status, what));
      continue;
    }
    if (const auto* refused = std::get_if<Refused>(&*outcome)) {
      // A chunk that was damaged on its way is sent again from where it stands.
      const bool damaged = refused->code == RefusalCode::kAuthentication &&
                           refused->retry_after > absl::ZeroDuration() &&
                           ++damaged_chunks < kPatience;
      if (damaged || PassesByItself(refused->code)) {
        CONSILIUM_RETURN_IF_ERROR(
            retrier.Refused(refused->retry_after, AsError(*refused), what));
        continue;
      }
      if (KeepsOutbox(refused->code)) return *std::move(outcome);
    }
    // What the coordinator said stands, whatever this disk does now.
    if (const auto* receipt = std::get_if<Receipt>(&*outcome)) {
      const absl::Status saved = receipts_->Save(*receipt);
      if (!saved.ok()) {
        events_->Warning(round, Cat("the receipt could not be stored: ",
                                    StdView(saved.message())));
      }
    }
    const absl::Status wiped = outbox.Wipe(entry);
    if (!wiped.ok()) {
      events_->Warning(round, Cat("the upload is still in the outbox: ",
                                  StdView(wiped.message())));
    }
    return *std::move(outcome);
  }
}

absl::StatusOr<SubmitOutcome> Uploader::Attempt(
    const OutboxEntry& entry, const ProgressCallback& progress,
    const CancelToken& cancel, bool* moved) {
  const Manifest& manifest = entry.manifest();
  const CallContext control = {cancel, options_.control_timeout};
  CONSILIUM_ASSIGN_OR_RETURN(BeginOutcome begun,
                             transport_->BeginUpload(manifest, control));
  if (auto* refused = std::get_if<Refused>(&begun)) {
    return SubmitOutcome(std::move(*refused));
  }
  if (const auto* receipt = std::get_if<SignedReceipt>(&begun)) {
    CONSILIUM_ASSIGN_OR_RETURN(Receipt checked,
                               VerifiedReceipt(*trust_, manifest, *receipt));
    return SubmitOutcome(std::move(checked));
  }
  const auto& accepted = std::get<UploadAccepted>(begun);
  if (accepted.next_chunk > entry.chunks() ||
      accepted.upload_id != manifest.upload_id) {
    return absl::InternalError(
        Cat("the coordinator accepted upload ",
            Quoted(HexEncode(AsBytes(accepted.upload_id))), " from chunk ",
            accepted.next_chunk, "; asked for was ",
            HexEncode(AsBytes(manifest.upload_id)), " of ", entry.chunks(),
            " chunks"));
  }
  if (accepted.next_chunk > 0) {
    events_->Info(manifest.round.round,
                  Cat("upload resumes at chunk ", accepted.next_chunk, " of ",
                      entry.chunks()));
  }
  CONSILIUM_ASSIGN_OR_RETURN(PumpOutcome pumped,
                             Stream(entry, accepted, progress, cancel, moved));
  if (auto* refused = std::get_if<Refused>(&pumped)) {
    return SubmitOutcome(std::move(*refused));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      CommitOutcome committed,
      transport_->CommitUpload(manifest.upload_id, manifest.payload_digest,
                               control));
  if (auto* refused = std::get_if<Refused>(&committed)) {
    return SubmitOutcome(std::move(*refused));
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      Receipt receipt,
      VerifiedReceipt(*trust_, manifest, std::get<SignedReceipt>(committed)));
  return SubmitOutcome(std::move(receipt));
}

absl::StatusOr<PumpOutcome> Uploader::Stream(const OutboxEntry& entry,
                                             const UploadAccepted& accepted,
                                             const ProgressCallback& progress,
                                             const CancelToken& cancel,
                                             bool* moved) {
  if (accepted.next_chunk == entry.chunks()) return PumpOutcome(AllDurable{});
  size_t largest = 0;
  for (size_t i = 0; i < entry.chunks(); ++i) {
    largest = std::max(largest, entry.ChunkBytesOf(i));
  }
  ChunkPool pool(largest);

  PumpOptions options;
  options.first_chunk = accepted.next_chunk;
  options.window_bytes = accepted.window_bytes;
  if (options.window_bytes == 0) options.window_bytes = limits_().window_bytes;
  if (options.window_bytes == 0) options.window_bytes = kDefaultWindowBytes;
  options.stall_timeout = options_.stall_timeout;
  absl::Duration reported = -absl::InfiniteDuration();
  if (progress) {
    options.on_ack = [&](uint64_t chunks) {
      const absl::Duration now = deps_.clock->Monotonic();
      if (chunks < entry.chunks() && now - reported < kProgressEvery) return;
      reported = now;
      progress({TransferProgress::Phase::kUpload, entry.OffsetOf(chunks),
                entry.manifest().payload_bytes});
    };
  }
  const std::unique_ptr<UploadStream> stream =
      transport_->OpenUpload(entry.manifest().upload_id);
  uint64_t acked = accepted.next_chunk;
  auto outcome = PumpChunks(entry, pool, *stream, options, cancel, &acked);
  *moved = acked > accepted.next_chunk;
  return outcome;
}

}  // namespace consilium::client::internal

// The part of Session that hands in contributions.

#include <algorithm>
#include <utility>

#include "client_sdk/session/session.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

absl::StatusOr<const Codec*> ChooseCodec(const RoundStatement& statement) {
  for (const uint32_t id : statement.codecs) {
    auto codec =
        FindCodec(static_cast<CodecId>(id), statement.elements_per_frame);
    if (absl::IsUnimplemented(codec.status())) continue;
    if (codec.ok()) return codec;
    return Annotate(codec.status(),
                    Cat("the announcement of round ", statement.round));
  }
  return absl::UnimplementedError(
      Cat("round ", statement.round,
          " accepts no codec of this build; install a newer client"));
}

absl::Status CheckTask(const TrainTask& task, const LocalReport& report) {
  if (task.terms == nullptr) {
    return absl::InvalidArgumentError(
        "the task does not come from WaitForWork()");
  }
  if (task.terms->statement.session_kind != 0) {
    return absl::UnimplementedError(
        Cat("round ", task.round, " asks for a session of kind ",
            task.terms->statement.session_kind,
            ", which this build cannot take part in"));
  }
  if (report.examples < task.min_examples) {
    return absl::InvalidArgumentError(
        Cat("update: report.examples is ", report.examples,
            "; the round asks for at least ", task.min_examples,
            " (min_examples): decline it instead"));
  }
  if (task.weight_max > 0 &&
      static_cast<double>(report.examples) > task.weight_max) {
    return absl::InvalidArgumentError(
        Cat("update: report.examples is ", report.examples,
            "; the round takes at most ", task.weight_max,
            " (weight_max): report that many"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SubmitOutcome> Session::Submit(const TrainTask& task,
                                              const Update& update,
                                              const SubmitOptions& options,
                                              const CancelToken& cancel) {
  return SubmitFrom(
      task, update.report,
      [&update](const Layout& layout) { return ReaderOf(layout, update); },
      options, cancel);
}

absl::StatusOr<SubmitOutcome> Session::Submit(const TrainTask& task,
                                              const UpdateSource& source,
                                              const SubmitOptions& options,
                                              const CancelToken& cancel) {
  return SubmitFrom(
      task, source.report,
      [&source](const Layout& layout) { return ReaderOf(layout, source); },
      options, cancel);
}

absl::StatusOr<SubmitOutcome> Session::SubmitFrom(
    const TrainTask& task, const LocalReport& report,
    const MakeReader& make_reader, const SubmitOptions& options,
    const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  const CancelToken cancel = either.token();
  CONSILIUM_RETURN_IF_ERROR(CheckTask(task, report));
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<const Layout> layout,
                             LayoutFor(task.layout_digest, cancel));
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<DeltaReader> reader,
                             make_reader(*layout));
  CONSILIUM_RETURN_IF_ERROR(upload_turn_.Take(cancel));
  TurnHolder turn(&upload_turn_);
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::shared_ptr<OutboxEntry> entry,
      Encode(task, *layout, report, *reader, options.progress, cancel));
  return uploader_->Run(*outbox_, *entry, options.progress, cancel);
}

absl::StatusOr<std::shared_ptr<OutboxEntry>> Session::Encode(
    const TrainTask& task, const Layout& layout, const LocalReport& report,
    DeltaReader& reader, const ProgressCallback& progress,
    const CancelToken& cancel) {
  const RoundStatement& statement = task.terms->statement;
  CONSILIUM_ASSIGN_OR_RETURN(const Codec* codec, ChooseCodec(statement));
  CONSILIUM_ASSIGN_OR_RETURN(ContributionMetadata metadata,
                             MetadataOf(layout, reader.coverage(), report));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::byte> metadata_frame,
                             EncodeMetadataFrame(std::move(metadata)));
  const int64_t elements = CoveredSpace(&layout, reader.coverage()).elements();
  const uint64_t bytes =
      MaxPayloadBytes(*codec, elements, metadata_frame.size());
  if (task.max_update_bytes > 0 && bytes > task.max_update_bytes) {
    return absl::ResourceExhaustedError(
        Cat("an update of ", FormatBytes(bytes), " exceeds max_update_bytes ",
            FormatBytes(task.max_update_bytes), " (federation ",
            Quoted(task.federation), "): hand in fewer groups"));
  }
  const RoundRef round = {task.round, task.attempt};
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<OutboxEntry> before,
                             outbox_->Find(round));
  CONSILIUM_ASSIGN_OR_RETURN(
      OutboxDraft draft,
      outbox_->Begin(round, bytes, ChunkCount(*codec, elements),
                     statement.sealing_public_key.has_value()));
  OutboxRecord record;
  record.federation = trust_.federation;
  record.institution = trust_.institution;
  Manifest& manifest = record.manifest;
  manifest.round = round;
  manifest.upload_id = draft.upload_id();
  std::optional<ChunkSealer> sealer;
  if (statement.sealing_public_key.has_value()) {
    record.content_key = ContentKey::Generate(*deps_.random);
    CONSILIUM_ASSIGN_OR_RETURN(
        manifest.wrapped_key,
        WrapContentKey(*record.content_key, *statement.sealing_public_key,
                       record.seal_context(), *deps_.random));
    CONSILIUM_ASSIGN_OR_RETURN(
        sealer, ChunkSealer::Create(*record.content_key, record.seal_context(),
                                    ChunkCount(*codec, elements)));
  }
  auto payload = EncodePayload(layout, *codec, reader, metadata_frame,
                               sealer.has_value() ? &*sealer : nullptr,
                               *draft.payload(), progress, cancel);
  if (!payload.ok()) return payload.status();
  if (before != nullptr &&
      before->manifest().payload_digest == payload->digest &&
      before->manifest().coverage == reader.coverage().bytes()) {
    // The same update again, after an error: what is durable stays durable.
    return before;
  }

  record.frame_bytes = std::move(payload->frame_bytes);
  manifest.layout_digest = task.layout_digest;
  manifest.base = task.base;
  manifest.coverage = reader.coverage().bytes();
  manifest.codec = static_cast<uint32_t>(codec->id());
  manifest.elements = payload->elements;
  manifest.elements_per_frame =
      static_cast<uint32_t>(codec->elements_per_frame());
  manifest.payload_bytes = payload->bytes;
  manifest.chunk_count = record.frame_bytes.size();
  manifest.payload_digest = payload->digest;
  return outbox_->Commit(std::move(draft), std::move(record));
}

absl::StatusOr<std::vector<ResumedUpload>> Session::ResumePending(
    const SubmitOptions& options, const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  const CancelToken cancel = either.token();
  CONSILIUM_RETURN_IF_ERROR(upload_turn_.Take(cancel));
  TurnHolder turn(&upload_turn_);
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<Outbox::Found> all,
                             outbox_->Load());
  std::vector<ResumedUpload> resumed;
  for (const Outbox::Found& found : all) {
    resumed.push_back(ResumeOne(found, options, cancel));
    if (cancel.cancelled()) return cancel.status();
  }
  return resumed;
}

ResumedUpload Session::ResumeOne(const Outbox::Found& found,
                                 const SubmitOptions& options,
                                 const CancelToken& cancel) {
  ResumedUpload result;
  result.round = found.round.round;
  result.attempt = found.round.attempt;
  const auto wipe = [&] {
    const absl::Status wiped = outbox_->Wipe(**found.entry);
    if (wiped.ok()) return;
    events_.Warning(result.round, Cat("the upload is still in the outbox: ",
                                      StdView(wiped.message())));
  };
  std::string upload_id;
  if (found.entry.ok()) {
    const Manifest& manifest = (*found.entry)->manifest();
    result.base_version = manifest.base.number;
    upload_id = HexEncode(AsBytes(manifest.upload_id));
  }
  // A process that ended while it wiped the entry had the receipt before.
  auto receipt = receipts_->Find(found.round, upload_id, trust_.signing_key);
  if (!receipt.ok()) {
    events_.Warning(result.round, std::string(receipt.status().message()));
  } else if (receipt->has_value()) {
    if (found.entry.ok()) wipe();
    result.outcome = **std::move(receipt);
    return result;
  }
  if (!found.entry.ok()) {
    result.outcome =
        ResumedUpload::Discarded{std::string(found.entry.status().message())};
    return result;
  }
  const OutboxRecord& record = (*found.entry)->record();
  if (record.federation != trust_.federation ||
      record.institution != trust_.institution) {
    result.outcome = ResumedUpload::Discarded{
        Cat("it belongs to ", record.institution, " of ", record.federation)};
    wipe();
    return result;
  }
  auto outcome =
      uploader_->Run(*outbox_, **found.entry, options.progress, cancel);
  if (!outcome.ok()) {
    result.outcome = outcome.status();
    return result;
  }
  std::visit([&](auto& value) { result.outcome = std::move(value); }, *outcome);
  return result;
}

}  // namespace consilium::client::internal

#include "tests/crash/fake_institution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/coverage.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/seal.h"
#include "consilium/secure/sha256.h"
#include "tests/support/begin_upload.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

absl::Status AsStatus(const Refused& refused) {
  if (refused.code == RefusalCode::kNoSpace) {
    return absl::ResourceExhaustedError(refused.message);
  }
  return absl::FailedPreconditionError(
      Cat("refused (", static_cast<int>(refused.code), "): ", refused.message));
}

// The stream side of an upload.
class Acks final : public UploadSink {
 public:
  void OnDurable(uint64_t next_chunk) override {
    MutexLock lock(&mu_);
    durable_ = std::max(durable_, next_chunk);
    changed_.SignalAll();
  }
  void OnRefused(const Refused& refused) override { End(AsStatus(refused)); }
  void OnBroken(const absl::Status& status) override { End(status); }

  // Until `chunks` are durable, or the stream has ended.
  absl::Status Await(uint64_t chunks) {
    MutexLock lock(&mu_);
    while (durable_ < chunks && end_.ok()) changed_.Wait(&mu_);
    return durable_ >= chunks ? absl::OkStatus() : end_;
  }
  uint64_t durable() {
    MutexLock lock(&mu_);
    return durable_;
  }

 private:
  void End(const absl::Status& status) {
    MutexLock lock(&mu_);
    if (end_.ok()) end_ = status;
    changed_.SignalAll();
  }

  Mutex mu_;
  CondVar changed_;
  uint64_t durable_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status end_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

void FakeInstitution::Forget() {
  outbox_.reset();
  receipt_.reset();
  acked_ = 0;
  evaluated_ = false;
}

absl::Status FakeInstitution::Train(EngineWorld& world,
                                    const RoundContext& context) {
  ++trainings_;
  const Layout& layout = context.layout->layout;
  Coverage coverage(layout.groups().size());
  for (const std::string& group : plan_.groups) {
    coverage.Set(*layout.FindGroup(*GroupName::Parse(group)));
  }
  const CoveredSpace space(&layout, coverage);
  const Codec* const codec =
      *FindCodec(CodecId::kF32, context.statement.elements_per_frame);

  Outbox outbox;
  std::vector<std::vector<std::byte>> frames;
  PayloadWriter writer(space.elements(), codec,
                       [&](std::span<const std::byte> frame) -> absl::Status {
                         frames.emplace_back(frame.begin(), frame.end());
                         return absl::OkStatus();
                       });
  CONSILIUM_RETURN_IF_ERROR(writer.WriteMetadata(
      {.examples = plan_.examples,
       .metrics = {{"loss", static_cast<double>(plan_.delta)}}}));
  const std::vector<float> values(static_cast<size_t>(space.elements()),
                                  plan_.delta);
  CONSILIUM_RETURN_IF_ERROR(writer.Append(values));
  CONSILIUM_RETURN_IF_ERROR(writer.Finish());

  UploadManifest& m = outbox.manifest;
  m.round = context.round();
  m.attempt = context.attempt();
  world.random().Fill(m.upload_id);
  m.layout_digest = context.layout->id;
  m.base_version = static_cast<int64_t>(context.statement.base.number);
  m.base_digest = context.statement.base.digest;
  m.coverage = coverage.bytes();
  m.codec = static_cast<uint32_t>(codec->id());
  m.elements = space.elements();
  m.elements_per_frame = codec->elements_per_frame();
  m.payload_bytes = writer.bytes();
  m.chunk_count = writer.frames();
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  for (const auto& frame : frames) hasher->Update(frame);
  m.payload_digest = hasher->Finish();

  const SealContext seal = context.SealContextFor(plan_.name, m.upload_id);
  const ContentKey key = ContentKey::Generate(world.random());
  CONSILIUM_ASSIGN_OR_RETURN(
      const WrappedKey wrapped,
      WrapContentKey(key, *context.statement.sealing_public_key, seal,
                     world.random()));
  m.ephemeral_public = AsChars(wrapped.ephemeral_public.bytes);
  m.wrapped_content_key = AsChars(wrapped.ciphertext);
  CONSILIUM_ASSIGN_OR_RETURN(
      ChunkSealer sealer,
      ChunkSealer::Create(key, seal, static_cast<uint64_t>(m.chunk_count)));
  for (size_t i = 0; i < frames.size(); ++i) {
    std::vector<std::byte> chunk(frames[i].size() + kAeadTagBytes);
    CONSILIUM_RETURN_IF_ERROR(sealer.Seal(i, frames[i], chunk));
    outbox.chunks.push_back(std::move(chunk));
  }
  outbox_ = std::move(outbox);
  return absl::OkStatus();
}

absl::StatusOr<BeginOutcome> FakeInstitution::Begin(EngineWorld& world) {
  CONSILIUM_ASSIGN_OR_RETURN(
      BeginOutcome outcome,
      BeginUploadHere(world.engine().uploads(), world.ingest(),
                      world.CallerFor(plan_.name), outbox_->manifest));
  if (const auto* accepted = std::get_if<UploadAccepted>(&outcome)) {
    EXPECT_GE(accepted->next_chunk, acked_)
        << plan_.name << ": acknowledged chunks are lost";
    EXPECT_FALSE(receipt_.has_value())
        << plan_.name << ": a committed upload is open again";
    acked_ = std::max(acked_, accepted->next_chunk);
  }
  return outcome;
}

absl::Status FakeInstitution::TakeReceipt(const SignedReceipt& receipt) {
  EXPECT_OK(VerifyStatement(EngineWorld::signing_key().verify_key(),
                            receipt.statement, receipt.signature));
  EXPECT_EQ(receipt.statement.payload_digest, outbox_->manifest.payload_digest);
  if (receipt_.has_value()) {
    EXPECT_EQ(receipt_->Encode(), receipt.Encode())
        << plan_.name << ": another receipt than the one given before";
  }
  receipt_ = receipt;
  return absl::OkStatus();
}

absl::Status FakeInstitution::Send(EngineWorld& world, uint64_t first,
                                   uint64_t end) {
  UploadHub& hub = world.engine().uploads();
  const Caller caller = world.CallerFor(plan_.name);
  const std::string id(AsChars(outbox_->manifest.upload_id));
  const auto acks = std::make_shared<Acks>();
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<UploadSession> session,
                             hub.Attach(caller, id, acks));
  acks->OnDurable(session->durable_chunks());
  absl::Status status;
  for (uint64_t i = first; status.ok() && i < end; ++i) {
    const auto refused = hub.Append(caller, *session, i, outbox_->chunks[i]);
    if (!refused.ok()) {
      status = refused.status();
    } else if (refused->has_value()) {
      status = AsStatus(**refused);
    } else if (!plan_.send_ahead) {
      status = acks->Await(i + 1);
    }
  }
  if (status.ok()) status = acks->Await(end);
  acked_ = std::max(acked_, acks->durable());
  hub.Detach(*session, acks.get(), "the stream ended");
  return status;
}

absl::Status FakeInstitution::BeginUpload(EngineWorld& world, int64_t round) {
  if (!outbox_.has_value()) {
    const Work work = world.engine().WorkFor(*world.CallerFor(name()).peer);
    const auto* train = std::get_if<TrainWork>(&work.what);
    if (train == nullptr || train->context->round() != round) {
      return absl::FailedPreconditionError(
          Cat(name(), " has no training to do in round ", round));
    }
    CONSILIUM_RETURN_IF_ERROR(Train(world, *train->context));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const BeginOutcome begun, Begin(world));
  if (const auto* refused = std::get_if<Refused>(&begun)) {
    return AsStatus(*refused);
  }
  if (const auto* receipt = std::get_if<SignedReceipt>(&begun)) {
    return TakeReceipt(*receipt);
  }
  return acked_ > 0 ? absl::OkStatus() : Send(world, 0, 1);
}

absl::Status FakeInstitution::Contribute(EngineWorld& world, int64_t round) {
  if (receipt_.has_value()) return absl::OkStatus();
  CONSILIUM_RETURN_IF_ERROR(BeginUpload(world, round));
  if (receipt_.has_value()) return absl::OkStatus();
  CONSILIUM_RETURN_IF_ERROR(Send(world, acked_, outbox_->chunks.size()));
  CONSILIUM_ASSIGN_OR_RETURN(
      const CommitOutcome committed,
      world.engine().uploads().CommitUpload(
          world.CallerFor(name()), AsChars(outbox_->manifest.upload_id),
          outbox_->manifest.payload_digest));
  if (const auto* refused = std::get_if<Refused>(&committed)) {
    return AsStatus(*refused);
  }
  return TakeReceipt(std::get<SignedReceipt>(committed));
}

absl::Status FakeInstitution::AskAgain(EngineWorld& world) {
  CONSILIUM_ASSIGN_OR_RETURN(const BeginOutcome begun, Begin(world));
  const auto* receipt = std::get_if<SignedReceipt>(&begun);
  if (receipt == nullptr) {
    return absl::DataLossError(Cat(name(), ": the receipt is gone"));
  }
  return TakeReceipt(*receipt);
}

absl::Status FakeInstitution::Evaluate(EngineWorld& world, int64_t round,
                                       bool decline) {
  const Caller caller = world.CallerFor(name());
  const Work work = world.engine().WorkFor(*caller.peer);
  const auto* task = std::get_if<EvaluateWork>(&work.what);
  if (task == nullptr || task->round != round) return absl::OkStatus();
  EXPECT_FALSE(evaluated_) << name() << ": asked again for what it reported";
  std::optional<Refused> refused;
  if (decline) {
    CONSILIUM_ASSIGN_OR_RETURN(
        refused, world.engine().Decline(caller, round, "no validation data",
                                        /*evaluation=*/true));
  } else {
    CONSILIUM_ASSIGN_OR_RETURN(
        refused, world.engine().ReportEvaluation(
                     caller, round, task->candidate.digest, 100,
                     {{"loss", static_cast<double>(plan_.delta)}}));
  }
  if (refused.has_value()) return AsStatus(*refused);
  evaluated_ = true;
  return absl::OkStatus();
}

}  // namespace consilium

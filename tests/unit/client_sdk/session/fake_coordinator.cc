#include "tests/unit/client_sdk/session/fake_coordinator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/seal.h"
#include "consilium/secure/sha256.h"
#include "tests/unit/client_sdk/session/fake_transport.h"

namespace consilium::client::internal {
namespace {

constexpr char kFederation[] = "cards";
constexpr char kInstitution[] = "bank-a";

template <typename T>
T Must(absl::StatusOr<T> value) {
  CONSILIUM_CHECK(value.ok());
  return *std::move(value);
}

// Four slots in three groups; "trunk" alone spans more than two frames, and
// no slot but the last ends where a frame ends.
Layout MakeLayout() {
  std::vector<SlotSpec> slots;
  slots.push_back({.name = "trunk", .shape = {700, 1000}, .group = {}});
  slots.push_back({.name = "head", .shape = {3, 5}, .group = {}});
  slots.push_back({.name = "expert.0",
                   .shape = {100, 1000},
                   .group = {GroupKind::kExpert, 0, 0}});
  slots.push_back({.name = "expert.1",
                   .shape = {300, 1000},
                   .group = {GroupKind::kExpert, 0, 1}});
  return Must(Layout::Create(std::move(slots)));
}

}  // namespace

FakeCoordinator::FakeCoordinator(FakeClock* clock)
    : clock_(clock),
      random_(7),
      signing_key_(Must(SigningKey::Generate(random_))),
      round_key_(Must(X25519PrivateKey::Generate(random_))),
      layout_(MakeLayout()) {
  const std::string text = layout_.CanonicalText();
  layout_digest_ = Sha256(text);
  objects_[layout_digest_] = text;
}

std::unique_ptr<Transport> FakeCoordinator::NewTransport() {
  return std::make_unique<FakeTransport>(this);
}

InstitutionIdentity FakeCoordinator::Identity() const {
  InstitutionIdentity identity;
  identity.name = {kFederation, PeerRole::kInstitution, kInstitution};
  identity.signing_key = signing_key_.verify_key();
  return identity;
}

void FakeCoordinator::FailAt(int64_t step, Fault fault) {
  MutexLock lock(&mutex_);
  faults_[steps_ + step] = fault;
}

void FakeCoordinator::FailForGoodAt(int64_t step, Fault fault) {
  MutexLock lock(&mutex_);
  faults_[steps_ + step] = fault;
  dead_after_ = steps_ + step;
}

void FakeCoordinator::ClearFaults() {
  MutexLock lock(&mutex_);
  faults_.clear();
  dead_after_ = INT64_MAX;
}

void FakeCoordinator::SetUnreachable(bool on) {
  MutexLock lock(&mutex_);
  unreachable_ = on;
}

void FakeCoordinator::Answer(const std::string& call,
                             const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (status.ok()) {
    answers_.erase(call);
  } else {
    answers_[call] = status;
  }
}

EvaluateOffer FakeCoordinator::EvaluationOf(uint64_t round,
                                            const Version& candidate) const {
  EvaluateOffer offer;
  offer.task.round = round;
  offer.task.attempt = 1;
  offer.task.candidate = candidate;
  offer.signature =
      Sign({.federation = "cards",
            .version = {candidate.number, candidate.digest, candidate.bytes},
            .layout_digest = layout_digest_});
  return offer;
}

void FakeCoordinator::ForgetRound(uint64_t round) {
  MutexLock lock(&mutex_);
  rounds_.erase(round);
  ++revision_;
}

void FakeCoordinator::HideLayout(bool on) {
  MutexLock lock(&mutex_);
  layout_hidden_ = on;
}

void FakeCoordinator::SetMute(bool on) {
  MutexLock lock(&mutex_);
  mute_ = on;
}

int64_t FakeCoordinator::steps() const {
  MutexLock lock(&mutex_);
  return steps_;
}

void FakeCoordinator::OpenRound(uint64_t round, bool sealed) {
  Open(round, {round, Sha256(Cat("base of ", round)), 1}, sealed);
}

void FakeCoordinator::OpenRoundOn(uint64_t round, const Version& base) {
  Open(round, {base.number, base.digest, base.bytes}, /*sealed=*/true);
}

void FakeCoordinator::CloseRound() {
  MutexLock lock(&mutex_);
  current_round_ = 0;
  evaluation_.reset();
  ++revision_;
}

void FakeCoordinator::Open(uint64_t round, const SignedVersionRef& base,
                           bool sealed) {
  TrainOffer offer;
  RoundStatement& s = offer.terms.statement;
  s.federation = kFederation;
  s.round = round;
  s.attempt = 1;
  s.base = base;
  s.layout_digest = layout_digest_;
  if (sealed) s.sealing_public_key = round_key_.public_key();
  s.codecs = {0};
  s.elements_per_frame = elements_per_frame_;
  s.max_update_bytes = 64 << 20;
  s.weight_max = 1e6;
  s.min_examples = 3;
  s.deadline = clock_->Now() + absl::Hours(1);
  offer.terms.signature = Must(SignStatement(signing_key_, s));
  offer.parameters = {{"epochs", "2"}};
  offer.progress_period = absl::Seconds(5);
  MutexLock lock(&mutex_);
  rounds_[round].offer = std::move(offer);
  current_round_ = round;
  evaluation_.reset();
  ++revision_;
}

void FakeCoordinator::OfferEvaluation(EvaluateOffer offer) {
  MutexLock lock(&mutex_);
  evaluation_ = std::move(offer);
  ++revision_;
}

Signature FakeCoordinator::Sign(const VersionStatement& statement) const {
  return Must(SignStatement(signing_key_, statement));
}

void FakeCoordinator::RefuseBegin(Refused refused, int times) {
  MutexLock lock(&mutex_);
  for (int i = 0; i < times; ++i) refuse_begin_.push_back(refused);
}

void FakeCoordinator::RefuseInStreamAfter(int chunks, Refused refused) {
  MutexLock lock(&mutex_);
  refuse_in_stream_ = {chunks, std::move(refused)};
}

Fault FakeCoordinator::NextStep(std::string what) {
  ++steps_;
  log_.push_back(std::move(what));
  if (unreachable_ || steps_ > dead_after_) return Fault::kRequestLost;
  const auto it = faults_.find(steps_);
  const Fault fault = it == faults_.end() ? Fault::kNone : it->second;
  if (fault != Fault::kNone) log_.back() += " (fault)";
  if (fault == Fault::kRestart) LoseUnsynced();
  return fault;
}

void FakeCoordinator::LoseUnsynced() {
  ++epoch_;
  for (auto& [id, round] : rounds_) {
    if (round.live.has_value()) {
      round.live->chunks.resize(round.live->durable);
    }
  }
  wake_.SignalAll();
}

BeginOutcome FakeCoordinator::BeginLocked(const Manifest& manifest) {
  upload_ids_.insert(manifest.upload_id);
  if (!refuse_begin_.empty()) {
    Refused refused = std::move(refuse_begin_.front());
    refuse_begin_.pop_front();
    return refused;
  }
  const auto it = rounds_.find(manifest.round.round);
  if (it == rounds_.end()) {
    return Refused{RefusalCode::kRoundNotOpen, "no such round", {}};
  }
  Round& round = it->second;
  if (round.receipt.has_value()) return *round.receipt;
  if (!round.live.has_value() ||
      round.live->manifest.upload_id != manifest.upload_id) {
    round.live = Upload();  // clang 14 has no emplace() of a nested class
    round.live->manifest = manifest;
  }
  round.live->durable = round.live->chunks.size();  // synced at admission
  return UploadAccepted{manifest.upload_id, round.live->durable,
                        window_at_begin_ ? window_ : 0};
}

CommitOutcome FakeCoordinator::CommitLocked(const std::string& upload_id,
                                            const Sha256Digest& digest) {
  for (auto& [id, round] : rounds_) {
    if (round.receipt.has_value() &&
        round.committed->manifest.upload_id == upload_id) {
      return *round.receipt;
    }
    if (!round.live.has_value() ||
        round.live->manifest.upload_id != upload_id) {
      continue;
    }
    const auto payload = Unseal(*round.live);
    if (!payload.ok() || Sha256(*payload) != digest ||
        digest != round.live->manifest.payload_digest) {
      return Refused{RefusalCode::kDigestMismatch, "wrong digest", {}};
    }
    round.receipt = ReceiptFor(*round.live);
    if (edit_receipt_) edit_receipt_(*round.receipt);
    round.committed = std::move(round.live);
    round.live.reset();
    ++round.commits;
    ++revision_;
    return *round.receipt;
  }
  return Refused{RefusalCode::kRoundNotOpen, "no such upload", {}};
}

SignedReceipt FakeCoordinator::ReceiptFor(const Upload& upload) const {
  SignedReceipt receipt;
  receipt.statement = {.federation = kFederation,
                       .round = upload.manifest.round.round,
                       .attempt = upload.manifest.round.attempt,
                       .institution = kInstitution,
                       .upload_id = upload.manifest.upload_id,
                       .payload_digest = upload.manifest.payload_digest,
                       .payload_bytes = upload.manifest.payload_bytes,
                       .committed_at = clock_->Now()};
  receipt.signature = Must(SignStatement(signing_key_, receipt.statement));
  return receipt;
}

absl::StatusOr<std::string> FakeCoordinator::Unseal(
    const Upload& upload) const {
  const Manifest& m = upload.manifest;
  if (upload.chunks.size() != m.chunk_count) {
    return absl::FailedPreconditionError("chunks are missing");
  }
  std::string payload;
  if (!m.wrapped_key.has_value()) {
    for (const std::string& chunk : upload.chunks) payload += chunk;
    return payload;
  }
  const SealContext context = {.federation = kFederation,
                               .round = m.round.round,
                               .attempt = m.round.attempt,
                               .institution = kInstitution,
                               .upload_id = m.upload_id};
  CONSILIUM_ASSIGN_OR_RETURN(
      const ContentKey key,
      UnwrapContentKey(*m.wrapped_key, round_key_, context));
  CONSILIUM_ASSIGN_OR_RETURN(ChunkOpener opener,
                             ChunkOpener::Create(key, context, m.chunk_count));
  for (size_t i = 0; i < upload.chunks.size(); ++i) {
    const std::string& chunk = upload.chunks[i];
    std::string frame(chunk.size() - kAeadTagBytes, '\0');
    CONSILIUM_RETURN_IF_ERROR(opener.Open(
        i, AsBytes(chunk),
        std::as_writable_bytes(std::span(frame.data(), frame.size()))));
    payload += frame;
  }
  return payload;
}

std::string FakeCoordinator::CommittedPayload(uint64_t round) {
  MutexLock lock(&mutex_);
  const auto& committed = rounds_.at(round).committed;
  if (!committed.has_value()) {
    ADD_FAILURE() << "round " << round << " has no contribution";
    return "";
  }
  auto payload = Unseal(*committed);
  EXPECT_TRUE(payload.ok()) << payload.status();
  return payload.ok() ? *payload : "";
}

Manifest FakeCoordinator::CommittedManifest(uint64_t round) {
  MutexLock lock(&mutex_);
  return rounds_.at(round).committed->manifest;
}

bool FakeCoordinator::Committed(uint64_t round) const {
  MutexLock lock(&mutex_);
  return rounds_.at(round).receipt.has_value();
}

bool FakeCoordinator::NonceReused() const {
  MutexLock lock(&mutex_);
  return std::any_of(seen_.begin(), seen_.end(),
                     [](const auto& entry) { return entry.second.size() > 1; });
}

size_t FakeCoordinator::uploads_seen() const {
  MutexLock lock(&mutex_);
  return upload_ids_.size();
}

uint64_t FakeCoordinator::max_in_flight() const {
  MutexLock lock(&mutex_);
  return max_in_flight_;
}

int FakeCoordinator::commits(uint64_t round) const {
  MutexLock lock(&mutex_);
  return rounds_.at(round).commits;
}

std::vector<std::string> FakeCoordinator::log() const {
  MutexLock lock(&mutex_);
  return log_;
}

Version PublishVersion(FakeCoordinator& coordinator, const std::string& scratch,
                       uint64_t number, float value) {
  auto file = Must(PosixFileSystem()->Open(
      scratch, {.write = true, .create = true, .truncate = true}));
  std::vector<float> values;
  const auto written = Must(WriteVersionFile(
      coordinator.layout(), coordinator.layout_digest(),
      [&](const TensorSlot& slot) -> absl::StatusOr<std::span<const float>> {
        values.assign(static_cast<size_t>(slot.elements), value);
        return std::span<const float>(values);
      },
      Sha256HasherFactory(), file.get()));
  coordinator.objects()[written.digest] =
      Must(ReadWholeFile(PosixFileSystem(), scratch, 1 << 30));
  return {number, written.digest,
          static_cast<uint64_t>(written.info.file_bytes)};
}

}  // namespace consilium::client::internal

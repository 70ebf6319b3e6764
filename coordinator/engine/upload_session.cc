#include "coordinator/engine/upload_session.h"

#include <algorithm>
#include <utility>

#include "consilium/base/buffer_pool.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

constexpr int64_t kSpoolRecordOverhead = 64;

constexpr size_t kKeptBuffers = 4;

std::optional<Refused> BadManifest(std::string message) {
  return Refused{RefusalCode::kBadManifest, std::move(message)};
}

}  // namespace

int64_t SpoolBytesFor(const UploadManifest& manifest) {
  return manifest.payload_bytes +
         manifest.chunk_count *
             (static_cast<int64_t>(kAeadTagBytes) + kSpoolRecordOverhead) +
         (int64_t{64} << 10);
}

std::optional<Refused> CheckManifest(const UploadManifest& m,
                                     const RoundContext& context) {
  const RoundStatement& s = context.statement;
  const FederationLayout& layout = *context.layout;
  if (m.layout_digest != layout.id) {
    return Refused{RefusalCode::kWrongLayout,
                   Cat("layout ", m.layout_digest.Hex(),
                       " is not this "
                       "federation's layout ",
                       layout.id.Hex(), "; download the layout again")};
  }
  if (m.base_digest != s.base.digest ||
      m.base_version != static_cast<int64_t>(s.base.number)) {
    return Refused{RefusalCode::kWrongBase,
                   Cat("the delta starts from version ", m.base_version, " (",
                       m.base_digest.Hex().substr(0, 12), "), round ", s.round,
                       " is based on version ", s.base.number, " (",
                       s.base.digest.Hex().substr(0, 12),
                       "); train on the announced base")};
  }
  const auto coverage =
      Coverage::FromBytes(m.coverage, layout.layout.groups().size());
  if (!coverage.ok()) {
    return BadManifest(Cat("coverage: ", StdView(coverage.status().message())));
  }
  if (coverage->Empty()) {
    return BadManifest("coverage is empty; decline the round instead");
  }
  if (std::find(s.codecs.begin(), s.codecs.end(), m.codec) == s.codecs.end()) {
    return BadManifest(Cat("codec ", m.codec, " is not accepted in round ",
                           s.round, "; see RoundAnnouncement.codecs"));
  }
  const CoveredSpace space(&layout.layout, *coverage);
  if (m.elements != space.elements()) {
    return BadManifest(Cat("elements is ", m.elements,
                           ", the covered groups "
                           "hold ",
                           space.elements()));
  }
  if (m.elements_per_frame != s.elements_per_frame) {
    return BadManifest(Cat("elements_per_frame is ", m.elements_per_frame,
                           ", round ", s.round, " announced ",
                           s.elements_per_frame));
  }
  const auto found =
      FindCodec(static_cast<CodecId>(m.codec), m.elements_per_frame);
  if (!found.ok()) return BadManifest(std::string(found.status().message()));
  const Codec& codec = **found;
  const int64_t frames = ParameterFrameCount(codec, m.elements);
  if (m.chunk_count != frames + 1) {
    return BadManifest(Cat("chunk_count is ", m.chunk_count, ", ", m.elements,
                           " elements need ", frames + 1));
  }
  if (m.payload_bytes <= 0) {
    return BadManifest("payload_bytes is 0");
  }
  if (m.payload_bytes > static_cast<int64_t>(s.max_update_bytes)) {
    return Refused{
        RefusalCode::kTooLarge,
        Cat("upload of ", FormatBytes(static_cast<uint64_t>(m.payload_bytes)),
            " exceeds max_update_bytes ", FormatBytes(s.max_update_bytes),
            " (federation \"", s.federation, "\")")};
  }
  if (m.payload_bytes > static_cast<int64_t>(kMaxFrameBytes) +
                            MaxParameterBytes(codec, m.elements)) {
    return BadManifest(Cat("payload_bytes is ", m.payload_bytes, ", more than ",
                           m.chunk_count, " frames hold"));
  }
  if (m.sealed != context.sealed()) {
    return Refused{RefusalCode::kUnsealed,
                   context.sealed()
                       ? "this federation demands sealed uploads "
                         "(sealing.mode = \"on\")"
                       : "this federation has sealing off "
                         "(sealing.mode = \"off\"), the upload is sealed"};
  }
  return std::nullopt;
}

BufferPool& UploadSession::PlainBuffers() {
  static BufferPool* const pool =
      new BufferPool(kMaxSealedChunkBytes, kKeptBuffers);
  return *pool;
}

UploadSession::UploadSession(std::shared_ptr<const RoundContext> context,
                             std::shared_ptr<PeerState> peer,
                             UploadManifest manifest, SpaceReservation space)
    : context_(std::move(context)),
      peer_(std::move(peer)),
      manifest_(std::move(manifest)),
      space_(std::move(space)) {}

absl::Status UploadSession::Prepare() {
  MutexLock work(&work_mu_);
  CONSILIUM_ASSIGN_OR_RETURN(
      Coverage coverage,
      Coverage::FromBytes(manifest_.coverage,
                          context_->layout->layout.groups().size()));
  covered_ = std::make_unique<CoveredSpace>(&context_->layout->layout,
                                            std::move(coverage));
  CONSILIUM_ASSIGN_OR_RETURN(const Codec* const codec,
                             FindCodec(static_cast<CodecId>(manifest_.codec),
                                       manifest_.elements_per_frame));
  CONSILIUM_ASSIGN_OR_RETURN(
      checker_,
      ContributionChecker::Create(covered_.get(), codec, context_->limits));
  hasher_ = NewSha256Hasher();
  if (manifest_.sealed) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrappedKey wrapped,
        WrappedKey::FromParts(AsBytes(manifest_.ephemeral_public),
                              AsBytes(manifest_.wrapped_content_key)));
    const SealContext seal =
        context_->SealContextFor(peer_->name, manifest_.upload_id);
    CONSILIUM_ASSIGN_OR_RETURN(
        const ContentKey key,
        UnwrapContentKey(wrapped, *context_->sealing_key, seal));
    CONSILIUM_ASSIGN_OR_RETURN(
        ChunkOpener opener,
        ChunkOpener::Create(key, seal,
                            static_cast<uint64_t>(manifest_.chunk_count)));
    opener_.emplace(std::move(opener));
  }
  return absl::OkStatus();
}

DurableFn UploadSession::MakeDurableFn() {
  // The writer is a member, so it never outlives this.
  return [this](absl::StatusOr<uint64_t> records) {
    // Before the look at the sink: a stream that attaches meanwhile is either
    // seen here, or sees what is written here.
    if (records.ok()) durable_.store(*records);
    std::shared_ptr<UploadSink> sink;
    {
      MutexLock lock(&mu_);
      sink = sink_;
    }
    if (sink == nullptr) return;
    if (records.ok()) {
      sink->OnDurable(*records);
    } else {
      sink->OnBroken(records.status());
    }
  };
}

void UploadSession::Take(std::unique_ptr<SpoolWriter> spool) {
  spool_path_ = spool->path();
  MutexLock work(&work_mu_);
  next_index_ = spool->next_index();
  durable_.store(spool->durable_records());
  spool_ = std::move(spool);
}

absl::Status UploadSession::ReserveRest(SpaceLedger& ledger) {
  MutexLock lock(&mu_);
  return ledger.Resize(
      space_,
      std::max<int64_t>(SpoolBytesFor(manifest_) - received_bytes_.load(), 0),
      Cat("upload ", manifest_.IdHex(), " of ", peer_->name));
}

void UploadSession::ReleaseSpace() {
  MutexLock lock(&mu_);
  space_.Release();
}

absl::StatusOr<std::shared_ptr<UploadSession>> UploadSession::Create(
    std::shared_ptr<const RoundContext> context,
    std::shared_ptr<PeerState> peer, UploadManifest manifest,
    SpaceReservation space, SpoolDir& spools) {
  std::shared_ptr<UploadSession> session(
      new UploadSession(std::move(context), std::move(peer),
                        std::move(manifest), std::move(space)));
  CONSILIUM_RETURN_IF_ERROR(session->Prepare());
  CONSILIUM_RETURN_IF_ERROR(session->OpenNew(spools));
  return session;
}

absl::Status UploadSession::OpenNew(SpoolDir& spools) {
  const UploadManifest& m = manifest_;
  SpoolHeader header;
  header.sealed = m.sealed;
  header.total_chunks = static_cast<uint64_t>(m.chunk_count);
  header.payload_bytes = static_cast<uint64_t>(m.payload_bytes);
  header.max_record_bytes = static_cast<uint32_t>(kMaxSealedChunkBytes);
  header.elements_per_frame = static_cast<uint64_t>(m.elements_per_frame);
  header.manifest = m.Encode();
  header.wrapped_key = m.ephemeral_public + m.wrapped_content_key;
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<SpoolWriter> spool,
      spools.Create(SpoolKey{m.round, m.attempt, peer_->name, m.IdHex()},
                    std::move(header), MakeDurableFn()));
  held_bytes_ = spool->held_bytes();
  {
    MutexLock lock(&mu_);
    space_.Use(held_bytes_);
  }
  Take(std::move(spool));
  return absl::OkStatus();
}

void UploadSession::Attach(std::shared_ptr<UploadSink> sink) {
  std::shared_ptr<UploadSink> old;
  std::optional<Refused> closed;
  {
    MutexLock lock(&mu_);
    old = std::exchange(sink_, sink);
    closed = closed_;
  }
  if (old != nullptr && old != sink) {
    old->OnBroken(absl::AbortedError(
        "another stream of this upload took over; this one ends"));
  }
  if (closed.has_value()) sink->OnRefused(*closed);
}

bool UploadSession::Detach(const UploadSink* sink) {
  MutexLock lock(&mu_);
  if (sink_.get() != sink) return false;
  sink_ = nullptr;
  return true;
}

bool UploadSession::attached() const {
  MutexLock lock(&mu_);
  return sink_ != nullptr;
}

bool UploadSession::Break(const absl::Status& status) {
  std::shared_ptr<UploadSink> sink;
  {
    MutexLock lock(&mu_);
    sink = std::exchange(sink_, nullptr);
  }
  if (sink == nullptr) return false;
  sink->OnBroken(status);
  return true;
}

absl::Status UploadSession::health() {
  MutexLock work(&work_mu_);
  if (spool_ == nullptr) return absl::AbortedError("the session has ended");
  return spool_->health();
}

void UploadSession::Retire() {
  Break(absl::AbortedError("the upload goes on; call BeginUpload to resume"));
  MutexLock work(&work_mu_);
  spool_.reset();
  ReleaseSpace();
}

void UploadSession::Close(Refused refused) {
  std::shared_ptr<UploadSink> sink;
  {
    MutexLock lock(&mu_);
    if (closed_.has_value()) return;
    closed_ = refused;
    space_.Release();  // nothing of it follows
    sink = sink_;
  }
  if (sink != nullptr) sink->OnRefused(refused);
}

absl::StatusOr<std::span<const std::byte>> UploadSession::OpenChunk(
    uint64_t index, std::span<const std::byte> data,
    std::span<std::byte> plain) {
  if (!opener_.has_value()) {
    const absl::Status parsed = ParseFrame(data).status();
    if (!parsed.ok()) return Annotate(parsed, Cat("chunk ", index));
    return data;
  }
  if (data.size() <= kAeadTagBytes || data.size() > kMaxSealedChunkBytes) {
    return absl::InvalidArgumentError(Cat(
        "chunk ", index, " has ", data.size(), " bytes; sealed chunks have ",
        kAeadTagBytes + 1, " to ", kMaxSealedChunkBytes));
  }
  const std::span<std::byte> out = plain.first(data.size() - kAeadTagBytes);
  CONSILIUM_RETURN_IF_ERROR(opener_->Open(index, data, out));
  return std::span<const std::byte>(out);
}

absl::Status UploadSession::Consume(std::span<const std::byte> frame) {
  hasher_->Update(frame);
  return checker_->AddFrame(frame);
}

absl::StatusOr<std::optional<Refused>> UploadSession::Append(
    uint64_t index, std::span<const std::byte> data) {
  CONSILIUM_RETURN_IF_ERROR(Caller{peer_, {}}.Alive());
  {
    MutexLock lock(&mu_);
    if (closed_.has_value()) return closed_;
  }
  MutexLock work(&work_mu_);
  if (spool_ == nullptr) {
    return absl::AbortedError(
        "the upload goes on elsewhere; call BeginUpload to resume");
  }
  if (index < next_index_) return std::nullopt;
  if (index >= static_cast<uint64_t>(manifest_.chunk_count)) {
    return absl::InvalidArgumentError(
        Cat("chunk ", index, " is beyond the declared chunk_count ",
            manifest_.chunk_count, "; call CommitUpload after the last one"));
  }
  if (index > next_index_) {
    return absl::InvalidArgumentError(
        Cat("chunk ", index, " of ", manifest_.chunk_count,
            " is out of order: chunk ", next_index_,
            " is next; call BeginUpload to resume"));
  }
  const int64_t plain_bytes =
      received_bytes_.load() + static_cast<int64_t>(data.size()) -
      (manifest_.sealed ? static_cast<int64_t>((index + 1) * kAeadTagBytes)
                        : 0);
  if (plain_bytes > manifest_.payload_bytes) {
    return absl::InvalidArgumentError(
        Cat("chunk ", index, " goes beyond the declared payload_bytes ",
            manifest_.payload_bytes, " by ",
            plain_bytes - manifest_.payload_bytes, " bytes"));
  }
  const BufferPool::Buffer plain = PlainBuffers().Get();
  const auto frame = OpenChunk(index, data, plain.bytes());
  if (!frame.ok()) {
    if (!absl::IsDataLoss(frame.status())) return frame.status();
    return std::optional<Refused>(
        Refused{RefusalCode::kAuthentication,
                Cat(StdView(frame.status().message()),
                    "; resume from the last acknowledged chunk"),
                absl::Seconds(1)});
  }
  const absl::Status spooled = spool_->Append(index, data);
  if (absl::IsResourceExhausted(spooled)) {
    return std::optional<Refused>(Refused{RefusalCode::kNoSpace,
                                          std::string(spooled.message()),
                                          absl::Seconds(30)});
  }
  CONSILIUM_RETURN_IF_ERROR(spooled);
  const int64_t before = received_bytes_.load();
  const int64_t after = before + static_cast<int64_t>(data.size());
  received_bytes_.store(after);
  {
    MutexLock lock(&mu_);
    space_.Use(std::max(after, held_bytes_) - std::max(before, held_bytes_));
  }
  next_index_ = index + 1;
  const absl::Status checked = Consume(*frame);
  if (!checked.ok()) {
    ReleaseSpace();  // nothing of it follows
    return std::optional<Refused>(
        Refused{RefusalCode::kQuarantined, std::string(checked.message())});
  }
  return std::nullopt;
}

absl::StatusOr<UploadResult> UploadSession::Finish() {
  MutexLock work(&work_mu_);
  if (result_.has_value()) return *result_;
  if (spool_ == nullptr) return absl::AbortedError("the session has ended");
  if (!spool_->complete()) {
    return absl::FailedPreconditionError(
        Cat("upload has ", next_index_, " of ", manifest_.chunk_count,
            " chunks; send the rest before CommitUpload"));
  }
  if (spool_->durable_records() < spool_->header().total_chunks) {
    CONSILIUM_RETURN_IF_ERROR(spool_->Flush());
  }
  // Good or bad, nothing follows.
  ReleaseSpace();
  CONSILIUM_ASSIGN_OR_RETURN(ContributionStats stats,
                             std::move(*checker_).Finish());
  UploadResult result{std::move(stats), hasher_->Finish()};
  if (result.stats.payload_bytes != manifest_.payload_bytes) {
    return absl::DataLossError(Cat("payload has ", result.stats.payload_bytes,
                                   " bytes, the manifest declares ",
                                   manifest_.payload_bytes));
  }
  if (result.payload_digest != manifest_.payload_digest) {
    return absl::DataLossError(
        Cat("payload has digest ", result.payload_digest.Hex(),
            ", the manifest declares ", manifest_.payload_digest.Hex()));
  }
  result_ = result;
  return result;
}

}  // namespace consilium

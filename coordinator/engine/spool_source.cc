#include "coordinator/engine/spool_source.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "consilium/aggregation/frame.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

// A contribution was let in under the limits of its day, which may be others by
// now.
constexpr MetadataLimits kAnyMetadata = {
    .max_metrics = kMaxFrameBodyBytes,
    .max_metric_name_bytes = kMaxFrameBodyBytes};

// Aligned, so that float32 elements are read where they were opened.
struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBuffer = std::unique_ptr<std::byte, FreeDeleter>;

AlignedBuffer NewBuffer(size_t bytes) {
  constexpr size_t kAlignment = 4096;
  void* const memory = std::aligned_alloc(
      kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedBuffer(static_cast<std::byte*>(memory));
}

}  // namespace

// Reads and opens one frame at a time into its own buffer.
class SpoolSource::FrameReader {
 public:
  static absl::StatusOr<std::unique_ptr<FrameReader>> Create(
      const SpoolSource& source) {
    std::unique_ptr<FrameReader> reader(new FrameReader(source));
    CONSILIUM_ASSIGN_OR_RETURN(reader->opener_, source.NewOpener());
    return reader;
  }

  // Valid until the next call.
  absl::StatusOr<std::span<const std::byte>> Read(uint64_t index) {
    const std::span<std::byte> buffer(buffer_.get(), kMaxSealedChunkBytes);
    CONSILIUM_ASSIGN_OR_RETURN(const SpoolReader::Record record,
                               source_.reader_->ReadRecord(index, buffer));
    if (!opener_.has_value()) return buffer.first(record.bytes);
    if (record.bytes <= kAeadTagBytes) {
      return absl::DataLossError(Cat("chunk ", index, " is too short"));
    }
    const std::span<std::byte> plain =
        buffer.first(record.bytes - kAeadTagBytes);
    CONSILIUM_RETURN_IF_ERROR(
        opener_->Open(index, buffer.first(record.bytes), plain));
    return plain;
  }

 private:
  explicit FrameReader(const SpoolSource& source)
      : source_(source), buffer_(NewBuffer(kMaxSealedChunkBytes)) {}

  const SpoolSource& source_;
  const AlignedBuffer buffer_;
  std::optional<ChunkOpener> opener_;
};

// Reads, opens and hands out the frames of one spool in pieces, so that a fold
// of many contributions needs little memory and finds it in the cache. A seal
// or checksum shows at the end of its frame only: see Finish().
class SpoolSource::Cursor final : public ContributionCursor {
 public:
  static absl::StatusOr<std::unique_ptr<ContributionCursor>> Create(
      const SpoolSource& source, int64_t first) {
    std::unique_ptr<Cursor> cursor(new Cursor(source, first));
    CONSILIUM_ASSIGN_OR_RETURN(cursor->opener_, source.NewOpener());
    return cursor;
  }

  absl::StatusOr<std::span<const float>> Next(size_t max) override {
    while (pending_.empty()) CONSILIUM_RETURN_IF_ERROR(Load());
    const std::span<const float> out =
        pending_.first(std::min(max, pending_.size()));
    pending_ = pending_.subspan(out.size());
    position_ += static_cast<int64_t>(out.size());
    return out;
  }

  absl::Status Finish() override {
    while (at_ < end_) CONSILIUM_RETURN_IF_ERROR(LoadPiece());
    pending_ = {};
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kPieceBytes = size_t{64} << 10;

  Cursor(const SpoolSource& source, int64_t first)
      : source_(source),
        position_(first),
        buffer_(NewBuffer(kPieceBytes + kAeadTagBytes)) {}

  absl::Status Load() {
    if (at_ == end_) CONSILIUM_RETURN_IF_ERROR(BeginFrame());
    CONSILIUM_RETURN_IF_ERROR(LoadPiece());
    const int64_t skip = std::min(std::max(position_ - first_, int64_t{0}),
                                  static_cast<int64_t>(pending_.size()));
    pending_ = pending_.subspan(static_cast<size_t>(skip));
    return absl::OkStatus();
  }

  absl::Status BeginFrame() {
    const UploadManifest& m = source_.manifest_;
    if (position_ >= m.elements) {
      return absl::OutOfRangeError(Cat("read beyond the ", m.elements,
                                       " elements of upload ", m.IdHex()));
    }
    const int64_t per_frame = source_.elements_per_frame();
    const int64_t index = position_ / per_frame;
    first_ = index * per_frame;
    elements_ = std::min(per_frame, m.elements - first_);
    frame_ = static_cast<uint64_t>(index) + 1;
    const size_t expected =
        kFrameHeaderBytes + static_cast<size_t>(elements_) * sizeof(float);
    const size_t bytes = source_.reader_->record_bytes(frame_);
    if (bytes != expected + (opener_.has_value() ? kAeadTagBytes : 0)) {
      return Misplaced();
    }
    if (opener_.has_value()) CONSILIUM_RETURN_IF_ERROR(opener_->Begin(frame_));
    at_ = 0;
    end_ = expected;
    crc_ = 0;
    return absl::OkStatus();
  }

  // The next piece of the frame; its floats become pending, of which the first
  // is covered element first_.
  absl::Status LoadPiece() {
    const size_t bytes = std::min(kPieceBytes, end_ - at_);
    const bool last = at_ + bytes == end_;
    const size_t tag = last && opener_.has_value() ? kAeadTagBytes : 0;
    const std::span<std::byte> read(buffer_.get(), bytes + tag);
    CONSILIUM_RETURN_IF_ERROR(source_.reader_->ReadPart(frame_, at_, read));
    std::span<std::byte> piece = read.first(bytes);
    if (opener_.has_value()) {
      CONSILIUM_RETURN_IF_ERROR(opener_->Update(piece, piece));
    }
    first_ += static_cast<int64_t>(loaded_);
    if (at_ == 0) {
      CONSILIUM_RETURN_IF_ERROR(CheckHeader(piece));
      piece = piece.subspan(kFrameHeaderBytes);
    }
    if (!opener_.has_value()) crc_ = kernels::Crc32c(piece, crc_);
    at_ += bytes;
    if (last) CONSILIUM_RETURN_IF_ERROR(CheckEnd(read.subspan(bytes)));
    loaded_ = last ? 0 : piece.size() / sizeof(float);
    pending_ = {reinterpret_cast<const float*>(piece.data()),
                piece.size() / sizeof(float)};
    return absl::OkStatus();
  }

  absl::Status CheckHeader(std::span<const std::byte> piece) {
    CONSILIUM_ASSIGN_OR_RETURN(const FrameHeader header,
                               ParseFrameHeader(piece));
    if (header.kind != FrameKind::kParameters ||
        header.codec != CodecId::kF32 || header.codec_header_bytes != 0 ||
        header.first_element != static_cast<uint64_t>(first_) ||
        std::cmp_not_equal(header.elements, elements_)) {
      return Misplaced();
    }
    expected_crc_ = header.crc32c;
    return absl::OkStatus();
  }

  // Sealed chunks are authenticated; plain ones have only their checksum.
  absl::Status CheckEnd(std::span<const std::byte> tag) {
    if (opener_.has_value()) return opener_->Finish(tag);
    if (crc_ == expected_crc_) return absl::OkStatus();
    return absl::DataLossError(Cat("chunk ", frame_, " of upload ",
                                   source_.manifest_.IdHex(),
                                   ": the checksum is wrong"));
  }

  absl::Status Misplaced() const {
    return absl::DataLossError(
        Cat("chunk ", frame_, " of upload ", source_.manifest_.IdHex(),
            " holds other elements than its place says"));
  }

  const SpoolSource& source_;
  int64_t position_;  // covered element that Next() gives out
  const AlignedBuffer buffer_;
  std::optional<ChunkOpener> opener_;  // unset: not sealed
  std::span<const float> pending_;
  // The frame in hand: its record, its bytes read so far and in all, the
  // covered element at the front of `pending_`, and how many it began with.
  uint64_t frame_ = 0;
  size_t at_ = 0;
  size_t end_ = 0;
  int64_t first_ = 0;
  int64_t elements_ = 0;
  size_t loaded_ = 0;
  uint32_t crc_ = 0;
  uint32_t expected_crc_ = 0;
};

absl::StatusOr<std::unique_ptr<SpoolSource>> SpoolSource::Create(
    std::shared_ptr<const RoundContext> context, std::string institution,
    const SpoolDir& spools, const std::string& path) {
  std::unique_ptr<SpoolSource> source(
      new SpoolSource(std::move(context), std::move(institution)));
  CONSILIUM_ASSIGN_OR_RETURN(source->reader_, spools.OpenReader(path));
  const SpoolHeader& header = source->reader_->header();
  if (!source->reader_->complete()) {
    return absl::DataLossError(Cat(path, " has ", source->reader_->records(),
                                   " of ", header.total_chunks,
                                   " chunks although it was committed"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(source->manifest_,
                             UploadManifest::Decode(header.manifest));
  const UploadManifest& m = source->manifest_;
  const RoundContext& round = *source->context_;
  CONSILIUM_ASSIGN_OR_RETURN(
      source->codec_,
      FindCodec(static_cast<CodecId>(m.codec), m.elements_per_frame));
  CONSILIUM_ASSIGN_OR_RETURN(
      Coverage coverage,
      Coverage::FromBytes(m.coverage, round.layout->layout.groups().size()));
  source->space_ = std::make_unique<CoveredSpace>(&round.layout->layout,
                                                  std::move(coverage));
  if (m.sealed) {
    if (!round.sealing_key.has_value()) {
      return absl::FailedPreconditionError(
          Cat("the key of round ", m.round,
              " is destroyed; its sealed "
              "contributions cannot be opened any more"));
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrappedKey wrapped,
        WrappedKey::FromParts(AsBytes(m.ephemeral_public),
                              AsBytes(m.wrapped_content_key)));
    CONSILIUM_ASSIGN_OR_RETURN(
        ContentKey key,
        UnwrapContentKey(
            wrapped, *round.sealing_key,
            round.SealContextFor(source->institution_, m.upload_id)));
    source->key_.emplace(std::move(key));
  }
  return source;
}

absl::StatusOr<std::unique_ptr<ContributionCursor>> SpoolSource::Open(
    int64_t first) const {
  return Cursor::Create(*this, first);
}

absl::StatusOr<std::optional<ChunkOpener>> SpoolSource::NewOpener() const {
  if (!key_.has_value()) return std::optional<ChunkOpener>();
  CONSILIUM_ASSIGN_OR_RETURN(
      ChunkOpener opener,
      ChunkOpener::Create(
          *key_, context_->SealContextFor(institution_, manifest_.upload_id),
          static_cast<uint64_t>(manifest_.chunk_count)));
  return std::optional<ChunkOpener>(std::move(opener));
}

absl::StatusOr<ContributionMetadata> SpoolSource::ReadMetadata() const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<FrameReader> frames,
                             FrameReader::Create(*this));
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                             frames->Read(0));
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView frame, ParseFrame(bytes));
  return DecodeMetadata(frame, space_->coverage().groups(), kAnyMetadata);
}

absl::StatusOr<ContributionStats> SpoolSource::Verify(
    const CancelToken& cancel) const {
  ContributionLimits limits = context_->limits;
  limits.metadata = kAnyMetadata;
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<FrameReader> frames,
                             FrameReader::Create(*this));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<ContributionChecker> checker,
      ContributionChecker::Create(space_.get(), codec_, limits));
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  for (int64_t i = 0; i < manifest_.chunk_count; ++i) {
    CONSILIUM_RETURN_IF_ERROR(cancel.status());
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> frame,
                               frames->Read(static_cast<uint64_t>(i)));
    hasher->Update(frame);
    CONSILIUM_RETURN_IF_ERROR(checker->AddFrame(frame));
  }
  const Sha256Digest digest = hasher->Finish();
  if (digest != manifest_.payload_digest) {
    return absl::DataLossError(Cat("payload has digest ", digest.Hex(),
                                   ", the manifest declares ",
                                   manifest_.payload_digest.Hex()));
  }
  return std::move(*checker).Finish();
}

}  // namespace consilium

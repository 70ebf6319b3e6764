#include "coordinator/engine/spool_source.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "consilium/aggregation/codec.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

// Page-aligned, so that float32 frames are read where they were opened.
struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBuffer = std::unique_ptr<std::byte, FreeDeleter>;

AlignedBuffer NewBuffer() {
  void* const memory = std::aligned_alloc(4096, kMaxSealedChunkBytes);
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
    if (source.key_.has_value()) {
      CONSILIUM_ASSIGN_OR_RETURN(
          ChunkOpener opener,
          ChunkOpener::Create(
              *source.key_,
              source.context_->SealContextFor(source.institution_,
                                              source.manifest_.upload_id),
              static_cast<uint64_t>(source.manifest_.chunk_count)));
      reader->opener_.emplace(std::move(opener));
    }
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
      : source_(source), buffer_(NewBuffer()) {}

  const SpoolSource& source_;
  const AlignedBuffer buffer_;
  std::optional<ChunkOpener> opener_;
};

class SpoolSource::Cursor final : public ContributionCursor {
 public:
  Cursor(const SpoolSource& source, std::unique_ptr<FrameReader> frames,
         int64_t first)
      : source_(source), frames_(std::move(frames)), position_(first) {}

  absl::StatusOr<std::span<const float>> Next(size_t max) override {
    if (pending_.empty()) CONSILIUM_RETURN_IF_ERROR(Load());
    const std::span<const float> out =
        pending_.first(std::min(max, pending_.size()));
    pending_ = pending_.subspan(out.size());
    position_ += static_cast<int64_t>(out.size());
    return out;
  }

 private:
  absl::Status Load() {
    const UploadManifest& m = source_.manifest_;
    if (position_ >= m.elements) {
      return absl::OutOfRangeError(Cat("read beyond the ", m.elements,
                                       " elements of upload ", m.IdHex()));
    }
    const int64_t frame_index = position_ / m.elements_per_frame;
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::span<const std::byte> frame,
        frames_->Read(static_cast<uint64_t>(frame_index) + 1));
    // Sealed chunks are authenticated; plain ones have only their checksum.
    CONSILIUM_ASSIGN_OR_RETURN(
        const DecodedFrame decoded,
        DecodeParameterFrame(
            frame, m.sealed ? CrcCheck::kSkip : CrcCheck::kVerify, &scratch_));
    const int64_t skip = position_ - decoded.first_element;
    if (decoded.first_element != frame_index * m.elements_per_frame ||
        skip >= static_cast<int64_t>(decoded.values.size())) {
      return absl::DataLossError(
          Cat("chunk ", frame_index + 1, " of upload ", m.IdHex(),
              " holds other elements than its place says"));
    }
    pending_ = decoded.values.subspan(static_cast<size_t>(skip));
    return absl::OkStatus();
  }

  const SpoolSource& source_;
  const std::unique_ptr<FrameReader> frames_;
  int64_t position_;
  std::span<const float> pending_;
  std::vector<float> scratch_;
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
  CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<FrameReader> frames,
                             FrameReader::Create(*this));
  return std::make_unique<Cursor>(*this, std::move(frames), first);
}

absl::StatusOr<ContributionMetadata> SpoolSource::ReadMetadata() const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<FrameReader> frames,
                             FrameReader::Create(*this));
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                             frames->Read(0));
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView frame, ParseFrame(bytes));
  return DecodeMetadata(frame, space_->coverage().groups(),
                        context_->limits.metadata);
}

absl::StatusOr<ContributionStats> SpoolSource::Verify() const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<FrameReader> frames,
                             FrameReader::Create(*this));
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<ContributionChecker> checker,
      ContributionChecker::Create(
          space_.get(), FindCodec(static_cast<CodecId>(manifest_.codec)),
          context_->limits));
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  for (int64_t i = 0; i < manifest_.chunk_count; ++i) {
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

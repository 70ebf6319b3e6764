#include "client_sdk/session/payload_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "consilium/aggregation/delta.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium::client::internal {
namespace {

// CoverageFromNames has a code for each mistake; to the caller of Submit() all
// of them are a bad argument.
absl::StatusOr<Coverage> CoverageOf(const Layout& layout,
                                    std::span<const std::string_view> names) {
  auto coverage = CoverageFromNames(layout, names);
  if (!coverage.ok()) {
    return absl::InvalidArgumentError(
        Cat("update: ", StdView(coverage.status().message())));
  }
  return coverage;
}

class UpdateReader final : public DeltaReader {
 public:
  UpdateReader(Coverage coverage, std::vector<std::span<const float>> by_slot)
      : coverage_(std::move(coverage)), by_slot_(std::move(by_slot)) {}

  const Coverage& coverage() const override { return coverage_; }
  std::span<const float> InPlace(size_t slot, int64_t first,
                                 size_t count) override {
    return by_slot_[slot].subspan(static_cast<size_t>(first), count);
  }
  absl::Status Read(size_t slot, int64_t first, std::span<float> out) override {
    std::memcpy(out.data(), by_slot_[slot].data() + first, out.size_bytes());
    return absl::OkStatus();
  }

 private:
  const Coverage coverage_;
  const std::vector<std::span<const float>> by_slot_;
};

class SourceReader final : public DeltaReader {
 public:
  SourceReader(const Layout* layout, Coverage coverage,
               const UpdateSource* source)
      : layout_(layout), coverage_(std::move(coverage)), source_(source) {}

  const Coverage& coverage() const override { return coverage_; }
  std::span<const float> InPlace(size_t, int64_t, size_t) override {
    return {};
  }
  absl::Status Read(size_t slot, int64_t first, std::span<float> out) override {
    return source_->fill(layout_->slots()[slot].name, first, out);
  }

 private:
  const Layout* const layout_;
  const Coverage coverage_;
  const UpdateSource* const source_;
};

absl::Status CheckFinite(std::span<const float> values, const TensorSlot& slot,
                         int64_t first) {
  if (kernels::ScanStats(values).non_finite == 0) return absl::OkStatus();
  const auto bad = std::find_if(values.begin(), values.end(),
                                [](float x) { return !std::isfinite(x); });
  return absl::InvalidArgumentError(
      Cat("update: tensor ", slot.name, " has ", *bad, " at element ",
          first + (bad - values.begin()), "; every element must be finite"));
}

// The output side: hashes, seals and writes frames in order.
class FrameSink {
 public:
  FrameSink(File* out, ChunkSealer* sealer, uint64_t total_bytes,
            const ProgressCallback* progress)
      : out_(out),
        sealer_(sealer),
        total_bytes_(total_bytes),
        progress_(progress),
        hasher_(NewSha256Hasher()) {}

  // The frame is the first `bytes` of `buffer`, which has room for a tag.
  absl::Status Add(std::span<std::byte> buffer, size_t bytes) {
    const std::span<const std::byte> frame = buffer.first(bytes);
    hasher_->Update(frame);
    std::span<const std::byte> chunk = frame;
    if (sealer_ != nullptr) {
      const std::span<std::byte> sealed = buffer.first(bytes + kAeadTagBytes);
      CONSILIUM_RETURN_IF_ERROR(
          sealer_->Seal(payload_.frame_bytes.size(), frame, sealed));
      chunk = sealed;
    }
    CONSILIUM_RETURN_IF_ERROR(out_->WriteAt(written_, chunk));
    written_ += static_cast<int64_t>(chunk.size());
    payload_.bytes += frame.size();
    payload_.frame_bytes.push_back(static_cast<uint32_t>(frame.size()));
    // A tenth of a second's worth of frames between two calls, roughly.
    if (*progress_ && payload_.frame_bytes.size() % 64 == 0) {
      (*progress_)({TransferProgress::Phase::kEncode, payload_.bytes,
                    std::max(total_bytes_, payload_.bytes)});
    }
    return absl::OkStatus();
  }

  EncodedPayload Finish(uint64_t elements) && {
    payload_.elements = elements;
    payload_.digest = hasher_->Finish();
    if (*progress_) {
      (*progress_)(
          {TransferProgress::Phase::kEncode, payload_.bytes, payload_.bytes});
    }
    return std::move(payload_);
  }

 private:
  File* const out_;
  ChunkSealer* const sealer_;
  const uint64_t total_bytes_;
  const ProgressCallback* const progress_;
  const std::unique_ptr<Hasher> hasher_;
  EncodedPayload payload_;
  int64_t written_ = 0;
};

// Walks the covered slots as one flat sequence of elements.
class CoveredWalk {
 public:
  CoveredWalk(const Layout* layout, DeltaReader* reader)
      : layout_(layout), reader_(reader) {
    SkipUncovered();
  }

  // The next `count` elements, which must be there: in place when one slot
  // holds them all, else gathered in `scratch`.
  absl::StatusOr<std::span<const float>> Take(size_t count,
                                              std::span<float> scratch) {
    const TensorSlot& whole = layout_->slots()[slot_];
    if (first_ + static_cast<int64_t>(count) <= whole.elements) {
      const auto values = reader_->InPlace(slot_, first_, count);
      if (!values.empty()) {
        CONSILIUM_RETURN_IF_ERROR(CheckFinite(values, whole, first_));
        Advance(static_cast<int64_t>(count));
        return values;
      }
    }
    for (size_t done = 0; done < count;) {
      const TensorSlot& slot = layout_->slots()[slot_];
      const size_t here = static_cast<size_t>(std::min<int64_t>(
          static_cast<int64_t>(count - done), slot.elements - first_));
      const std::span<float> part = scratch.subspan(done, here);
      CONSILIUM_RETURN_IF_ERROR(reader_->Read(slot_, first_, part));
      CONSILIUM_RETURN_IF_ERROR(CheckFinite(part, slot, first_));
      Advance(static_cast<int64_t>(here));
      done += here;
    }
    return std::span<const float>(scratch.first(count));
  }

 private:
  void Advance(int64_t count) {
    first_ += count;
    if (first_ == layout_->slots()[slot_].elements) {
      ++slot_;
      first_ = 0;
      SkipUncovered();
    }
  }
  void SkipUncovered() {
    while (slot_ < layout_->slots().size() &&
           !reader_->coverage().Has(layout_->slots()[slot_].group)) {
      ++slot_;
    }
  }

  const Layout* const layout_;
  DeltaReader* const reader_;
  size_t slot_ = 0;
  int64_t first_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeltaReader>> ReaderOf(const Layout& layout,
                                                      const Update& update) {
  std::vector<std::string_view> names;
  names.reserve(update.tensors.size());
  for (const NamedTensor& tensor : update.tensors) {
    names.push_back(tensor.name);
  }
  CONSILIUM_ASSIGN_OR_RETURN(Coverage coverage, CoverageOf(layout, names));
  std::vector<std::span<const float>> by_slot(layout.slots().size());
  for (const NamedTensor& tensor : update.tensors) {
    const size_t slot = *layout.FindSlot(tensor.name);
    const int64_t elements = layout.slots()[slot].elements;
    if (static_cast<int64_t>(tensor.delta.size()) != elements) {
      return absl::InvalidArgumentError(
          Cat("update: tensor ", tensor.name, " has ", tensor.delta.size(),
              " elements; the layout has ", elements));
    }
    by_slot[slot] = tensor.delta;
  }
  return std::make_unique<UpdateReader>(std::move(coverage),
                                        std::move(by_slot));
}

absl::StatusOr<std::unique_ptr<DeltaReader>> ReaderOf(
    const Layout& layout, const UpdateSource& source) {
  if (!source.fill) {
    return absl::InvalidArgumentError("update: the source has no `fill`");
  }
  if (source.tensors.empty()) {
    return std::make_unique<SourceReader>(&layout, Coverage::All(layout),
                                          &source);
  }
  const std::vector<std::string_view> names(source.tensors.begin(),
                                            source.tensors.end());
  CONSILIUM_ASSIGN_OR_RETURN(Coverage coverage, CoverageOf(layout, names));
  return std::make_unique<SourceReader>(&layout, std::move(coverage), &source);
}

absl::StatusOr<ContributionMetadata> MetadataOf(const Layout& layout,
                                                const Coverage& coverage,
                                                const LocalReport& report) {
  if (report.examples == 0) {
    return absl::InvalidArgumentError(
        "update: report.examples is 0; decline the round instead");
  }
  ContributionMetadata metadata;
  metadata.examples = report.examples;
  for (const auto& [name, tokens] : report.group_tokens) {
    CONSILIUM_ASSIGN_OR_RETURN(const GroupName group, GroupName::Parse(name));
    const std::optional<uint32_t> index = layout.FindGroup(group);
    if (!index.has_value()) {
      return absl::InvalidArgumentError(
          Cat("update: group_tokens names ", name,
              ", which is no group of the layout"));
    }
    // Tokens of a group that is not handed in weigh nothing.
    if (coverage.Has(*index)) metadata.group_tokens.push_back({*index, tokens});
  }
  for (const auto& [name, value] : report.metrics) {
    metadata.metrics.push_back({name, value});
  }
  return metadata;
}

uint64_t MaxPayloadBytes(const Codec& codec, int64_t elements,
                         size_t metadata_bytes) {
  return metadata_bytes +
         static_cast<uint64_t>(MaxParameterBytes(codec, elements));
}

uint64_t ChunkCount(const Codec& codec, int64_t elements) {
  return 1 + static_cast<uint64_t>(ParameterFrameCount(codec, elements));
}

absl::StatusOr<EncodedPayload> EncodePayload(
    const Layout& layout, const Codec& codec, DeltaReader& reader,
    std::span<const std::byte> metadata_frame, ChunkSealer* sealer, File& out,
    const ProgressCallback& progress, const CancelToken& cancel) {
  const int64_t elements = CoveredSpace(&layout, reader.coverage()).elements();
  const int64_t per_frame = codec.elements_per_frame();
  const auto largest = static_cast<size_t>(std::min(elements, per_frame));
  FrameSink sink(&out, sealer,
                 MaxPayloadBytes(codec, elements, metadata_frame.size()),
                 &progress);

  // Not zeroed: every byte that is read is written before.
  const auto scratch = std::make_unique_for_overwrite<float[]>(largest);
  const size_t frame_bytes = codec.MaxFrameBytes(static_cast<int64_t>(largest));
  const size_t buffer_bytes =
      std::max(frame_bytes, metadata_frame.size()) + kAeadTagBytes;
  const auto memory = std::make_unique_for_overwrite<std::byte[]>(buffer_bytes);
  const std::span<std::byte> buffer(memory.get(), buffer_bytes);
  std::copy(metadata_frame.begin(), metadata_frame.end(), buffer.begin());
  CONSILIUM_RETURN_IF_ERROR(sink.Add(buffer, metadata_frame.size()));
  CoveredWalk walk(&layout, &reader);
  for (int64_t first = 0; first < elements; first += per_frame) {
    if (cancel.cancelled()) return cancel.status();
    const auto count =
        static_cast<size_t>(std::min(per_frame, elements - first));
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::span<const float> values,
        walk.Take(count, std::span<float>(scratch.get(), largest)));
    const size_t bytes = codec.Encode(values, first, buffer.first(frame_bytes));
    CONSILIUM_RETURN_IF_ERROR(sink.Add(buffer, bytes));
  }
  return std::move(sink).Finish(static_cast<uint64_t>(elements));
}

}  // namespace consilium::client::internal

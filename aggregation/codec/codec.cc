#include "consilium/aggregation/codec.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

static_assert(std::endian::native == std::endian::little,
              "raw float32 frames are little-endian in memory");
static_assert(kFrameHeaderBytes + kMaxElementsPerFrame * sizeof(float) <=
              kMaxFrameBytes);
static_assert(kFrameSizes.back() % 256 == 0);

// The elements as they are.
class F32Codec final : public Codec {
 public:
  static constexpr CodecId kId = CodecId::kF32;
  static constexpr std::string_view kName = "f32";

  explicit F32Codec(int64_t elements_per_frame)
      : elements_per_frame_(elements_per_frame) {}

  CodecId id() const override { return kId; }
  std::string_view name() const override { return kName; }
  int64_t elements_per_frame() const override { return elements_per_frame_; }
  size_t MaxFrameBytes(int64_t elements) const override {
    return kFrameHeaderBytes + static_cast<size_t>(elements) * sizeof(float);
  }

  size_t Encode(std::span<const float> values, int64_t first_element,
                std::span<std::byte> out) const override {
    const auto elements = static_cast<int64_t>(values.size());
    CONSILIUM_CHECK(elements > 0 && elements <= elements_per_frame());
    const std::span<std::byte> frame = out.first(MaxFrameBytes(elements));
    std::memcpy(frame.data() + kFrameHeaderBytes, values.data(),
                values.size_bytes());
    SealFrameHeader({.kind = FrameKind::kParameters,
                     .codec = id(),
                     .first_element = static_cast<uint64_t>(first_element),
                     .elements = static_cast<uint32_t>(elements)},
                    frame);
    return frame.size();
  }

  absl::StatusOr<DecodedFrame> Decode(
      const FrameView& frame, std::vector<float>* scratch) const override {
    const size_t elements = frame.header.elements;
    if (elements == 0 || !frame.codec_header.empty() ||
        frame.body.size() != elements * sizeof(float)) {
      return absl::InvalidArgumentError(Cat("frame: ", frame.body.size(),
                                            " bytes of body are not ", elements,
                                            " float32 elements"));
    }
    DecodedFrame decoded;
    decoded.first_element = static_cast<int64_t>(frame.header.first_element);
    const std::byte* const body = frame.body.data();
    if (reinterpret_cast<uintptr_t>(body) % alignof(float) == 0) {
      decoded.values = {reinterpret_cast<const float*>(body), elements};
    } else {
      scratch->resize(elements);
      std::memcpy(scratch->data(), body, frame.body.size());
      decoded.values = *scratch;
    }
    return decoded;
  }

 private:
  const int64_t elements_per_frame_;
};

// One codec in every frame size.
template <typename T>
const Codec* OfSize(size_t index) {
  static const auto* const all = [] {
    auto* const made = new std::vector<T>;
    for (const int64_t size : kFrameSizes) made->emplace_back(size);
    return made;
  }();
  return &(*all)[index];
}

struct Entry {
  CodecId id;
  std::string_view name;
  const Codec* (*of_size)(size_t index);
};
constexpr Entry kCodecs[] = {
    {F32Codec::kId, F32Codec::kName, &OfSize<F32Codec>}};

const Entry* FindEntry(CodecId id) {
  const auto* const it =
      std::find_if(std::begin(kCodecs), std::end(kCodecs),
                   [&](const Entry& e) { return e.id == id; });
  return it == std::end(kCodecs) ? nullptr : it;
}

absl::Status NoSuchCodec(CodecId id) {
  return absl::UnimplementedError(
      Cat("codec ", static_cast<int>(id), " is not in this build"));
}

}  // namespace

int64_t FrameSizeFor(int64_t frames, int64_t bytes) {
  for (const int64_t size : kFrameSizes) {
    const int64_t frame = static_cast<int64_t>(kFrameHeaderBytes) +
                          size * static_cast<int64_t>(sizeof(float));
    if (frames <= bytes / frame) return size;
  }
  return kFrameSizes.back();
}

std::string_view CodecName(CodecId id) {
  const Entry* const entry = FindEntry(id);
  return entry == nullptr ? std::string_view() : entry->name;
}

absl::StatusOr<const Codec*> FindCodec(CodecId id, int64_t elements_per_frame) {
  const Entry* const entry = FindEntry(id);
  if (entry == nullptr) return NoSuchCodec(id);
  const auto* const size =
      std::find(kFrameSizes.begin(), kFrameSizes.end(), elements_per_frame);
  if (size == kFrameSizes.end()) {
    std::string sizes;
    for (const int64_t s : kFrameSizes) {
      CatInto(sizes, sizes.empty() ? "" : ", ", s);
    }
    return absl::InvalidArgumentError(Cat("elements_per_frame is ",
                                          elements_per_frame,
                                          ", must be one of ", sizes));
  }
  return entry->of_size(static_cast<size_t>(size - kFrameSizes.begin()));
}

int64_t ParameterFrameCount(const Codec& codec, int64_t elements) {
  const int64_t per_frame = codec.elements_per_frame();
  return elements / per_frame + (elements % per_frame != 0 ? 1 : 0);
}

int64_t MaxParameterBytes(const Codec& codec, int64_t elements) {
  const int64_t per_frame = codec.elements_per_frame();
  const int64_t rest = elements % per_frame;
  const auto bytes = [&](int64_t n) {
    return static_cast<int64_t>(codec.MaxFrameBytes(n));
  };
  return elements / per_frame * bytes(per_frame) + (rest > 0 ? bytes(rest) : 0);
}

absl::StatusOr<DecodedFrame> DecodeParameterFrame(
    std::span<const std::byte> frame, CrcCheck check,
    std::vector<float>* scratch) {
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView view, ParseFrame(frame, check));
  if (view.header.kind != FrameKind::kParameters) {
    return absl::InvalidArgumentError("this frame holds no parameters");
  }
  const Entry* const entry = FindEntry(view.header.codec);
  if (entry == nullptr) {
    return Annotate(NoSuchCodec(view.header.codec), "frame");
  }
  return entry->of_size(0)->Decode(view, scratch);
}

PayloadWriter::PayloadWriter(int64_t covered_elements, const Codec* codec,
                             Sink sink)
    : covered_elements_(covered_elements),
      codec_(codec),
      sink_(std::move(sink)) {}

absl::Status PayloadWriter::WriteMetadata(ContributionMetadata metadata,
                                          const MetadataLimits& limits) {
  if (frames_ != 0) {
    return absl::FailedPreconditionError("metadata is frame 0");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<std::byte> frame,
                             EncodeMetadataFrame(std::move(metadata), limits));
  ++frames_;
  bytes_ += static_cast<int64_t>(frame.size());
  return sink_(frame);
}

absl::Status PayloadWriter::Append(std::span<const float> values) {
  if (frames_ == 0) {
    return absl::FailedPreconditionError("metadata goes before parameters");
  }
  if (std::cmp_greater(values.size(), covered_elements_ - appended_)) {
    return absl::OutOfRangeError(
        Cat(values.size(), " more elements; of ", covered_elements_,
            " covered ones ", covered_elements_ - appended_, " are missing"));
  }
  appended_ += static_cast<int64_t>(values.size());
  const auto per_frame = static_cast<size_t>(codec_->elements_per_frame());
  while (!values.empty()) {
    // Whole frames go out straight from the caller's memory.
    if (pending_.empty() && values.size() >= per_frame) {
      CONSILIUM_RETURN_IF_ERROR(Emit(values.first(per_frame)));
      values = values.subspan(per_frame);
      continue;
    }
    const size_t take = std::min(values.size(), per_frame - pending_.size());
    pending_.insert(pending_.end(), values.begin(), values.begin() + take);
    values = values.subspan(take);
    if (pending_.size() == per_frame) {
      CONSILIUM_RETURN_IF_ERROR(Emit(pending_));
      pending_.clear();
    }
  }
  return absl::OkStatus();
}

absl::Status PayloadWriter::Finish() {
  if (appended_ != covered_elements_) {
    return absl::FailedPreconditionError(Cat(
        appended_, " of ", covered_elements_, " covered elements were given"));
  }
  if (pending_.empty()) return absl::OkStatus();
  CONSILIUM_RETURN_IF_ERROR(Emit(pending_));
  pending_.clear();
  return absl::OkStatus();
}

absl::Status PayloadWriter::Emit(std::span<const float> values) {
  frame_.resize(codec_->MaxFrameBytes(codec_->elements_per_frame()));
  const size_t size = codec_->Encode(values, emitted_, frame_);
  emitted_ += static_cast<int64_t>(values.size());
  ++frames_;
  bytes_ += static_cast<int64_t>(size);
  return sink_(std::span<const std::byte>(frame_).first(size));
}

}  // namespace consilium

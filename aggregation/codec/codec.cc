#include "consilium/aggregation/codec.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

static_assert(std::endian::native == std::endian::little,
              "raw float32 frames are little-endian in memory");
static_assert(kFrameHeaderBytes + kF32ElementsPerFrame * sizeof(float) <=
              kMaxFrameBytes);

// The elements as they are.
class F32Codec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kF32; }
  std::string_view name() const override { return "f32"; }
  int64_t elements_per_frame() const override { return kF32ElementsPerFrame; }
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
};

const F32Codec kF32Codec;
const Codec* const kCodecs[] = {&kF32Codec};

}  // namespace

const Codec* FindCodec(CodecId id) {
  for (const Codec* codec : kCodecs) {
    if (codec->id() == id) return codec;
  }
  return nullptr;
}

int64_t ParameterFrameCount(const Codec& codec, int64_t elements) {
  const int64_t per_frame = codec.elements_per_frame();
  return elements / per_frame + (elements % per_frame != 0 ? 1 : 0);
}

absl::StatusOr<DecodedFrame> DecodeParameterFrame(
    std::span<const std::byte> frame, CrcCheck check,
    std::vector<float>* scratch) {
  CONSILIUM_ASSIGN_OR_RETURN(const FrameView view, ParseFrame(frame, check));
  if (view.header.kind != FrameKind::kParameters) {
    return absl::InvalidArgumentError("this frame holds no parameters");
  }
  const Codec* const codec = FindCodec(view.header.codec);
  if (codec == nullptr) {
    return absl::UnimplementedError(Cat("frame: codec ",
                                        static_cast<int>(view.header.codec),
                                        " is not in this build"));
  }
  return codec->Decode(view, scratch);
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

// Whatever frames a peer sends: the checker accepts a payload only if it is
// the one frame sequence that its layout and coverage allow, with finite
// values, and what it reports agrees with decoding the frames by themselves.
//
// Input: [control][edits]. Control says what is covered, whether frames are
// made of the input itself ([u16 length][bytes]) or are those of a good payload
// with the edits applied to them ([frame][place][value]), and whether checksums
// are put right afterwards, so that mutations get past them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "consilium/aggregation/contribution_check.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/bytes.h"

namespace {

using consilium::Layout;

void Require(bool condition) {
  if (!condition) std::abort();
}

const Layout& SmallLayout() {
  static const Layout layout = *Layout::Parse(
      "consilium-layout 1\n"
      "shared F32 2x2 a\n"
      "expert/0/0 F32 3 b\n"
      "router/0 F32 - c\n");
  return layout;
}

const consilium::Codec& F32() {
  return **consilium::FindCodec(consilium::CodecId::kF32,
                                consilium::kMaxElementsPerFrame);
}

void RepairChecksum(std::vector<std::byte>* frame) {
  constexpr size_t kCrcAt = 24;
  if (frame->size() < consilium::kFrameHeaderBytes) return;
  const auto rest = std::span(*frame).subspan(consilium::kFrameHeaderBytes);
  consilium::StoreLittleEndian(consilium::kernels::Crc32c(rest),
                               frame->data() + kCrcAt);
}

using Frames = std::vector<std::vector<std::byte>>;

Frames GoodFrames(const consilium::CoveredSpace& space) {
  Frames frames;
  consilium::PayloadWriter writer(
      space.elements(), &F32(), [&](std::span<const std::byte> frame) {
        frames.emplace_back(frame.begin(), frame.end());
        return absl::OkStatus();
      });
  const std::vector<float> values(static_cast<size_t>(space.elements()), 1.5f);
  Require(writer
              .WriteMetadata({.examples = 7,
                              .group_tokens = {{0, 3}, {1, 1}, {2, 9}},
                              .metrics = {{"loss", 0.5}}})
              .ok() &&
          writer.Append(values).ok() && writer.Finish().ok());
  return frames;
}

void Edit(std::span<const std::byte> edits, Frames* frames) {
  for (; edits.size() >= 3; edits = edits.subspan(3)) {
    const auto what = std::to_integer<size_t>(edits[0]);
    const auto place = std::to_integer<size_t>(edits[1]);
    std::vector<std::byte>& frame = (*frames)[what % frames->size()];
    switch (what / 8 % 8) {
      case 0:
        frame.resize(place);
        break;
      case 1:
        std::swap(frame, frames->front());
        break;
      case 2:
        frames->push_back(frame);
        break;
      default:
        if (place < frame.size()) frame[place] = edits[2];
    }
  }
}

Frames InputFrames(std::span<const std::byte> input) {
  Frames frames;
  while (input.size() >= 2) {
    const size_t length = consilium::LoadLittleEndian<uint16_t>(input.data());
    input = input.subspan(2);
    const auto bytes = input.first(std::min(length, input.size()));
    input = input.subspan(bytes.size());
    frames.emplace_back(bytes.begin(), bytes.end());
  }
  return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const auto control = std::to_integer<unsigned>(input[0]);
  input = input.subspan(1);
  const char bits = static_cast<char>((control >> 1) & 7);
  const consilium::CoveredSpace space(
      &SmallLayout(), *consilium::Coverage::FromBytes({&bits, 1}, 3));
  auto checker = consilium::ContributionChecker::Create(&space, &F32(), {});
  Require(checker.ok() == (space.elements() > 0));
  if (!checker.ok()) return 0;

  Frames frames;
  if ((control & 16) != 0) {
    frames = InputFrames(input);
  } else {
    frames = GoodFrames(space);
    Edit(input, &frames);
  }

  double sum_squares = 0;
  int64_t elements = 0;
  bool accepted = true;
  for (std::vector<std::byte>& frame : frames) {
    if ((control & 1) != 0) RepairChecksum(&frame);
    accepted = (*checker)->AddFrame(frame).ok();
    if (!accepted) break;
    std::vector<float> scratch;
    const auto decoded = consilium::DecodeParameterFrame(
        frame, consilium::CrcCheck::kVerify, &scratch);
    if (!decoded.ok()) continue;  // metadata
    Require(decoded->first_element == elements);
    elements += static_cast<int64_t>(decoded->values.size());
    for (const float v : decoded->values) {
      Require(std::isfinite(v));
      sum_squares += static_cast<double>(v) * static_cast<double>(v);
    }
  }
  const bool complete = (*checker)->Complete();
  const auto stats = std::move(**checker).Finish();
  Require(stats.ok() == (accepted && complete));
  if (stats.ok()) {
    Require(elements == space.elements() && stats->metadata.examples > 0);
    const double norm = std::sqrt(sum_squares);
    Require(std::fabs(stats->norm - norm) <= 1e-9 * norm);
  }
  return 0;
}

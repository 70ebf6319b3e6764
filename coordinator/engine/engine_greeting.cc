// What an institution says of itself.

#include <algorithm>
#include <iterator>
#include <string>

#include "consilium/aggregation/codec.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/engine.h"
#include "coordinator/round/round_text.h"

namespace consilium {
namespace {

constexpr size_t kMaxSoftwareBytes = 100;
constexpr size_t kMaxCodecsShown = 8;

}  // namespace

absl::Status Engine::Greeted(PeerState& peer, std::string_view software,
                             std::span<const uint32_t> codecs) {
  const std::string shown = CleanText(software, kMaxSoftwareBytes);
  if (peer.SetSoftware(shown)) {
    Log("info", 0, peer.name,
        Cat("runs ", shown.empty() ? "software that it does not name" : shown));
  }
  const auto accepted = [](uint32_t id) {
    return std::any_of(
        std::begin(kRoundCodecs), std::end(kRoundCodecs),
        [id](CodecId codec) { return static_cast<uint32_t>(codec) == id; });
  };
  if (codecs.empty() || std::any_of(codecs.begin(), codecs.end(), accepted)) {
    return absl::OkStatus();
  }
  std::string text = Cat(peer.name, " encodes the codecs");
  for (const uint32_t id :
       codecs.first(std::min(codecs.size(), kMaxCodecsShown))) {
    CatInto(text, " ", id);
  }
  CatInto(text, ", rounds here accept");
  for (const CodecId codec : kRoundCodecs) {
    CatInto(text, " ", static_cast<uint32_t>(codec), " (", CodecName(codec),
            ")");
  }
  return absl::FailedPreconditionError(
      Cat(text, ": install a client that knows one of them"));
}

}  // namespace consilium

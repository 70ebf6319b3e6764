// An upload as an honest institution makes it, and the round it is for.
#ifndef CONSILIUM_TESTS_SUPPORT_TEST_UPLOAD_H_
#define CONSILIUM_TESTS_SUPPORT_TEST_UPLOAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/aggregation/codec.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/engine/upload_resumption.h"

namespace consilium {

// Two whole frames (shared, expert 0 of layer 0) and two groups of a few
// elements, so that a choice of groups makes uploads of 2 to 4 chunks.
inline constexpr std::string_view kTestUploadLayout =
    "consilium-layout 1\n"
    "shared F32 63x4096 a\n"
    "expert/0/0 F32 63x4096 b\n"
    "expert/0/1 F32 5 c\n"
    "router/0 F32 - d\n";

// Attempt 2 of round 7 of the federation "cards", based on version 3.
std::shared_ptr<const RoundContext> MakeTestRound(
    std::string_view layout_text = kTestUploadLayout, bool sealed = true,
    int64_t max_update_bytes = int64_t{64} << 20,
    int64_t elements_per_frame = kMaxElementsPerFrame);

struct TestUpload {
  UploadManifest manifest;
  std::vector<std::vector<std::byte>> frames;  // before sealing
  std::vector<std::vector<std::byte>> chunks;  // as they travel
};

// Every covered element has the value 0.5, or its own of `values`; `examples`
// stand in frame 0. `coverage` has a bit per group; `id` fills the upload's id.
TestUpload MakeTestUpload(const RoundContext& round,
                          const std::string& institution,
                          std::string_view coverage, uint8_t id = 1,
                          uint64_t examples = 100,
                          std::span<const float> values = {});

// All of a spool read again at once.
absl::StatusOr<std::shared_ptr<UploadSession>> ResumeTestUpload(
    std::shared_ptr<const RoundContext> round, std::shared_ptr<PeerState> peer,
    const UploadManifest& manifest, SpoolDir& spools, const std::string& path);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_TEST_UPLOAD_H_

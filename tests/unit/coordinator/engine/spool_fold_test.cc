// A fold gives the same bits whatever frames the contributions came in.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/fold.h"
#include "consilium/base/strings.h"
#include "coordinator/engine/spool_source.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_upload.h"

namespace consilium {
namespace {

struct Update {
  std::string name;
  std::string coverage;
  std::vector<float> values;
  std::vector<int64_t> weights;  // by group
};

// A layout of groups around and beyond the frame sizes, and what institutions
// did to some of them.
struct Case {
  explicit Case(uint32_t seed) : random(seed) {
    static constexpr const char* kGroups[] = {"shared", "expert/0/0",
                                              "expert/0/1", "expert/1/0"};
    layout_text = "consilium-layout 1\n";
    for (int slot = 0; slot < 12; ++slot) {
      const int64_t frame = kFrameSizes[Below(kFrameSizes.size())];
      const int64_t elements =
          Below(2) == 0 ? 1 + Below(3000) : frame - 2 + Below(5);
      CatInto(layout_text, kGroups[slot < 4 ? slot : Below(4)], " F32 ",
              elements, " t", slot, "\n");
    }
    const Layout layout = Layout::Parse(layout_text).value();
    base = Normal(layout.total_elements(), 1.0f);
    for (int i = 0; i < 3; ++i) {
      // The last one covers everything, without weight for one group.
      const auto bits = static_cast<char>(i == 2 ? 15 : 1 + Below(15));
      Update update{Cat("bank-", i), std::string(1, bits), {}, {}};
      const Coverage coverage = Coverage::FromBytes(update.coverage, 4).value();
      update.values = Normal(CoveredSpace(&layout, coverage).elements(), 1e-2f);
      for (size_t g = 0; g < 4; ++g) {
        const bool counts = coverage.Has(g) && (i != 2 || g != 1);
        update.weights.push_back(counts ? 1 + Below(1 << 30) : 0);
      }
      updates.push_back(std::move(update));
    }
  }

  int64_t Below(int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  }
  std::vector<float> Normal(int64_t n, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = normal(random);
    return values;
  }

  std::mt19937_64 random;
  std::string layout_text;
  std::vector<float> base;
  std::vector<Update> updates;
};

// Through spools in frames of `size`: the version's bits.
std::vector<uint32_t> FoldInFramesOf(const Case& c, int64_t size, bool sealed,
                                     int threads) {
  FaultFileSystem fs;
  SpoolDir spools(&fs, "/d", nullptr);
  EXPECT_OK(spools.Prepare());
  const auto round =
      MakeTestRound(c.layout_text, sealed, int64_t{64} << 20, size);
  const auto peer = std::make_shared<PeerState>();
  std::vector<std::unique_ptr<SpoolSource>> sources;
  FoldInputs inputs{.layout = &round->layout->layout};
  for (const Update& update : c.updates) {
    const auto id = static_cast<uint8_t>(sources.size() + 1);
    const TestUpload upload = MakeTestUpload(
        *round, update.name, update.coverage, id, 100, update.values);
    EXPECT_FALSE(CheckManifest(upload.manifest, *round).has_value());
    peer->name = update.name;
    auto session =
        UploadSession::Create(round, peer, upload.manifest, {}, spools);
    EXPECT_OK(session.status());
    for (size_t i = 0; i < upload.chunks.size(); ++i) {
      EXPECT_OK((*session)->Append(i, upload.chunks[i]).status());
    }
    EXPECT_OK((*session)->Finish().status());
    auto source = SpoolSource::Create(round, update.name, spools,
                                      (*session)->spool_path());
    EXPECT_OK(source.status());
    EXPECT_EQ((*source)->elements_per_frame(), size);
    sources.push_back(*std::move(source));
    inputs.contributions.push_back(
        {.source = sources.back().get(), .weights = update.weights});
  }
  const OpenOptions create = {.write = true, .create = true};
  const auto base = *fs.Open("/base", create);
  const auto out = *fs.Open("/out", create);
  EXPECT_OK(base->WriteAt(0, std::as_bytes(std::span(c.base))));
  inputs.base = base.get();
  // Less than the whole layout, so that several threads have work.
  const FoldOptions options = {.threads = threads,
                               .segment_elements = kFrameSizes.front() / 2};
  EXPECT_OK(Fold(inputs, options, {.file = out.get()}).status());
  std::vector<uint32_t> bits(c.base.size());
  EXPECT_OK(
      ReadExactlyAt(out.get(), 0, std::as_writable_bytes(std::span(bits))));
  return bits;
}

TEST(SpoolFoldTest, GivesTheSameBitsInFramesOfEverySize) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(Cat("seed ", seed));
    const Case c(seed);
    const bool sealed = seed != 2;
    const auto want = FoldInFramesOf(c, kFrameSizes.front(), sealed, 1);
    std::vector<uint32_t> untouched(c.base.size());
    std::transform(c.base.begin(), c.base.end(), untouched.begin(),
                   [](float v) { return std::bit_cast<uint32_t>(v); });
    EXPECT_TRUE(want != untouched);
    for (const int64_t size : kFrameSizes) {
      SCOPED_TRACE(size);
      EXPECT_TRUE(FoldInFramesOf(c, size, sealed, 1) == want);
      EXPECT_TRUE(FoldInFramesOf(c, size, sealed, 3) == want);
    }
  }
}

}  // namespace
}  // namespace consilium

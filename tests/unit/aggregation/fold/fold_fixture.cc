#include "tests/unit/aggregation/fold/fold_fixture.h"

#include <algorithm>
#include <bit>
#include <random>
#include <utility>

#include "consilium/aggregation/weights.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "tests/support/fake_hasher.h"

namespace consilium {

class MemorySource::Cursor final : public ContributionCursor {
 public:
  Cursor(const MemorySource* source, int64_t first)
      : source_(source), at_(first) {}

  absl::StatusOr<std::span<const float>> Next(size_t max) override {
    if (source_->fail_at.has_value() && at_ >= *source_->fail_at) {
      return absl::DataLossError(Cat("broken at ", at_));
    }
    const auto left = source_->values.size() - static_cast<size_t>(at_);
    CONSILIUM_CHECK(left > 0 && max > 0);
    size_t n = std::min(max, left);
    if (source_->piece > 0) n = std::min(n, source_->piece);
    // A copy that dies with the next call, as an opened chunk would.
    const auto from = source_->values.begin() + at_;
    piece_ = std::make_unique<std::vector<float>>(
        from, from + static_cast<std::ptrdiff_t>(n));
    at_ += static_cast<int64_t>(n);
    return std::span<const float>(*piece_);
  }

  absl::Status Finish() override {
    return source_->fail_finish ? absl::DataLossError("broken seal")
                                : absl::OkStatus();
  }

 private:
  const MemorySource* const source_;
  int64_t at_;
  std::unique_ptr<std::vector<float>> piece_;
};

absl::StatusOr<std::unique_ptr<ContributionCursor>> MemorySource::Open(
    int64_t first) const {
  ++opened;
  return std::make_unique<Cursor>(this, first);
}

FoldCase FoldCase::Random(uint32_t seed, size_t contributions, int density) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) {
    return static_cast<uint32_t>(random() % n);
  };
  std::vector<SlotSpec> slots;
  const uint32_t slot_count = 3 + below(40);
  for (uint32_t s = 0; s < slot_count; ++s) {
    GroupName group;
    if (below(3) != 0) {
      group = {
          .kind = GroupKind::kExpert, .layer = below(2), .expert = below(6)};
    }
    slots.push_back({.name = Cat("t", s),
                     .shape = {static_cast<int64_t>(1 + below(700))},
                     .group = group});
  }
  FoldCase c{.layout = Shared(Layout::Create(std::move(slots)))};
  std::normal_distribution<float> normal;
  c.base.resize(static_cast<size_t>(c.layout->total_elements()));
  for (float& v : c.base) v = normal(random);
  for (size_t i = 0; i < contributions; ++i) {
    Coverage coverage(c.layout->groups().size());
    std::vector<int64_t> weights(coverage.groups());
    for (size_t g = 0; g < coverage.groups(); ++g) {
      if (below(100) >= static_cast<uint32_t>(density)) continue;
      coverage.Set(g);
      // Now and then covered without a weight.
      if (below(8) != 0) {
        weights[g] = 1 + static_cast<int64_t>(below(1u << 31)) * 512;
      }
    }
    auto source = std::make_unique<MemorySource>(
        Cat("bank-", i), c.layout.get(), std::move(coverage));
    for (float& v : source->values) v = normal(random) * 1e-2f;
    source->piece = below(2) == 0 ? 0 : 1 + below(900);
    c.sources.push_back(std::move(source));
    c.weights.push_back(std::move(weights));
  }
  return c;
}

std::vector<float> ExpectedFold(const FoldCase& c, size_t min_contributors) {
  std::vector<float> out = c.base;
  for (size_t s = 0; s < c.layout->slots().size(); ++s) {
    const TensorSlot& slot = c.layout->slots()[s];
    size_t contributors = 0;
    int64_t total = 0;
    for (const auto& weights : c.weights) {
      contributors += weights[slot.group] > 0 ? 1 : 0;
      total += weights[slot.group];
    }
    if (contributors < min_contributors) continue;
    for (int64_t e = 0; e < slot.elements; ++e) {
      double sum = 0;
      for (size_t i = 0; i < c.sources.size(); ++i) {
        const int64_t u = c.weights[i][slot.group];
        if (u == 0) continue;
        const int64_t at = c.sources[i]->space().Before(s) + e;
        sum +=
            static_cast<double>(u) *
            static_cast<double>(c.sources[i]->values[static_cast<size_t>(at)]);
      }
      float& value = out[static_cast<size_t>(slot.first_element + e)];
      value = static_cast<float>(static_cast<double>(value) +
                                 sum / static_cast<double>(total));
    }
  }
  return out;
}

namespace {

FoldInputs InputsOf(const FoldCase& c, File* base, int64_t offset) {
  FoldInputs inputs{
      .layout = c.layout.get(), .base = base, .base_data_offset = offset};
  for (size_t i = 0; i < c.sources.size(); ++i) {
    inputs.contributions.push_back(
        {.source = c.sources[i].get(), .weights = c.weights[i]});
  }
  return inputs;
}

}  // namespace

FoldOutcome RunFold(const FoldCase& c, const FoldOptions& options) {
  constexpr int64_t kBaseOffset = 40;
  constexpr int64_t kOutOffset = 24;
  FaultFileSystem fs;
  const OpenOptions create = {.write = true, .create = true};
  const auto base = *fs.Open("/base", create);
  const auto out = *fs.Open("/out", create);
  CONSILIUM_CHECK(
      base->WriteAt(kBaseOffset, std::as_bytes(std::span(c.base))).ok());
  FakeHasher hasher;
  const auto report =
      Fold(InputsOf(c, base.get(), kBaseOffset), options,
           {.file = out.get(), .data_offset = kOutOffset, .hasher = &hasher});
  FoldOutcome outcome;
  outcome.status = report.status();
  if (!report.ok()) return outcome;
  outcome.report = *report;
  outcome.digest = hasher.Finish();
  outcome.values.resize(c.base.size());
  CONSILIUM_CHECK(
      ReadExactlyAt(out.get(), kOutOffset,
                    std::as_writable_bytes(std::span<float>(outcome.values)))
          .ok());
  return outcome;
}

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  bits.reserve(values.size());
  for (const float v : values) bits.push_back(std::bit_cast<uint32_t>(v));
  return bits;
}

}  // namespace consilium

#include "aggregation/fold/segment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr char kBlameUrl[] = "consilium/fold/contribution";

absl::Status NotFinite(const TensorSlot& slot, int64_t first,
                       std::span<const float> values) {
  const auto bad = std::find_if(values.begin(), values.end(),
                                [](float v) { return !std::isfinite(v); });
  return absl::OutOfRangeError(Cat(
      "fold: tensor ", Quoted(slot.name, 512), ": element ",
      first - slot.first_element + (bad - values.begin()), " is not finite"));
}

}  // namespace

absl::Status BlameContribution(const absl::Status& status,
                               const FoldInputs& inputs, size_t contribution) {
  absl::Status blamed =
      Annotate(status, Cat("contribution of ",
                           inputs.contributions[contribution].source->name()));
  blamed.SetPayload(kBlameUrl, absl::Cord(Cat(contribution)));
  return blamed;
}

std::optional<size_t> FailedContribution(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kBlameUrl);
  uint64_t index = 0;
  if (!payload.has_value() ||
      !absl::SimpleAtoi(std::string(*payload), &index)) {
    return std::nullopt;
  }
  return static_cast<size_t>(index);
}

SegmentFolder::SegmentFolder(const FoldPlan* plan)
    : plan_(plan),
      readers_(plan->inputs->contributions.size()),
      elements_read_(readers_.size()) {
  active_.reserve(readers_.size());
  weights_.reserve(readers_.size());
  blocks_.reserve(readers_.size());
}

void SegmentFolder::Seek(int64_t first, size_t slot) {
  const int64_t into_slot =
      first - plan_->inputs->layout->slots()[slot].first_element;
  for (size_t c = 0; c < readers_.size(); ++c) {
    const CoveredSpace& space = plan_->spaces[c];
    readers_[c].here =
        space.Before(slot) + (space.CoversSlot(slot) ? into_slot : 0);
  }
}

absl::Status SegmentFolder::Fold(int64_t index, std::span<float> values,
                                 Hasher* hasher) {
  const FoldInputs& inputs = *plan_->inputs;
  const FoldOptions& options = *plan_->options;
  const std::vector<TensorSlot>& slots = inputs.layout->slots();
  int64_t first = index * options.segment_elements;
  size_t slot = inputs.layout->SlotAt(first);
  Seek(first, slot);
  while (!values.empty()) {
    CONSILIUM_RETURN_IF_ERROR(options.cancel.status());
    const std::span<float> block = values.first(
        std::min(values.size(), static_cast<size_t>(options.block_elements)));
    values = values.subspan(block.size());
    const std::span<std::byte> bytes = std::as_writable_bytes(block);
    const int64_t offset = first * static_cast<int64_t>(sizeof(float));
    CONSILIUM_RETURN_IF_ERROR(Annotate(
        ReadExactlyAt(inputs.base, inputs.base_data_offset + offset, bytes),
        "base version"));
    std::span<float> rest = block;
    while (!rest.empty()) {
      // Slots of one group that lie side by side are one run.
      const uint32_t group = slots[slot].group;
      const int64_t most = first + static_cast<int64_t>(rest.size());
      int64_t end = first;
      while (true) {
        const int64_t slot_end =
            slots[slot].first_element + slots[slot].elements;
        end = std::min(slot_end, most);
        if (end < slot_end) break;
        ++slot;
        if (end == most || slots[slot].group != group) break;
      }
      const auto n = static_cast<size_t>(end - first);
      CONSILIUM_RETURN_IF_ERROR(FoldRun(group, first, rest.first(n)));
      rest = rest.subspan(n);
      first = end;
    }
    CONSILIUM_RETURN_IF_ERROR(plan_->output->file->WriteAt(
        plan_->output->data_offset + offset, bytes));
    if (hasher != nullptr) {
      const absl::Duration start = options.clock->Monotonic();
      hasher->Update(bytes);
      hash_seconds_ +=
          absl::ToDoubleSeconds(options.clock->Monotonic() - start);
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentFolder::FoldRun(uint32_t group, int64_t first,
                                    std::span<float> values) {
  const FoldInputs& inputs = *plan_->inputs;
  const bool held = plan_->groups[group].held;
  const auto total = static_cast<int64_t>(values.size());
  active_.clear();
  weights_.clear();
  for (size_t c = 0; c < readers_.size(); ++c) {
    if (!plan_->spaces[c].coverage().Has(group)) continue;
    const int64_t u = inputs.contributions[c].weights[group];
    if (!held && u > 0) {
      active_.push_back(static_cast<uint32_t>(c));
      weights_.push_back(static_cast<double>(u));
    } else {
      readers_[c].here += total;  // passed over; see Advance()
    }
  }
  if (active_.empty()) return absl::OkStatus();

  const auto denominator =
      static_cast<double>(plan_->groups[group].total_weight);
  while (!values.empty()) {
    // As far as every contributor has elements in memory.
    size_t n = values.size();
    blocks_.clear();
    for (const uint32_t c : active_) {
      Reader& reader = readers_[c];
      CONSILIUM_RETURN_IF_ERROR(
          Advance(c, reader.here, static_cast<int64_t>(values.size())));
      n = std::min(n, reader.rest.size());
      blocks_.push_back(reader.rest.data());
    }
    if (!kernels::FoldBlock(values.first(n), blocks_, weights_, denominator)) {
      // Damage may look like numbers that are not finite.
      CONSILIUM_RETURN_IF_ERROR(Finish());
      const size_t slot = inputs.layout->SlotAt(first);
      return NotFinite(inputs.layout->slots()[slot], first, values.first(n));
    }
    for (const uint32_t c : active_) {
      Reader& reader = readers_[c];
      reader.rest = reader.rest.subspan(n);
      reader.at += static_cast<int64_t>(n);
      reader.here += static_cast<int64_t>(n);
      elements_read_[c] += static_cast<int64_t>(n);
    }
    values = values.subspan(n);
    first += static_cast<int64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status SegmentFolder::Close(size_t c) {
  Reader& reader = readers_[c];
  reader.rest = {};
  if (reader.cursor == nullptr) return absl::OkStatus();
  const std::unique_ptr<ContributionCursor> cursor = std::move(reader.cursor);
  const absl::Status finished = cursor->Finish();
  return finished.ok() ? finished
                       : BlameContribution(finished, *plan_->inputs, c);
}

absl::Status SegmentFolder::Finish() {
  for (size_t c = 0; c < readers_.size(); ++c) {
    CONSILIUM_RETURN_IF_ERROR(Close(c));
  }
  return absl::OkStatus();
}

absl::Status SegmentFolder::Advance(size_t c, int64_t want, int64_t need) {
  Reader& reader = readers_[c];
  if (reader.at == want && !reader.rest.empty()) return absl::OkStatus();
  const ContributionSource& source = *plan_->inputs->contributions[c].source;
  const auto blame = [&](const absl::Status& status) {
    return BlameContribution(status, *plan_->inputs, c);
  };
  // What was passed over is read and dropped when it is less than a frame: a
  // new cursor would have to open the frame at hand once more.
  const bool near = reader.cursor != nullptr && want >= reader.at &&
                    want - reader.at <= source.elements_per_frame();
  if (!near) {
    // Its memory goes before the next one takes some.
    CONSILIUM_RETURN_IF_ERROR(Close(c));
    absl::StatusOr<std::unique_ptr<ContributionCursor>> cursor =
        source.Open(want);
    if (!cursor.ok()) return blame(cursor.status());
    reader.cursor = *std::move(cursor);
    reader.at = want;
  }
  while (true) {
    const size_t drop =
        std::min(static_cast<size_t>(want - reader.at), reader.rest.size());
    reader.rest = reader.rest.subspan(drop);
    reader.at += static_cast<int64_t>(drop);
    if (!reader.rest.empty()) return absl::OkStatus();
    const int64_t max = want - reader.at + need;
    absl::StatusOr<std::span<const float>> next =
        reader.cursor->Next(static_cast<size_t>(max));
    if (!next.ok()) return blame(next.status());
    if (next->empty() || std::cmp_greater(next->size(), max)) {
      return blame(absl::InternalError("a cursor broke its contract"));
    }
    reader.rest = *next;
  }
}

}  // namespace consilium

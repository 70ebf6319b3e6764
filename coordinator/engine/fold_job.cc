#include "coordinator/engine/fold_job.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/buffer_pool.h"
#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/engine/spool_source.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

struct Sources {
  std::vector<std::unique_ptr<SpoolSource>> sources;
  std::vector<ContributionMetadata> metadata;
};

// Whether an error of reading a file tells what the file is. All others are
// those of a disk, of memory or of permissions, which may get better.
bool IsOfTheFile(const absl::Status& status) {
  if (absl::IsNotFound(status)) return true;
  if (IsLocalError(status)) return false;
  return absl::IsDataLoss(status) || absl::IsInvalidArgument(status) ||
         absl::IsOutOfRange(status);
}

void Blame(size_t member, const absl::Status& status, FoldJobFailure* failure) {
  failure->retryable = !IsOfTheFile(status);
  failure->member = member;
}

// The spool must be the upload that the history knows, not whatever stands at
// its path.
absl::Status CheckAgainstRow(const std::optional<ContributionRow>& row,
                             const SpoolSource& source) {
  if (!row.has_value() || row->manifest != source.manifest().Encode() ||
      row->sealed != source.manifest().sealed) {
    return absl::DataLossError(
        "its spool holds another upload than the history says");
  }
  return absl::OkStatus();
}

// Whether another spool after `member` cannot be read either: then it is not
// this one.
bool OthersFailToo(const FoldJobInput& input, size_t member, Store& store) {
  for (size_t i = member + 1; i < input.members.size(); ++i) {
    const auto source =
        SpoolSource::Create(input.context, input.members[i].institution,
                            store.spools(), input.members[i].spool_path);
    const absl::Status read =
        source.ok() ? (*source)->ReadMetadata().status() : source.status();
    if (!read.ok() && !IsOfTheFile(read)) return true;
  }
  return false;
}

absl::StatusOr<Sources> OpenSources(const FoldJobInput& input, Store& store,
                                    FoldJobFailure* failure) {
  Sources out;
  std::vector<std::optional<ContributionRow>> rows(input.members.size());
  failure->retryable = true;
  CONSILIUM_RETURN_IF_ERROR(
      store.history().Read([&](ReadTx& tx) -> absl::Status {
        for (size_t i = 0; i < rows.size(); ++i) {
          CONSILIUM_ASSIGN_OR_RETURN(
              rows[i], FindContribution(tx, input.members[i].contribution_id));
        }
        return absl::OkStatus();
      }));
  failure->retryable = false;
  for (size_t i = 0; i < input.members.size(); ++i) {
    const FoldJobInput::Member& member = input.members[i];
    const auto fail = [&](const absl::Status& status) {
      Blame(i, status, failure);
      if (failure->retryable && OthersFailToo(input, i, store)) {
        failure->member.reset();
      }
      return Annotate(status, Cat("contribution ", member.contribution_id,
                                  " of ", member.institution));
    };
    auto source = SpoolSource::Create(input.context, member.institution,
                                      store.spools(), member.spool_path);
    if (!source.ok()) return fail(source.status());
    const absl::Status same = CheckAgainstRow(rows[i], **source);
    if (!same.ok()) return fail(same);
    auto metadata = (*source)->ReadMetadata();
    if (!metadata.ok()) return fail(metadata.status());
    out.sources.push_back(*std::move(source));
    out.metadata.push_back(*std::move(metadata));
  }
  return out;
}

// Examples or tokens per unit of u for one group: tokens when every covering
// contribution counts them, as PlanWeights() decides.
double WeightUnit(const FoldJobInput& input, const Sources& opened, size_t g) {
  const WeightPolicy& policy = input.context->weights;
  const GroupName& name = input.context->layout->layout.groups()[g];
  bool tokens = name.kind == GroupKind::kExpert;
  for (size_t i = 0; tokens && i < opened.sources.size(); ++i) {
    if (!opened.sources[i]->coverage().Has(g)) continue;
    const auto& counts = opened.metadata[i].group_tokens;
    const auto it = std::lower_bound(
        counts.begin(), counts.end(), g,
        [](const GroupTokens& c, size_t group) { return c.group < group; });
    tokens = it != counts.end() && it->group == g;
  }
  return (tokens ? policy.max_tokens : policy.max_examples) /
         static_cast<double>(kWeightOne);
}

absl::StatusOr<FoldJobResult> Run(const FoldJobInput& input, Store& store,
                                  bool publish, FoldJobFailure* failure) {
  const FederationLayout& layout = *input.context->layout;
  CONSILIUM_ASSIGN_OR_RETURN(Sources opened,
                             OpenSources(input, store, failure));
  std::vector<WeightInput> weight_inputs;
  for (size_t i = 0; i < opened.sources.size(); ++i) {
    weight_inputs.push_back(WeightInput{&opened.sources[i]->coverage(),
                                        opened.metadata[i].examples,
                                        opened.metadata[i].group_tokens});
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      auto weights,
      PlanWeights(layout.layout, weight_inputs, input.context->weights));

  const auto of_base = [&](const absl::Status& status) {
    failure->retryable = !IsOfTheFile(status);
    return Annotate(status, Cat("version ", input.base.number));
  };
  auto opened_base =
      store.blobs().Open(input.base.digest, input.base.blob_bytes);
  if (!opened_base.ok()) return of_base(opened_base.status());
  const std::unique_ptr<File> base = *std::move(opened_base);
  const auto base_info = ReadVersionFile(base.get(), layout.layout, layout.id);
  if (!base_info.ok()) return of_base(base_info.status());

  FoldInputs fold;
  fold.layout = &layout.layout;
  fold.base = base.get();
  fold.base_data_offset = base_info->data_offset;
  for (size_t i = 0; i < opened.sources.size(); ++i) {
    fold.contributions.push_back(
        FoldContribution{opened.sources[i].get(), std::move(weights[i])});
  }
  FoldOptions options;
  options.min_contributors = static_cast<size_t>(input.min_contributors);
  options.threads = input.threads;
  options.cancel = input.cancel;
  options.clock = input.clock;

  failure->retryable = true;
  CONSILIUM_ASSIGN_OR_RETURN(BlobWriter writer,
                             store.blobs().NewWriter(base_info->file_bytes));
  if (input.space != nullptr) input.space->Release();
  const absl::Duration started = input.clock->Monotonic();
  absl::StatusOr<FoldedVersion> folded = FoldToVersionFile(
      fold, options, layout.id, Sha256HasherFactory(), writer.file());
  if (!folded.ok()) {
    const std::optional<size_t> read = FailedContribution(folded.status());
    failure->retryable = !absl::IsOutOfRange(folded.status()) &&
                         !absl::IsInvalidArgument(folded.status());
    if (read.has_value()) Blame(*read, folded.status(), failure);
    return folded.status();
  }
  const absl::Duration done = input.clock->Monotonic();

  FoldJobResult result;
  result.digest = folded->digest;
  result.bytes = folded->file_bytes;
  result.fold_time = done - started;
  for (const int64_t elements : folded->report.elements_read) {
    result.elements_read += elements;
  }
  for (size_t g = 0; g < folded->report.groups.size(); ++g) {
    const GroupFold& group = folded->report.groups[g];
    const GroupName& name = layout.layout.groups()[g];
    result.groups.push_back(GroupOutcome{
        name.ToString(), group.contributors,
        static_cast<double>(group.total_weight) * WeightUnit(input, opened, g),
        group.held});
    if (group.held) result.held_groups.push_back(name.ToString());
  }
  if (publish) {
    failure->publishing = true;
    CONSILIUM_RETURN_IF_ERROR(
        std::move(writer).Publish(result.digest, result.bytes));
    result.publish_time = input.clock->Monotonic() - done;
  }
  return result;
}

}  // namespace

bool FoldJobFailure::no_space() const { return IsNoSpaceError(status); }

absl::StatusOr<FoldJobResult> RunFoldJob(const FoldJobInput& input,
                                         Store& store, bool publish,
                                         FoldJobFailure* failure) {
  // A round's transfers leave buffers and a heap full of holes, which would add
  // up with the buffers of the fold.
  BufferPool::FreeUnused();
  malloc_trim(0);
  absl::StatusOr<FoldJobResult> result = Run(input, store, publish, failure);
  if (!result.ok()) failure->status = result.status();
  return result;
}

}  // namespace consilium

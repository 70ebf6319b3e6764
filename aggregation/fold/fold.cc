#include "consilium/aggregation/fold.h"

#include <algorithm>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "aggregation/fold/segment.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr int kMaxThreads = 256;

absl::Status CheckContribution(const FoldInputs& inputs, size_t c) {
  const FoldContribution& contribution = inputs.contributions[c];
  const size_t groups = inputs.layout->groups().size();
  const Coverage& coverage = contribution.source->coverage();
  if (contribution.weights.size() != groups || coverage.groups() != groups) {
    return absl::InvalidArgumentError(
        Cat(contribution.weights.size(), " weights and coverage of ",
            coverage.groups(), " groups; the layout has ", groups));
  }
  for (size_t g = 0; g < groups; ++g) {
    const int64_t u = contribution.weights[g];
    if (u < 0 || u > kWeightOne) {
      return absl::InvalidArgumentError(
          Cat("weight ", u, " of group ", inputs.layout->groups()[g].ToString(),
              " is not within 0 and 2^40"));
    }
    if (u > 0 && !coverage.Has(g)) {
      return absl::InvalidArgumentError(
          Cat("group ", inputs.layout->groups()[g].ToString(),
              " has a weight but is not covered"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<FoldPlan> MakePlan(const FoldInputs& inputs,
                                  const FoldOptions& options,
                                  const FoldOutput& output) {
  if (options.threads < 1 || options.threads > kMaxThreads ||
      options.segment_elements < 1 || options.block_elements < 1 ||
      options.min_contributors < 1) {
    return absl::InvalidArgumentError(
        Cat("fold: ", options.threads, " threads, segments of ",
            options.segment_elements, ", blocks of ", options.block_elements,
            ", at least ", options.min_contributors,
            " contributors: each must be 1 or more, threads at most ",
            kMaxThreads));
  }
  if (inputs.contributions.size() > kMaxContributions) {
    return absl::ResourceExhaustedError(
        Cat("fold: ", inputs.contributions.size(),
            " contributions exceed the most of ", kMaxContributions));
  }
  FoldPlan plan;
  plan.inputs = &inputs;
  plan.options = &options;
  plan.output = &output;
  plan.groups.resize(inputs.layout->groups().size());
  plan.spaces.reserve(inputs.contributions.size());
  for (size_t c = 0; c < inputs.contributions.size(); ++c) {
    if (absl::Status fits = CheckContribution(inputs, c); !fits.ok()) {
      return BlameContribution(fits, inputs, c);
    }
    const FoldContribution& contribution = inputs.contributions[c];
    plan.spaces.emplace_back(inputs.layout, contribution.source->coverage());
    for (size_t g = 0; g < plan.groups.size(); ++g) {
      if (contribution.weights[g] == 0) continue;
      ++plan.groups[g].contributors;
      plan.groups[g].total_weight += contribution.weights[g];
    }
  }
  for (GroupFold& group : plan.groups) {
    group.held = group.contributors < options.min_contributors;
  }
  return plan;
}

// Hands segments to threads in file order and takes them back. Folded segments
// are hashed in file order by whichever thread is free, so that hashing one
// segment overlaps with folding others. Never more than threads + 1 segments
// are in memory: a thread without a free buffer hashes, or waits for one that
// does.
class FoldJob {
 public:
  explicit FoldJob(const FoldPlan* plan) : plan_(plan) {
    elements_read_.resize(plan->inputs->contributions.size());
  }

  absl::Status Run() {
    const auto wanted = static_cast<int64_t>(plan_->options->threads);
    const int64_t threads = std::min(wanted, plan_->segments());
    inline_hash_ = threads == 1;
    {
      MutexLock lock(&mutex_);
      free_.resize(static_cast<size_t>(threads == 1 ? 1 : threads + 1));
    }
    std::vector<std::thread> helpers;
    for (int64_t t = 1; t < threads; ++t) {
      helpers.emplace_back([this] { Work(); });
    }
    Work();
    for (std::thread& helper : helpers) helper.join();
    MutexLock lock(&mutex_);
    return status_;
  }

  // After Run().
  void Report(FoldReport* report) {
    MutexLock lock(&mutex_);
    report->elements_read = elements_read_;
    report->hash_seconds = hash_seconds_;
  }

 private:
  using Buffer = std::unique_ptr<float[]>;
  enum class Step { kFold, kHash, kStop };

  void Work() {
    SegmentFolder folder(plan_);
    while (true) {
      int64_t segment = 0;
      Buffer buffer;
      switch (Take(&segment, &buffer)) {
        case Step::kFold:
          FoldSegment(segment, std::move(buffer), &folder);
          break;
        case Step::kHash:
          HashSegment(segment, std::move(buffer));
          break;
        case Step::kStop: {
          const absl::Status finished = folder.Finish();
          MutexLock lock(&mutex_);
          if (status_.ok()) status_ = finished;
          hash_seconds_ += folder.hash_seconds();
          for (size_t c = 0; c < elements_read_.size(); ++c) {
            elements_read_[c] += folder.elements_read()[c];
          }
          return;
        }
      }
    }
  }

  // The next thing to do. Hashing goes first: it frees memory.
  Step Take(int64_t* segment, Buffer* buffer) {
    MutexLock lock(&mutex_);
    while (true) {
      if (!status_.ok()) return Step::kStop;
      if (!hashing_ && !ready_.empty() &&
          ready_.begin()->first == next_to_hash_) {
        *segment = next_to_hash_;
        *buffer = std::move(ready_.begin()->second);
        ready_.erase(ready_.begin());
        hashing_ = true;
        return Step::kHash;
      }
      // What is left then is hashed by the threads that still work on it.
      if (next_to_fold_ == plan_->segments()) return Step::kStop;
      if (!free_.empty()) {
        *segment = next_to_fold_++;
        *buffer = std::move(free_.back());
        free_.pop_back();
        return Step::kFold;
      }
      changed_.Wait(&mutex_);
    }
  }

  void FoldSegment(int64_t segment, Buffer buffer, SegmentFolder* folder) {
    const FoldOutput& output = *plan_->output;
    const int64_t size = plan_->SegmentSize(segment);
    if (buffer == nullptr) {
      buffer.reset(new float[static_cast<size_t>(
          std::min(plan_->options->segment_elements, plan_->elements()))]);
    }
    const std::span<float> values(buffer.get(), static_cast<size_t>(size));
    absl::Status status =
        folder->Fold(segment, values, inline_hash_ ? output.hasher : nullptr);
    if (status.ok()) {
      const int64_t first = segment * plan_->options->segment_elements;
      status = output.file->StartWriteback(
          output.data_offset + first * static_cast<int64_t>(sizeof(float)),
          size * static_cast<int64_t>(sizeof(float)));
    }
    {
      MutexLock lock(&mutex_);
      if (!status.ok()) {
        // Of several, the one that comes first in the file.
        if (status_.ok() || segment < failed_segment_) {
          status_ = status;
          failed_segment_ = segment;
        }
      } else if (output.hasher != nullptr && !inline_hash_) {
        ready_.emplace(segment, std::move(buffer));
      } else {
        free_.push_back(std::move(buffer));
      }
      changed_.SignalAll();
    }
    if (status.ok()) ShowProgress(size);
  }

  void HashSegment(int64_t segment, Buffer buffer) {
    Clock* const clock = plan_->options->clock;
    const absl::Duration start = clock->Monotonic();
    plan_->output->hasher->Update(std::as_bytes(std::span<const float>(
        buffer.get(), static_cast<size_t>(plan_->SegmentSize(segment)))));
    const double seconds = absl::ToDoubleSeconds(clock->Monotonic() - start);
    MutexLock lock(&mutex_);
    hash_seconds_ += seconds;
    hashing_ = false;
    ++next_to_hash_;
    free_.push_back(std::move(buffer));
    changed_.SignalAll();
  }

  void ShowProgress(int64_t elements) {
    if (plan_->options->progress == nullptr) return;
    MutexLock lock(&progress_mutex_);
    done_elements_ += elements;
    plan_->options->progress(
        {.done_elements = done_elements_, .total_elements = plan_->elements()});
  }

  const FoldPlan* const plan_;
  bool inline_hash_ = false;  // one thread hashes each block as it folds it

  Mutex mutex_;
  CondVar changed_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int64_t failed_segment_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_to_fold_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_to_hash_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hashing_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int64_t, Buffer> ready_ ABSL_GUARDED_BY(mutex_);
  std::vector<Buffer> free_ ABSL_GUARDED_BY(mutex_);  // null: not made yet
  std::vector<int64_t> elements_read_ ABSL_GUARDED_BY(mutex_);
  double hash_seconds_ ABSL_GUARDED_BY(mutex_) = 0;

  Mutex progress_mutex_;
  int64_t done_elements_ ABSL_GUARDED_BY(progress_mutex_) = 0;
};

}  // namespace

absl::StatusOr<FoldReport> Fold(const FoldInputs& inputs,
                                const FoldOptions& options,
                                const FoldOutput& output) {
  const absl::Duration start = options.clock->Monotonic();
  CONSILIUM_ASSIGN_OR_RETURN(const FoldPlan plan,
                             MakePlan(inputs, options, output));
  FoldJob job(&plan);
  CONSILIUM_RETURN_IF_ERROR(job.Run());
  FoldReport report;
  job.Report(&report);
  report.groups = plan.groups;
  for (const GroupFold& group : plan.groups) {
    report.held_groups += group.held ? 1 : 0;
  }
  report.seconds = absl::ToDoubleSeconds(options.clock->Monotonic() - start);
  return report;
}

absl::StatusOr<FoldedVersion> FoldToVersionFile(const FoldInputs& inputs,
                                                const FoldOptions& options,
                                                const Sha256Digest& layout_id,
                                                const HasherFactory& sha256,
                                                File* out) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string header,
                             BuildVersionHeader(*inputs.layout, layout_id));
  const auto data_offset = static_cast<int64_t>(header.size());
  FoldedVersion version;
  version.file_bytes = data_offset + inputs.layout->total_elements() *
                                         static_cast<int64_t>(sizeof(float));
  CONSILIUM_RETURN_IF_ERROR(out->Allocate(version.file_bytes));
  CONSILIUM_RETURN_IF_ERROR(out->WriteAt(0, AsBytes(header)));
  const std::unique_ptr<Hasher> hasher = sha256();
  hasher->Update(AsBytes(header));
  CONSILIUM_ASSIGN_OR_RETURN(
      version.report,
      Fold(inputs, options,
           {.file = out, .data_offset = data_offset, .hasher = hasher.get()}));
  version.digest = hasher->Finish();
  return version;
}

}  // namespace consilium

#include "tests/bench/fold_files_bench.h"

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "consilium/aggregation/fold.h"
#include "consilium/aggregation/frame_cursor.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/random.h"
#include "consilium/secure/seal.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

// Frames of one contribution in a file, one after the other; sealed ones each
// with their tag.
class FileSource final : public ContributionSource {
 public:
  FileSource(std::string name, const CoveredSpace* space, const Codec* codec,
             const ContentKey* key)
      : name_(std::move(name)), space_(space), codec_(codec), key_(key) {}

  // Encodes `values` into `file`, which must outlive this.
  absl::Status Write(std::span<const float> values, File* file) {
    file_ = file;
    std::optional<ChunkSealer> sealer;
    if (key_ != nullptr) {
      CONSILIUM_ASSIGN_OR_RETURN(
          ChunkSealer made, ChunkSealer::Create(*key_, Context(), Total()));
      sealer.emplace(std::move(made));
    }
    int64_t at = 0;
    uint64_t index = 0;
    std::vector<std::byte> sealed;
    PayloadWriter writer(
        space_->elements(), codec_, [&](std::span<const std::byte> frame) {
          if (sealer.has_value()) {
            sealed.resize(frame.size() + kAeadTagBytes);
            CONSILIUM_RETURN_IF_ERROR(sealer->Seal(index, frame, sealed));
            frame = sealed;
          }
          const int64_t to = at;
          at += static_cast<int64_t>(frame.size());
          if (index++ == 0) parameters_ = at;
          return file->WriteAt(to, frame);
        });
    CONSILIUM_RETURN_IF_ERROR(writer.WriteMetadata({.examples = 1}));
    CONSILIUM_RETURN_IF_ERROR(writer.Append(values));
    return writer.Finish();
  }

  std::string_view name() const override { return name_; }
  const Coverage& coverage() const override { return space_->coverage(); }

  absl::StatusOr<std::unique_ptr<ContributionCursor>> Open(
      int64_t first) const override {
    std::shared_ptr<ChunkOpener> opener;
    if (key_ != nullptr) {
      CONSILIUM_ASSIGN_OR_RETURN(
          ChunkOpener made, ChunkOpener::Create(*key_, Context(), Total()));
      opener = std::make_shared<ChunkOpener>(std::move(made));
    }
    return std::make_unique<FrameCursor>(
        codec_, space_->elements(), first,
        opener != nullptr ? CrcCheck::kSkip : CrcCheck::kVerify,
        [this, opener](int64_t frame, std::span<std::byte> buffer) {
          return Load(opener.get(), frame, buffer);
        });
  }

  // Reads frame `frame` (from 1) to the start of `buffer`; opens it in place.
  absl::StatusOr<std::span<const std::byte>> Load(
      ChunkOpener* opener, int64_t frame, std::span<std::byte> buffer) const {
    const std::span<std::byte> stored = buffer.first(StoredBytes(frame));
    CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
        file_, parameters_ + (frame - 1) * static_cast<int64_t>(StoredBytes(1)),
        stored));
    if (opener == nullptr) return stored;
    const auto plain = stored.first(stored.size() - kAeadTagBytes);
    CONSILIUM_RETURN_IF_ERROR(
        opener->Open(static_cast<uint64_t>(frame), stored, plain));
    return plain;
  }

  int64_t frames() const {
    return ParameterFrameCount(*codec_, space_->elements());
  }
  size_t StoredBytes(int64_t frame) const {
    const int64_t before = (frame - 1) * codec_->elements_per_frame();
    const int64_t count =
        std::min(codec_->elements_per_frame(), space_->elements() - before);
    return codec_->MaxFrameBytes(count) + (key_ != nullptr ? kAeadTagBytes : 0);
  }
  SealContext Context() const {
    return {.federation = "bench",
            .round = 1,
            .attempt = 1,
            .institution = name_,
            .upload_id = name_};
  }
  uint64_t Total() const { return static_cast<uint64_t>(frames()) + 1; }

 private:
  const std::string name_;
  const CoveredSpace* const space_;
  const Codec* const codec_;
  const ContentKey* const key_;  // nullptr: plain
  File* file_ = nullptr;
  int64_t parameters_ = 0;
};

class FileBench {
 public:
  FileBench(const FoldBenchOptions& options, double kernel_rate,
            bench::Report* report)
      : options_(options),
        kernel_rate_(kernel_rate),
        report_(report),
        case_(Cat("C=", options.contributors, " f32")) {}

  absl::Status Run() {
    CONSILIUM_RETURN_IF_ERROR(Prepare());
    CONSILIUM_RETURN_IF_ERROR(WriteContributions(&key_));
    CONSILIUM_ASSIGN_OR_RETURN(const double open_rate, OpenRate());
    report_->Add(
        bench::Measured(case_, "AES-256-GCM open", open_rate / kGiga, "GB/s"));
    const double sealed_limit = 1 / (1 / open_rate + 1 / kernel_rate_);
    CONSILIUM_RETURN_IF_ERROR(
        Row("sealed fold / (open + kernel)", 1, false, sealed_limit, 0.8));
    CONSILIUM_RETURN_IF_ERROR(Rows("sealed fold", sealed_limit));
    CONSILIUM_RETURN_IF_ERROR(WriteContributions(nullptr));
    return Rows("plain fold", kernel_rate_);
  }

 private:
  absl::Status Rows(std::string_view what, double limit) {
    for (const int threads : {1, 2}) {
      for (const bool digest : {false, true}) {
        CONSILIUM_RETURN_IF_ERROR(Row(Cat(what, " through files, ", threads,
                                          "T", digest ? " sha256" : ""),
                                      threads, digest, limit, std::nullopt));
      }
    }
    return absl::OkStatus();
  }

  // Bytes of contributions per second against `limit`.
  absl::Status Row(std::string metric, int threads, bool digest, double limit,
                   std::optional<double> must) {
    CONSILIUM_ASSIGN_OR_RETURN(const double seconds,
                               FoldSeconds(threads, digest));
    const double bytes = static_cast<double>(options_.contributors) *
                         static_cast<double>(options_.mib << 20);
    report_->Add(bench::AtLeast(case_, std::move(metric),
                                bytes / seconds / kGiga, "GB/s", limit / kGiga,
                                must));
    return absl::OkStatus();
  }

  absl::Status Prepare() {
    const int64_t elements = options_.mib << 18;
    std::vector<SlotSpec> slots;
    for (int s = 0; s < 64; ++s) {
      slots.push_back({.name = Cat("tensor.", s), .shape = {elements / 64}});
    }
    CONSILIUM_ASSIGN_OR_RETURN(layout_, Layout::Create(std::move(slots)));
    const Sha256Digest id = layout_.ComputeId(Sha256HasherFactory());
    space_ = std::make_unique<CoveredSpace>(&layout_, Coverage::All(layout_));
    CONSILIUM_ASSIGN_OR_RETURN(base_, Create("base"));
    CONSILIUM_ASSIGN_OR_RETURN(out_, Create("out"));
    const std::vector<float> base =
        BenchNumbers(static_cast<size_t>(elements / 64), 99);
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrittenVersion written,
        WriteVersionFile(
            layout_, id,
            [&](const TensorSlot&) -> absl::StatusOr<std::span<const float>> {
              return std::span<const float>(base);
            },
            Sha256HasherFactory(), base_.get()));
    base_offset_ = written.info.data_offset;
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<File>> Create(std::string_view name) {
    return PosixFileSystem()->Open(
        JoinPath(options_.dir, name),
        {.write = true, .create = true, .truncate = true});
  }

  absl::Status WriteContributions(const ContentKey* key) {
    sources_.clear();
    payloads_.clear();
    for (int64_t c = 0; c < options_.contributors; ++c) {
      CONSILIUM_ASSIGN_OR_RETURN(auto file, Create(Cat("payload-", c)));
      payloads_.push_back(std::move(file));
      sources_.push_back(std::make_unique<FileSource>(
          Cat("site-", c), space_.get(), codec_, key));
      CONSILIUM_RETURN_IF_ERROR(sources_.back()->Write(
          BenchNumbers(static_cast<size_t>(space_->elements()),
                       static_cast<uint32_t>(c)),
          payloads_.back().get()));
    }
    return absl::OkStatus();
  }

  // Bytes per second of opening the first contribution's chunks from memory.
  absl::StatusOr<double> OpenRate() {
    const FileSource& source = *sources_[0];
    CONSILIUM_ASSIGN_OR_RETURN(
        ChunkOpener opener,
        ChunkOpener::Create(key_, source.Context(), source.Total()));
    const size_t full = source.StoredBytes(1);
    std::vector<std::vector<std::byte>> chunks;
    CONSILIUM_ASSIGN_OR_RETURN(const int64_t size, payloads_[0]->Size());
    // The chunks end where the file ends.
    int64_t at = size;
    size_t bytes = 0;
    for (int64_t frame = source.frames(); frame >= 1; --frame) {
      std::vector<std::byte> chunk(source.StoredBytes(frame));
      at -= static_cast<int64_t>(chunk.size());
      CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(payloads_[0].get(), at, chunk));
      bytes += chunk.size();
      chunks.push_back(std::move(chunk));
    }
    std::vector<std::byte> plain(full);
    absl::Status status;
    const auto open_all = [&] {
      auto frame = static_cast<uint64_t>(source.frames());
      for (const std::vector<std::byte>& chunk : chunks) {
        status.Update(
            opener.Open(frame--, chunk,
                        std::span(plain).first(chunk.size() - kAeadTagBytes)));
      }
    };
    const double seconds =
        bench::MedianThreadSeconds(options_.repeats, {open_all})[0];
    CONSILIUM_RETURN_IF_ERROR(status);
    return static_cast<double>(bytes) / seconds;
  }

  absl::StatusOr<double> FoldSeconds(int threads, bool digest) {
    FoldInputs inputs = {.layout = &layout_,
                         .base = base_.get(),
                         .base_data_offset = base_offset_};
    for (const auto& source : sources_) {
      inputs.contributions.push_back(
          {.source = source.get(), .weights = {kWeightOne / 2}});
    }
    std::vector<double> seconds;
    for (int i = 0; i <= options_.repeats; ++i) {
      const double start = bench::ThreadNow();
      const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
      CONSILIUM_ASSIGN_OR_RETURN(
          const FoldReport report,
          Fold(inputs, {.threads = threads},
               {.file = out_.get(),
                .data_offset = 4096,
                .hasher = digest ? hasher.get() : nullptr}));
      const double taken =
          threads == 1 ? bench::ThreadNow() - start : report.seconds;
      if (i > 0) seconds.push_back(taken);  // the first one warms up
    }
    return bench::Median(std::move(seconds));
  }

  const FoldBenchOptions& options_;
  const double kernel_rate_;
  bench::Report* const report_;
  const std::string case_;
  const Codec* const codec_ = FindCodec(CodecId::kF32);
  const ContentKey key_ = ContentKey::Generate(*SystemRandom());
  Layout layout_;
  std::unique_ptr<CoveredSpace> space_;
  std::unique_ptr<File> base_, out_;
  int64_t base_offset_ = 0;
  std::vector<std::unique_ptr<File>> payloads_;
  std::vector<std::unique_ptr<FileSource>> sources_;
};

}  // namespace

std::vector<float> BenchNumbers(size_t n, uint32_t seed) {
  std::vector<float> out(n);
  uint32_t state = seed * 2654435761u + 1;
  for (float& v : out) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(state)) * 1e-12f;
  }
  return out;
}

absl::Status RunFileBench(const FoldBenchOptions& options, double kernel_rate,
                          bench::Report* report) {
  return FileBench(options, kernel_rate, report).Run();
}

}  // namespace consilium

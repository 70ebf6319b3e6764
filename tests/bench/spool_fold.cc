#include "tests/bench/spool_fold.h"

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "consilium/aggregation/codec.h"
#include "consilium/aggregation/fold.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/aggregation/weights.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/random.h"
#include "consilium/secure/seal.h"
#include "consilium/secure/sha256.h"
#include "consilium/secure/x25519.h"
#include "coordinator/engine/manifest.h"
#include "coordinator/engine/round_context.h"
#include "coordinator/engine/spool_source.h"
#include "coordinator/store/spool.h"

namespace consilium {
namespace {

constexpr uint64_t kRound = 1;

class SpoolBench {
 public:
  SpoolBench(const FoldBenchOptions& options, double kernel_rate,
             bench::Report* report)
      : options_(options),
        kernel_rate_(kernel_rate),
        report_(report),
        case_(Cat("C=", options.contributors, " f32")) {}

  // The row with a bar, and the others where `all` asks for them.
  absl::Status Run(bool all) {
    CONSILIUM_RETURN_IF_ERROR(Prepare());
    CONSILIUM_RETURN_IF_ERROR(WriteSpools(/*sealed=*/true));
    CONSILIUM_ASSIGN_OR_RETURN(const double open_rate, OpenRate());
    report_->Add(
        bench::Measured(case_, "AES-256-GCM open", open_rate / kGiga, "GB/s"));
    const double sealed_limit = 1 / (1 / open_rate + 1 / kernel_rate_);
    CONSILIUM_RETURN_IF_ERROR(
        Row("sealed fold / (open + kernel)", 1, false, sealed_limit, 0.8));
    if (!all) return absl::OkStatus();
    CONSILIUM_RETURN_IF_ERROR(Rows("sealed fold", sealed_limit));
    CONSILIUM_RETURN_IF_ERROR(WriteSpools(/*sealed=*/false));
    return Rows("plain fold", kernel_rate_);
  }

 private:
  absl::Status Rows(std::string_view what, double limit) {
    for (const int threads : {1, 2}) {
      for (const bool digest : {false, true}) {
        CONSILIUM_RETURN_IF_ERROR(Row(
            Cat(what, " over spools, ", threads, "T", digest ? " sha256" : ""),
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
    auto layout = std::make_shared<FederationLayout>();
    CONSILIUM_ASSIGN_OR_RETURN(layout->layout,
                               Layout::Create(std::move(slots)));
    layout->id = layout->layout.ComputeId(Sha256HasherFactory());
    layout_ = std::move(layout);
    CONSILIUM_ASSIGN_OR_RETURN(base_, Create("base"));
    CONSILIUM_ASSIGN_OR_RETURN(out_, Create("out"));
    const std::vector<float> base =
        BenchNumbers(static_cast<size_t>(elements / 64), 99);
    CONSILIUM_ASSIGN_OR_RETURN(
        const WrittenVersion written,
        WriteVersionFile(
            layout_->layout, layout_->id,
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

  // A round with one spool for each contributor, as the coordinator keeps them.
  absl::Status WriteSpools(bool sealed) {
    auto round = std::make_shared<RoundContext>();
    round->layout = layout_;
    round->statement.federation = "bench";
    round->statement.round = kRound;
    round->statement.attempt = sealed ? 1 : 2;
    if (sealed) {
      CONSILIUM_ASSIGN_OR_RETURN(X25519PrivateKey key,
                                 X25519PrivateKey::Generate(*SystemRandom()));
      round->sealing_key.emplace(std::move(key));
    }
    sources_.clear();
    for (int64_t c = 0; c < options_.contributors; ++c) {
      CONSILIUM_RETURN_IF_ERROR(WriteSpool(round, c));
    }
    return absl::OkStatus();
  }

  absl::Status WriteSpool(const std::shared_ptr<const RoundContext>& round,
                          int64_t c) {
    const std::string name = Cat("site-", c);
    const int64_t elements = layout_->layout.total_elements();
    const int64_t frames = ParameterFrameCount(*codec_, elements);
    UploadManifest m;
    m.round = round->round();
    m.attempt = round->attempt();
    m.upload_id.fill(static_cast<std::byte>(c));
    m.layout_digest = layout_->id;
    m.coverage = Coverage::All(layout_->layout).bytes();
    m.elements = elements;
    m.elements_per_frame = codec_->elements_per_frame();
    m.chunk_count = frames + 1;
    m.sealed = round->sealed();
    std::optional<ChunkSealer> sealer;
    if (m.sealed) {
      key_.emplace(ContentKey::Generate(*SystemRandom()));
      const SealContext context = round->SealContextFor(name, m.upload_id);
      CONSILIUM_ASSIGN_OR_RETURN(
          const WrappedKey wrapped,
          WrapContentKey(*key_, round->sealing_key->public_key(), context,
                         *SystemRandom()));
      m.ephemeral_public = std::string(AsChars(wrapped.ephemeral_public.bytes));
      m.wrapped_content_key = std::string(AsChars(wrapped.ciphertext));
      CONSILIUM_ASSIGN_OR_RETURN(
          ChunkSealer made,
          ChunkSealer::Create(*key_, context,
                              static_cast<uint64_t>(m.chunk_count)));
      sealer.emplace(std::move(made));
    }
    SpoolHeader header;
    header.sealed = m.sealed;
    header.total_chunks = static_cast<uint64_t>(m.chunk_count);
    header.payload_bytes = 1;  // the fold does not ask
    header.max_record_bytes = static_cast<uint32_t>(kMaxSealedChunkBytes);
    header.elements_per_frame = static_cast<uint64_t>(m.elements_per_frame);
    header.manifest = m.Encode();
    header.wrapped_key = m.ephemeral_public + m.wrapped_content_key;
    SpoolDir spools(PosixFileSystem(), options_.dir, nullptr);
    CONSILIUM_RETURN_IF_ERROR(spools.Prepare());
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::unique_ptr<SpoolWriter> writer,
        spools.Create({m.round, m.attempt, name, m.IdHex()}, std::move(header),
                      [](absl::StatusOr<uint64_t>) {}));
    chunks_.clear();
    PayloadWriter payload(
        elements, codec_, [&](std::span<const std::byte> frame) {
          std::vector<std::byte> chunk(frame.begin(), frame.end());
          if (sealer.has_value()) {
            chunk.resize(frame.size() + kAeadTagBytes);
            CONSILIUM_RETURN_IF_ERROR(
                sealer->Seal(chunks_.size(), frame, chunk));
          }
          chunks_.push_back(std::move(chunk));
          return writer->Append(chunks_.size() - 1, chunks_.back());
        });
    CONSILIUM_RETURN_IF_ERROR(payload.WriteMetadata({.examples = 1}));
    CONSILIUM_RETURN_IF_ERROR(payload.Append(
        BenchNumbers(static_cast<size_t>(elements), static_cast<uint32_t>(c))));
    CONSILIUM_RETURN_IF_ERROR(payload.Finish());
    CONSILIUM_RETURN_IF_ERROR(writer->Flush());
    CONSILIUM_ASSIGN_OR_RETURN(
        std::unique_ptr<SpoolSource> source,
        SpoolSource::Create(round, name, spools, writer->path()));
    sources_.push_back(std::move(source));
    return absl::OkStatus();
  }

  // Bytes per second of opening the last contribution's chunks from memory.
  absl::StatusOr<double> OpenRate() {
    const UploadManifest& m = sources_.back()->manifest();
    const SealContext context{"bench", kRound, 1,
                              std::string(sources_.back()->name()),
                              std::string(AsChars(m.upload_id))};
    CONSILIUM_ASSIGN_OR_RETURN(
        ChunkOpener opener,
        ChunkOpener::Create(*key_, context,
                            static_cast<uint64_t>(m.chunk_count)));
    std::vector<std::byte> plain(kMaxSealedChunkBytes);
    size_t bytes = 0;
    absl::Status status;
    const auto open_all = [&] {
      bytes = 0;
      for (size_t i = 0; i < chunks_.size(); ++i) {
        const size_t size = chunks_[i].size() - kAeadTagBytes;
        bytes += size;
        status.Update(opener.Open(i, chunks_[i], std::span(plain).first(size)));
      }
    };
    const double seconds =
        bench::MedianThreadSeconds(options_.repeats, {open_all})[0];
    CONSILIUM_RETURN_IF_ERROR(status);
    return static_cast<double>(bytes) / seconds;
  }

  absl::StatusOr<double> FoldSeconds(int threads, bool digest) {
    FoldInputs inputs = {.layout = &layout_->layout,
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
  const Codec* const codec_ = *FindCodec(CodecId::kF32, kMaxElementsPerFrame);
  std::shared_ptr<const FederationLayout> layout_;
  std::unique_ptr<File> base_, out_;
  int64_t base_offset_ = 0;
  std::vector<std::unique_ptr<SpoolSource>> sources_;
  // Of the last contribution: its key, and its chunks as they are stored.
  std::optional<ContentKey> key_;
  std::vector<std::vector<std::byte>> chunks_;
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

absl::Status AddSpoolFoldRows(const FoldBenchOptions& options,
                              double kernel_rate, bool all,
                              bench::Report* report) {
  return SpoolBench(options, kernel_rate, report).Run(all);
}

}  // namespace consilium

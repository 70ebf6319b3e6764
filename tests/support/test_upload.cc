#include "tests/support/test_upload.h"

#include <memory>
#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/split_mix.h"
#include "consilium/base/status_macros.h"
#include "consilium/secure/sha256.h"

namespace consilium {

std::shared_ptr<const RoundContext> MakeTestRound(std::string_view layout_text,
                                                  bool sealed,
                                                  int64_t max_update_bytes,
                                                  int64_t elements_per_frame) {
  auto layout = std::make_shared<FederationLayout>();
  layout->layout = Layout::Parse(layout_text).value();
  layout->text = std::string(layout_text);
  layout->id = Sha256(AsBytes(layout_text));

  auto context = std::make_shared<RoundContext>();
  RoundStatement& s = context->statement;
  s.federation = "cards";
  s.round = 7;
  s.attempt = 2;
  s.base = {3, Sha256(AsBytes("version 3")), 1000};
  s.layout_digest = layout->id;
  s.codecs = {static_cast<uint32_t>(CodecId::kF32)};
  s.elements_per_frame = static_cast<uint32_t>(elements_per_frame);
  s.max_update_bytes = static_cast<uint64_t>(max_update_bytes);
  s.weight_max = 1000;
  s.min_examples = 1;
  context->layout = std::move(layout);
  if (sealed) {
    SplitMixRandom random(11);
    context->sealing_key.emplace(X25519PrivateKey::Generate(random).value());
    s.sealing_public_key = context->sealing_key->public_key();
  }
  return context;
}

TestUpload MakeTestUpload(const RoundContext& round,
                          const std::string& institution,
                          std::string_view coverage, uint8_t id,
                          uint64_t examples, std::span<const float> values) {
  const Layout& layout = round.layout->layout;
  const CoveredSpace space(
      &layout, Coverage::FromBytes(coverage, layout.groups().size()).value());
  TestUpload upload;
  UploadManifest& m = upload.manifest;
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  const int64_t per_frame = round.statement.elements_per_frame;
  PayloadWriter writer(space.elements(), *FindCodec(CodecId::kF32, per_frame),
                       [&](std::span<const std::byte> frame) {
                         hasher->Update(frame);
                         upload.frames.emplace_back(frame.begin(), frame.end());
                         return absl::OkStatus();
                       });
  std::vector<float> same;
  if (values.empty()) {
    same.assign(static_cast<size_t>(space.elements()), 0.5f);
    values = same;
  }
  CONSILIUM_CHECK(writer.WriteMetadata({.examples = examples}).ok());
  CONSILIUM_CHECK(writer.Append(values).ok() && writer.Finish().ok());

  m.round = round.round();
  m.attempt = round.attempt();
  m.upload_id.fill(static_cast<std::byte>(id));
  m.layout_digest = round.layout->id;
  m.base_version = static_cast<int64_t>(round.statement.base.number);
  m.base_digest = round.statement.base.digest;
  m.coverage = std::string(coverage);
  m.codec = static_cast<uint32_t>(CodecId::kF32);
  m.elements = space.elements();
  m.elements_per_frame = per_frame;
  m.payload_bytes = writer.bytes();
  m.chunk_count = writer.frames();
  m.payload_digest = hasher->Finish();
  m.sealed = round.sealed();
  if (!m.sealed) {
    upload.chunks = upload.frames;
    return upload;
  }

  SplitMixRandom random(uint64_t{100} + id);
  const SealContext seal = round.SealContextFor(institution, m.upload_id);
  const ContentKey key = ContentKey::Generate(random);
  const WrappedKey wrapped =
      WrapContentKey(key, *round.statement.sealing_public_key, seal, random)
          .value();
  m.ephemeral_public = std::string(AsChars(wrapped.ephemeral_public.bytes));
  m.wrapped_content_key = std::string(AsChars(wrapped.ciphertext));
  ChunkSealer sealer =
      ChunkSealer::Create(key, seal, upload.frames.size()).value();
  for (const std::vector<std::byte>& frame : upload.frames) {
    std::vector<std::byte> chunk(frame.size() + kAeadTagBytes);
    CONSILIUM_CHECK(sealer.Seal(upload.chunks.size(), frame, chunk).ok());
    upload.chunks.push_back(std::move(chunk));
  }
  return upload;
}

absl::StatusOr<std::shared_ptr<UploadSession>> ResumeTestUpload(
    std::shared_ptr<const RoundContext> round, std::shared_ptr<PeerState> peer,
    const UploadManifest& manifest, SpoolDir& spools, const std::string& path) {
  UploadResumption resumption(
      {std::move(round), std::move(peer), manifest, {}, path}, &spools);
  for (;;) {
    CONSILIUM_ASSIGN_OR_RETURN(const bool done, resumption.Step(1));
    if (done) return resumption.session();
  }
}

}  // namespace consilium

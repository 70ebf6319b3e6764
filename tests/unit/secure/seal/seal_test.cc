#include "consilium/secure/seal.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_vectors.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

SealContext Context() {
  return SealContext{"cards", 7, 2, "bank-a", std::string(16, '\x5a')};
}

// Each of them changes one thing that a seal is bound to.
std::vector<SealContext> OtherContexts() {
  std::vector<SealContext> others;
  const auto add = [&others](const std::function<void(SealContext&)>& change) {
    SealContext context = Context();
    change(context);
    others.push_back(context);
  };
  add([](SealContext& c) { c.federation = "loans"; });
  add([](SealContext& c) { c.round = 8; });
  add([](SealContext& c) { c.attempt = 3; });
  add([](SealContext& c) { c.institution = "bank-b"; });
  add([](SealContext& c) { c.upload_id[0] ^= 1; });
  return others;
}

class SealTest : public ::testing::Test {
 protected:
  SealTest() : key_(ContentKey::Generate(random_)) {}

  std::vector<std::byte> Sealed(uint64_t index, std::string_view frame,
                                uint64_t total = 4) {
    absl::StatusOr<ChunkSealer> sealer =
        ChunkSealer::Create(key_, Context(), total);
    std::vector<std::byte> out(frame.size() + kAeadTagBytes);
    EXPECT_OK(sealer.status());
    EXPECT_OK(sealer->Seal(index, AsBytes(frame), out));
    return out;
  }

  SeededRandom random_;
  ContentKey key_;
};

TEST_F(SealTest, ChunksOpenInAnyOrderAndInPlace) {
  ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                       ChunkOpener::Create(key_, Context(), 4));
  for (const uint64_t index : {3, 0, 2, 1}) {
    std::vector<std::byte> chunk = Sealed(index, "frame");
    ASSERT_OK(opener.Open(index, chunk, std::span(chunk).first(5)));
    EXPECT_EQ(AsChars(std::span(chunk).first(5)), "frame");
  }
}

TEST_F(SealTest, SealingAgainGivesTheSameBytes) {
  EXPECT_EQ(Sealed(1, "frame"), Sealed(1, "frame"));
  EXPECT_NE(Sealed(1, "frame"), Sealed(2, "frame"));
}

// The construction, spelled out: whoever changes it changes the format.
TEST_F(SealTest, NonceAndAssociatedDataAreAsDocumented) {
  const std::vector<std::byte> chunk = Sealed(0x0102, "frame", 0x0304);
  const auto field = [](std::string_view text) {
    std::byte length[8];
    StoreBigEndian<uint64_t>(text.size(), length);
    return std::string(AsChars(length)) + std::string(text);
  };
  const auto number = [&field](uint64_t value) {
    std::byte raw[8];
    StoreBigEndian(value, raw);
    return field(AsChars(raw));
  };
  const std::string aad = field("consilium/chunk/v1") + field("cards") +
                          number(7) + number(2) + field("bank-a") +
                          field(std::string(16, '\x5a')) + number(0x0102) +
                          number(0x0304);
  const std::vector<std::byte> nonce = FromHex("000000000000000000000102");
  ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key_.secret()));
  std::vector<std::byte> out(5);
  EXPECT_OK(opener.Open(nonce, AsBytes(aad), chunk, out));
  EXPECT_EQ(AsChars(out), "frame");
}

TEST_F(SealTest, AChunkOpensOnlyAsItselfInItsUpload) {
  const std::vector<std::byte> chunk = Sealed(1, "frame");
  std::vector<std::byte> out(5);
  for (const SealContext& other : OtherContexts()) {
    ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                         ChunkOpener::Create(key_, other, 4));
    EXPECT_THAT(opener.Open(1, chunk, out),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("chunk 1 of")));
  }
  ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                       ChunkOpener::Create(key_, Context(), 4));
  EXPECT_THAT(opener.Open(2, chunk, out),
              StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK_AND_ASSIGN(ChunkOpener longer,
                       ChunkOpener::Create(key_, Context(), 5));
  EXPECT_THAT(longer.Open(1, chunk, out),
              StatusIs(absl::StatusCode::kDataLoss));
  const ContentKey other_key = ContentKey::Generate(random_);
  ASSERT_OK_AND_ASSIGN(ChunkOpener stranger,
                       ChunkOpener::Create(other_key, Context(), 4));
  EXPECT_THAT(stranger.Open(1, chunk, out),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_OK(opener.Open(1, chunk, out));
}

TEST_F(SealTest, AChunkOpensInPieces) {
  ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                       ChunkOpener::Create(key_, Context(), 4));
  for (const uint64_t index : {2, 1}) {
    std::vector<std::byte> chunk = Sealed(index, "a frame");
    const std::span<std::byte> body = std::span(chunk).first(7);
    ASSERT_OK(opener.Begin(index));
    ASSERT_OK(opener.Update(body.first(3), body.first(3)));
    ASSERT_OK(opener.Update(body.subspan(3), body.subspan(3)));
    EXPECT_OK(opener.Finish(std::span(chunk).last(kAeadTagBytes)));
    EXPECT_EQ(AsChars(body), "a frame");
    // As another index it is refused, by name.
    chunk = Sealed(index, "a frame");
    ASSERT_OK(opener.Begin(3));
    ASSERT_OK(
        opener.Update(std::span(chunk).first(7), std::span(chunk).first(7)));
    EXPECT_THAT(
        opener.Finish(std::span(chunk).last(kAeadTagBytes)),
        StatusIs(absl::StatusCode::kDataLoss, HasSubstr("chunk 3 of 4")));
  }
  EXPECT_THAT(opener.Begin(4), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(SealTest, FlippedBitsAreFound) {
  ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                       ChunkOpener::Create(key_, Context(), 4));
  const std::vector<std::byte> chunk = Sealed(1, "frame");
  std::vector<std::byte> out(5);
  for (size_t i = 0; i < chunk.size(); ++i) {
    std::vector<std::byte> changed = chunk;
    changed[i] ^= std::byte{0x80};
    EXPECT_THAT(opener.Open(1, changed, out),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST_F(SealTest, IndexesAndSizesAreChecked) {
  ASSERT_OK_AND_ASSIGN(ChunkSealer sealer,
                       ChunkSealer::Create(key_, Context(), 4));
  ASSERT_OK_AND_ASSIGN(ChunkOpener opener,
                       ChunkOpener::Create(key_, Context(), 4));
  std::vector<std::byte> buffer(kMaxSealedChunkBytes + 1);
  const std::span<std::byte> all(buffer);
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  for (const uint64_t index :
       {uint64_t{4}, std::numeric_limits<uint64_t>::max()}) {
    EXPECT_THAT(sealer.Seal(index, all.first(1), all.first(17)),
                StatusIs(kInvalid, HasSubstr("beyond the 4 chunks")));
    EXPECT_THAT(opener.Open(index, all.first(17), all.first(1)),
                StatusIs(kInvalid));
  }
  EXPECT_OK(sealer.Seal(0, all.first(kMaxChunkFrameBytes),
                        all.first(kMaxSealedChunkBytes)));
  EXPECT_THAT(sealer.Seal(0, all.first(kMaxChunkFrameBytes + 1), all),
              StatusIs(kInvalid));
  EXPECT_THAT(opener.Open(0, all, all.first(kMaxChunkFrameBytes + 1)),
              StatusIs(kInvalid));
  EXPECT_THAT(opener.Open(0, all.first(15), {}), StatusIs(kInvalid));
}

TEST_F(SealTest, AContentKeyUnwrapsWithItsRoundAndContextOnly) {
  ASSERT_OK_AND_ASSIGN(const X25519PrivateKey round,
                       X25519PrivateKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(const X25519PrivateKey other,
                       X25519PrivateKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(
      const WrappedKey wrapped,
      WrapContentKey(key_, round.public_key(), Context(), random_));
  ASSERT_OK_AND_ASSIGN(const ContentKey unwrapped,
                       UnwrapContentKey(wrapped, round, Context()));
  EXPECT_TRUE(unwrapped == key_);

  EXPECT_THAT(UnwrapContentKey(wrapped, other, Context()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bank-a")));
  for (const SealContext& context : OtherContexts()) {
    EXPECT_THAT(UnwrapContentKey(wrapped, round, context),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  for (size_t i = 0; i < WrappedKey::kBytes; ++i) {
    std::string changed = wrapped.Serialize();
    changed[i] ^= 1;
    ASSERT_OK_AND_ASSIGN(const WrappedKey bad,
                         WrappedKey::Parse(AsBytes(changed)));
    EXPECT_FALSE(UnwrapContentKey(bad, round, Context()).ok()) << i;
  }
}

TEST_F(SealTest, WrappingUsesAFreshKeyEachTimeAndRefusesLowOrder) {
  ASSERT_OK_AND_ASSIGN(const X25519PrivateKey round,
                       X25519PrivateKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(WrappedKey a, WrapContentKey(key_, round.public_key(),
                                                    Context(), random_));
  ASSERT_OK_AND_ASSIGN(
      const WrappedKey b,
      WrapContentKey(key_, round.public_key(), Context(), random_));
  EXPECT_NE(a.Serialize(), b.Serialize());
  a.ephemeral_public = X25519PublicKey{};
  EXPECT_THAT(UnwrapContentKey(a, round, Context()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(WrapContentKey(key_, X25519PublicKey{}, Context(), random_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(SealTest, WrappedKeysGoThroughBytes) {
  ASSERT_OK_AND_ASSIGN(const X25519PrivateKey round,
                       X25519PrivateKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(
      const WrappedKey wrapped,
      WrapContentKey(key_, round.public_key(), Context(), random_));
  const std::string bytes = wrapped.Serialize();
  EXPECT_EQ(bytes.size(), WrappedKey::kBytes);
  ASSERT_OK_AND_ASSIGN(const WrappedKey parsed,
                       WrappedKey::Parse(AsBytes(bytes)));
  EXPECT_EQ(parsed.Serialize(), bytes);
  ASSERT_OK_AND_ASSIGN(const WrappedKey parts,
                       WrappedKey::FromParts(wrapped.ephemeral_public.bytes,
                                             wrapped.ciphertext));
  EXPECT_EQ(parts.Serialize(), bytes);
  EXPECT_THAT(WrappedKey::Parse(AsBytes(bytes.substr(1))),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(WrappedKey::FromParts(wrapped.ciphertext, wrapped.ciphertext),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ContentKey::FromSecret(SecretBytes(31)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

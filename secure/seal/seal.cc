#include "consilium/secure/seal.h"

#include <algorithm>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/canonical.h"
#include "consilium/secure/hkdf.h"

namespace consilium {
namespace {

constexpr char kChunkDomain[] = "consilium/chunk/v1";
constexpr char kWrapDomain[] = "consilium/wrap/v1";

// An integer field is 8 bytes of length and 8 of value (canonical.h), and the
// index is the last field but one.
constexpr size_t kFieldBytes = 16;
constexpr size_t kValueBytes = 8;

// Each wrapping key encrypts one message.
constexpr std::array<std::byte, kAeadNonceBytes> kZeroNonce{};

CanonicalEncoder ContextEncoder(const char* domain,
                                const SealContext& context) {
  CanonicalEncoder encoder(domain);
  encoder.String(context.federation)
      .U64(context.round)
      .U64(context.attempt)
      .String(context.institution)
      .String(context.upload_id);
  return encoder;
}

// The key that wraps a content key, from either side's view of the agreement.
absl::StatusOr<SecretBytes> WrappingKey(const X25519PrivateKey& mine,
                                        const X25519PublicKey& theirs,
                                        const X25519PublicKey& ephemeral,
                                        const X25519PublicKey& round,
                                        std::span<const std::byte> info) {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes shared, mine.Agree(theirs));
  std::array<std::byte, 2 * kX25519KeyBytes> salt;
  std::copy(
      round.bytes.begin(), round.bytes.end(),
      std::copy(ephemeral.bytes.begin(), ephemeral.bytes.end(), salt.begin()));
  return HkdfSha256(shared.Bytes(SecretAccess("derives a wrapping key")), salt,
                    info, kAeadKeyBytes);
}

}  // namespace

ContentKey ContentKey::Generate(RandomSource& random) {
  SecretBytes secret(kAeadKeyBytes);
  random.Fill(secret.MutableBytes(SecretAccess("generates")));
  return ContentKey(std::move(secret));
}

absl::StatusOr<ContentKey> ContentKey::FromSecret(SecretBytes secret) {
  if (secret.size() != kAeadKeyBytes) {
    return absl::InvalidArgumentError(Cat("a content key has ", kAeadKeyBytes,
                                          " bytes, not ", secret.size()));
  }
  return ContentKey(std::move(secret));
}

absl::StatusOr<WrappedKey> WrappedKey::FromParts(
    std::span<const std::byte> ephemeral_public,
    std::span<const std::byte> ciphertext) {
  WrappedKey wrapped;
  CONSILIUM_ASSIGN_OR_RETURN(wrapped.ephemeral_public,
                             X25519PublicKey::FromBytes(ephemeral_public));
  if (ciphertext.size() != kCiphertextBytes) {
    return absl::InvalidArgumentError(
        Cat("the ciphertext of a wrapped key has ", kCiphertextBytes,
            " bytes, not ", ciphertext.size()));
  }
  std::copy(ciphertext.begin(), ciphertext.end(), wrapped.ciphertext.begin());
  return wrapped;
}

absl::StatusOr<WrappedKey> WrappedKey::Parse(std::span<const std::byte> bytes) {
  if (bytes.size() != kBytes) {
    return absl::InvalidArgumentError(
        Cat("a wrapped key has ", kBytes, " bytes, not ", bytes.size()));
  }
  return FromParts(bytes.first(kX25519KeyBytes),
                   bytes.subspan(kX25519KeyBytes));
}

std::string WrappedKey::Serialize() const {
  std::string out(AsChars(ephemeral_public.bytes));
  out.append(AsChars(ciphertext));
  return out;
}

absl::StatusOr<WrappedKey> WrapContentKey(const ContentKey& key,
                                          const X25519PublicKey& round_public,
                                          const SealContext& context,
                                          RandomSource& random) {
  CONSILIUM_ASSIGN_OR_RETURN(const X25519PrivateKey ephemeral,
                             X25519PrivateKey::Generate(random));
  const CanonicalEncoder info = ContextEncoder(kWrapDomain, context);
  CONSILIUM_ASSIGN_OR_RETURN(
      const SecretBytes wrapping,
      WrappingKey(ephemeral, round_public, ephemeral.public_key(), round_public,
                  info.bytes()));
  CONSILIUM_ASSIGN_OR_RETURN(AeadSealer sealer, AeadSealer::Create(wrapping));
  WrappedKey wrapped;
  wrapped.ephemeral_public = ephemeral.public_key();
  CONSILIUM_RETURN_IF_ERROR(
      sealer.Seal(kZeroNonce, info.bytes(),
                  key.secret().Bytes(SecretAccess("wraps a content key")),
                  wrapped.ciphertext));
  return wrapped;
}

absl::StatusOr<ContentKey> UnwrapContentKey(
    const WrappedKey& wrapped, const X25519PrivateKey& round_private,
    const SealContext& context) {
  const CanonicalEncoder info = ContextEncoder(kWrapDomain, context);
  CONSILIUM_ASSIGN_OR_RETURN(
      const SecretBytes wrapping,
      WrappingKey(round_private, wrapped.ephemeral_public,
                  wrapped.ephemeral_public, round_private.public_key(),
                  info.bytes()));
  CONSILIUM_ASSIGN_OR_RETURN(AeadOpener opener, AeadOpener::Create(wrapping));
  SecretBytes secret(kAeadKeyBytes);
  const absl::Status opened =
      opener.Open(kZeroNonce, info.bytes(), wrapped.ciphertext,
                  secret.MutableBytes(SecretAccess("unwraps a content key")));
  if (!opened.ok()) {
    return Annotate(
        opened,
        Cat("the content key of ", context.institution, "'s upload to round ",
            context.round, " attempt ", context.attempt, " does not unwrap"));
  }
  return ContentKey::FromSecret(std::move(secret));
}

namespace internal {

ChunkBinding::ChunkBinding(const SealContext& context, uint64_t total_chunks)
    : total_(total_chunks) {
  CanonicalEncoder encoder = ContextEncoder(kChunkDomain, context);
  encoder.U64(0).U64(total_chunks);
  aad_ = std::move(encoder).str();
  index_offset_ = aad_.size() - kFieldBytes - kValueBytes;
}

absl::Status ChunkBinding::Select(uint64_t index) {
  if (index >= total_) {
    return absl::InvalidArgumentError(Cat("chunk ", index, " is beyond the ",
                                          total_, " chunks of this upload"));
  }
  StoreBigEndian(index,
                 reinterpret_cast<std::byte*>(aad_.data()) + index_offset_);
  StoreBigEndian(index, nonce_.data() + kAeadNonceBytes - kValueBytes);
  return absl::OkStatus();
}

}  // namespace internal

absl::StatusOr<ChunkSealer> ChunkSealer::Create(const ContentKey& key,
                                                const SealContext& context,
                                                uint64_t total_chunks) {
  CONSILIUM_ASSIGN_OR_RETURN(AeadSealer aead, AeadSealer::Create(key.secret()));
  return ChunkSealer(std::move(aead),
                     internal::ChunkBinding(context, total_chunks));
}

absl::Status ChunkSealer::Seal(uint64_t index, std::span<const std::byte> frame,
                               std::span<std::byte> out) {
  CONSILIUM_RETURN_IF_ERROR(binding_.Select(index));
  if (frame.size() > kMaxChunkFrameBytes) {
    return absl::InvalidArgumentError(Cat("frame ", index, " of ", frame.size(),
                                          " bytes exceeds ",
                                          kMaxChunkFrameBytes, " bytes"));
  }
  return aead_.Seal(binding_.nonce(), binding_.aad(), frame, out);
}

absl::StatusOr<ChunkOpener> ChunkOpener::Create(const ContentKey& key,
                                                const SealContext& context,
                                                uint64_t total_chunks) {
  CONSILIUM_ASSIGN_OR_RETURN(AeadOpener aead, AeadOpener::Create(key.secret()));
  return ChunkOpener(std::move(aead),
                     internal::ChunkBinding(context, total_chunks));
}

absl::Status ChunkOpener::Open(uint64_t index,
                               std::span<const std::byte> sealed,
                               std::span<std::byte> out) {
  CONSILIUM_RETURN_IF_ERROR(binding_.Select(index));
  if (sealed.size() < kAeadTagBytes || sealed.size() > kMaxSealedChunkBytes) {
    return absl::InvalidArgumentError(
        Cat("sealed chunk ", index, " has ", sealed.size(), " bytes; ",
            kAeadTagBytes, " to ", kMaxSealedChunkBytes, " are allowed"));
  }
  index_ = index;
  return Told(aead_.Open(binding_.nonce(), binding_.aad(), sealed, out));
}

absl::Status ChunkOpener::Begin(uint64_t index) {
  CONSILIUM_RETURN_IF_ERROR(binding_.Select(index));
  index_ = index;
  return aead_.Begin(binding_.nonce(), binding_.aad());
}

absl::Status ChunkOpener::Finish(std::span<const std::byte> tag) {
  return Told(aead_.Finish(tag));
}

absl::Status ChunkOpener::Told(const absl::Status& status) const {
  if (status.code() != absl::StatusCode::kDataLoss) return status;
  return Annotate(status, Cat("chunk ", index_, " of ", binding_.total()));
}

}  // namespace consilium

// Sealed chunks: encryption of uploads to the key of their round.
#ifndef CONSILIUM_SECURE_SEAL_H_
#define CONSILIUM_SECURE_SEAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/random.h"
#include "consilium/secure/aead.h"
#include "consilium/secure/secret_bytes.h"
#include "consilium/secure/x25519.h"

namespace consilium {

// Sealing: every chunk of an upload is encrypted under a content key of that
// upload, and the content key is wrapped to the round's public key. secure/
// DESIGN.md says what this protects.

// What a sealed upload is bound to. Both sides build it from what they know,
// never from the sealed bytes.
struct SealContext {
  std::string federation;
  uint64_t round = 0;
  uint32_t attempt = 0;
  std::string institution;
  std::string upload_id;  // raw bytes
};

// A random key for one upload. Never used for two payloads: a chunk's nonce is
// its index.
class ContentKey {
 public:
  static ContentKey Generate(RandomSource& random);
  // Errors: INVALID_ARGUMENT  not 32 bytes.
  static absl::StatusOr<ContentKey> FromSecret(SecretBytes secret);
  const SecretBytes& secret() const { return secret_; }
  friend bool operator==(const ContentKey&, const ContentKey&) = default;

 private:
  explicit ContentKey(SecretBytes secret) : secret_(std::move(secret)) {}
  SecretBytes secret_;
};

// A content key encrypted to a round's key. Not secret.
struct WrappedKey {
  static constexpr size_t kCiphertextBytes = kAeadKeyBytes + kAeadTagBytes;
  static constexpr size_t kBytes = kX25519KeyBytes + kCiphertextBytes;  // 80

  X25519PublicKey ephemeral_public;
  std::array<std::byte, kCiphertextBytes> ciphertext{};

  // Errors: INVALID_ARGUMENT  wrong size.
  static absl::StatusOr<WrappedKey> FromParts(
      std::span<const std::byte> ephemeral_public,
      std::span<const std::byte> ciphertext);
  static absl::StatusOr<WrappedKey> Parse(std::span<const std::byte> bytes);
  std::string Serialize() const;  // ephemeral key, then ciphertext
};

// X25519 with a fresh ephemeral key, then HKDF-SHA256 (salt: ephemeral public
// key and round public key; info: canonical "consilium/wrap/v1" + context),
// then AES-256-GCM with nonce 0 (the key is used once) and the info as
// associated data.
absl::StatusOr<WrappedKey> WrapContentKey(const ContentKey& key,
                                          const X25519PublicKey& round_public,
                                          const SealContext& context,
                                          RandomSource& random);
// Errors: DATA_LOSS         another round key or context, or changed bytes
//         INVALID_ARGUMENT  a low-order ephemeral key
absl::StatusOr<ContentKey> UnwrapContentKey(
    const WrappedKey& wrapped, const X25519PrivateKey& round_private,
    const SealContext& context);

// Sizes in bytes: a sealed chunk is its frame plus a tag.
inline constexpr size_t kMaxSealedChunkBytes = size_t{1} << 20;
inline constexpr size_t kMaxChunkFrameBytes =
    kMaxSealedChunkBytes - kAeadTagBytes;

namespace internal {
// The associated data of chunks: all of it is fixed but for the index, which
// is overwritten in place.
class ChunkBinding {
 public:
  ChunkBinding(const SealContext& context, uint64_t total_chunks);
  // Sets `index`; the spans below are valid until the next call.
  absl::Status Select(uint64_t index);
  std::span<const std::byte> aad() const {
    return std::as_bytes(std::span(aad_.data(), aad_.size()));
  }
  std::span<const std::byte> nonce() const { return nonce_; }
  uint64_t total() const { return total_; }

 private:
  std::string aad_;
  size_t index_offset_;
  uint64_t total_;
  std::array<std::byte, kAeadNonceBytes> nonce_{};
};
}  // namespace internal

// Seals the chunks of one upload, in any order. Sealing an index again gives
// the same bytes for the same frame, so a resume may repeat it; another frame
// under the same index would break the encryption, so a changed payload needs
// a new upload id and key. One thread at a time.
class ChunkSealer {
 public:
  static absl::StatusOr<ChunkSealer> Create(const ContentKey& key,
                                            const SealContext& context,
                                            uint64_t total_chunks);
  // `out` has frame.size() + kAeadTagBytes bytes and may start at `frame`.
  // Errors: INVALID_ARGUMENT  index >= total_chunks, or a size is wrong.
  absl::Status Seal(uint64_t index, std::span<const std::byte> frame,
                    std::span<std::byte> out);

 private:
  ChunkSealer(AeadSealer aead, internal::ChunkBinding binding)
      : aead_(std::move(aead)), binding_(std::move(binding)) {}
  AeadSealer aead_;
  internal::ChunkBinding binding_;
};

// Opens chunks of one upload, in any order. One thread at a time; openers of
// one upload in several threads are independent.
class ChunkOpener {
 public:
  static absl::StatusOr<ChunkOpener> Create(const ContentKey& key,
                                            const SealContext& context,
                                            uint64_t total_chunks);
  // `out` has sealed.size() - kAeadTagBytes bytes and may start at `sealed`.
  // Errors: INVALID_ARGUMENT  index >= total_chunks, or a size is wrong;
  //         DATA_LOSS         the chunk does not authenticate as this index of
  //                           this upload; `out` is then zeroed.
  absl::Status Open(uint64_t index, std::span<const std::byte> sealed,
                    std::span<std::byte> out);

  // The same in pieces: Begin, Update for each piece of the ciphertext, Finish
  // with the tag, the last kAeadTagBytes of the chunk. Nothing that Update gave
  // out is authenticated before Finish says OK; see AeadOpener.
  absl::Status Begin(uint64_t index);
  absl::Status Update(std::span<const std::byte> in, std::span<std::byte> out) {
    return aead_.Update(in, out);
  }
  absl::Status Finish(std::span<const std::byte> tag);

 private:
  absl::Status Told(const absl::Status& status) const;
  ChunkOpener(AeadOpener aead, internal::ChunkBinding binding)
      : aead_(std::move(aead)), binding_(std::move(binding)) {}
  AeadOpener aead_;
  internal::ChunkBinding binding_;
  uint64_t index_ = 0;  // begun last
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_SEAL_H_

// AES-256-GCM with a key schedule that is made once.
#ifndef CONSILIUM_SECURE_AEAD_H_
#define CONSILIUM_SECURE_AEAD_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

// AES-256-GCM (NIST SP 800-38D) with 96-bit nonces and 128-bit tags.
//
// A sealer or opener expands its key once; a call sets only the nonce, and
// allocates nothing. Not thread-safe: one object per thread.
inline constexpr size_t kAeadKeyBytes = 32;
inline constexpr size_t kAeadNonceBytes = 12;
inline constexpr size_t kAeadTagBytes = 16;

class AeadSealer {
 public:
  // Errors: INVALID_ARGUMENT  the key does not have kAeadKeyBytes bytes.
  static absl::StatusOr<AeadSealer> Create(const SecretBytes& key);
  AeadSealer(AeadSealer&&) noexcept;
  AeadSealer& operator=(AeadSealer&&) noexcept;
  ~AeadSealer();

  // Writes ciphertext then tag to `out`, whose size must be plaintext.size() +
  // kAeadTagBytes. `out` may start where `plaintext` starts; other overlaps
  // are not allowed. A nonce must never be used twice with one key.
  absl::Status Seal(std::span<const std::byte> nonce,
                    std::span<const std::byte> aad,
                    std::span<const std::byte> plaintext,
                    std::span<std::byte> out);

 private:
  struct Context;
  explicit AeadSealer(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

class AeadOpener {
 public:
  static absl::StatusOr<AeadOpener> Create(const SecretBytes& key);
  AeadOpener(AeadOpener&&) noexcept;
  AeadOpener& operator=(AeadOpener&&) noexcept;
  ~AeadOpener();

  // Writes sealed.size() - kAeadTagBytes bytes to `out`, which must have just
  // that size. `out` may start where `sealed` starts.
  // Errors:
  //   INVALID_ARGUMENT  a size is wrong
  //   DATA_LOSS         the tag does not match: wrong key, nonce or associated
  //                     data, or changed bytes. `out` is then zeroed.
  absl::Status Open(std::span<const std::byte> nonce,
                    std::span<const std::byte> aad,
                    std::span<const std::byte> sealed,
                    std::span<std::byte> out);

  // The same in pieces, for a reader without memory for the whole: Begin, then
  // Update for each piece in order, then Finish with the tag. What Update gives
  // out is NOT authenticated: nothing that came of it may leave the caller
  // before Finish says OK. Begin starts anew at any time; so does Open.
  // `out` has in.size() bytes and may start where `in` starts.
  // Errors: INVALID_ARGUMENT for a size; FAILED_PRECONDITION before Begin;
  // DATA_LOSS by Finish, as Open.
  absl::Status Begin(std::span<const std::byte> nonce,
                     std::span<const std::byte> aad);
  absl::Status Update(std::span<const std::byte> in, std::span<std::byte> out);
  absl::Status Finish(std::span<const std::byte> tag);

 private:
  struct Context;
  explicit AeadOpener(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_AEAD_H_

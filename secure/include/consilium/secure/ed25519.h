// Signatures.
#ifndef CONSILIUM_SECURE_ED25519_H_
#define CONSILIUM_SECURE_ED25519_H_

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium {

struct Signature {
  static constexpr size_t kBytes = 64;
  std::array<std::byte, kBytes> bytes{};

  // Errors: INVALID_ARGUMENT  not 64 bytes.
  static absl::StatusOr<Signature> FromBytes(std::span<const std::byte> bytes);
  static absl::StatusOr<Signature> FromBytes(std::string_view bytes);
  std::string ToString() const;  // the 64 raw bytes, for a message field
  friend bool operator==(const Signature&, const Signature&) = default;
};

// The public half of an Ed25519 key (RFC 8032). A value; thread-safe.
class VerifyKey {
 public:
  static constexpr size_t kBytes = 32;

  // Errors: INVALID_ARGUMENT  not 32 bytes, or not an Ed25519 PEM.
  static absl::StatusOr<VerifyKey> FromBytes(std::span<const std::byte> bytes);
  static absl::StatusOr<VerifyKey> FromBytes(std::string_view bytes);
  static absl::StatusOr<VerifyKey> FromHex(std::string_view hex);
  static absl::StatusOr<VerifyKey> FromPem(std::string_view pem);
  static absl::StatusOr<VerifyKey> LoadFile(FileSystem* fs,
                                            const std::string& path);

  // Errors: UNAUTHENTICATED  the signature is not by this key over `message`.
  absl::Status Verify(std::span<const std::byte> message,
                      const Signature& signature) const;

  std::span<const std::byte, kBytes> bytes() const { return bytes_; }
  std::string ToString() const;  // the 32 raw bytes, for a message field
  std::string Hex() const;
  absl::StatusOr<std::string> ToPem() const;
  friend bool operator==(const VerifyKey&, const VerifyKey&) = default;

 private:
  std::array<std::byte, kBytes> bytes_{};
};

// The private half. Thread-safe after creation.
class SigningKey {
 public:
  static absl::StatusOr<SigningKey> Generate(RandomSource& random);
  // Errors: INVALID_ARGUMENT  the seed is not 32 bytes.
  static absl::StatusOr<SigningKey> FromSeed(const SecretBytes& seed);
  static absl::StatusOr<SigningKey> FromPem(const SecretBytes& pem);

  // PEM (PKCS#8) in a file that only its owner may read; see key_file.h.
  static absl::StatusOr<SigningKey> LoadFile(FileSystem* fs,
                                             const std::string& path);
  absl::Status SaveFile(FileSystem* fs, const std::string& path) const;

  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;
  ~SigningKey();

  const VerifyKey& verify_key() const { return verify_key_; }
  absl::StatusOr<SecretBytes> ToPem() const;
  absl::StatusOr<Signature> Sign(std::span<const std::byte> message) const;

 private:
  struct Handle;
  SigningKey(std::unique_ptr<Handle> handle, VerifyKey verify_key);
  std::unique_ptr<Handle> handle_;
  VerifyKey verify_key_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_ED25519_H_

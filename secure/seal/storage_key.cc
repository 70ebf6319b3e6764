#include "consilium/secure/storage_key.h"

#include <algorithm>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/aead.h"
#include "consilium/secure/canonical.h"
#include "consilium/secure/key_file.h"

namespace consilium {
namespace {

constexpr std::byte kVersion{1};
constexpr size_t kHeaderBytes = 1 + kAeadNonceBytes;
constexpr size_t kHexDigits = 2 * kAeadKeyBytes;

}  // namespace

StorageKey StorageKey::Generate(RandomSource& random) {
  SecretBytes secret(kAeadKeyBytes);
  random.Fill(secret.MutableBytes(SecretAccess("generates")));
  return StorageKey(std::move(secret));
}

absl::StatusOr<StorageKey> StorageKey::LoadFile(FileSystem* fs,
                                                const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes file, ReadKeyFile(fs, path));
  std::string_view text = file.Text(SecretAccess("parses the storage key"));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  SecretBytes secret(kAeadKeyBytes);
  if (!HexDecodeTo(text, secret.MutableBytes(SecretAccess("decodes"))).ok()) {
    return absl::InvalidArgumentError(
        Cat("storage key file ", path, " does not hold ", kHexDigits,
            " hex digits; restore it from your copy, for nothing else opens "
            "the round keys"));
  }
  return StorageKey(std::move(secret));
}

absl::Status StorageKey::SaveFile(FileSystem* fs,
                                  const std::string& path) const {
  std::string hex =
      HexEncode(secret_.Bytes(SecretAccess("writes the storage key")));
  SecretBytes text(hex.size() + 1);
  const std::span<std::byte> out = text.MutableBytes(SecretAccess("writes"));
  std::copy_n(AsBytes(hex).begin(), hex.size(), out.begin());
  out.back() = static_cast<std::byte>('\n');
  WipeString(hex);
  return WriteKeyFile(fs, path, text);
}

absl::StatusOr<std::string> StorageKey::WrapSecret(
    std::span<const std::byte> purpose, const SecretBytes& secret,
    RandomSource& random) const {
  CONSILIUM_ASSIGN_OR_RETURN(AeadSealer sealer, AeadSealer::Create(secret_));
  std::string wrapped(kHeaderBytes + secret.size() + kAeadTagBytes, '\0');
  const std::span<std::byte> out =
      std::as_writable_bytes(std::span(wrapped.data(), wrapped.size()));
  out[0] = kVersion;
  const std::span<std::byte> nonce = out.subspan(1, kAeadNonceBytes);
  random.Fill(nonce);
  CONSILIUM_RETURN_IF_ERROR(sealer.Seal(nonce, purpose,
                                        secret.Bytes(SecretAccess("wraps")),
                                        out.subspan(kHeaderBytes)));
  return wrapped;
}

absl::StatusOr<SecretBytes> StorageKey::UnwrapSecret(
    std::span<const std::byte> purpose,
    std::span<const std::byte> wrapped) const {
  if (wrapped.size() < kHeaderBytes + kAeadTagBytes) {
    return absl::DataLossError(
        Cat("a wrapped secret of ", wrapped.size(), " bytes is cut short"));
  }
  if (wrapped[0] != kVersion) {
    return absl::DataLossError(Cat("a wrapped secret has format version ",
                                   std::to_integer<int>(wrapped[0]),
                                   "; this program reads ",
                                   std::to_integer<int>(kVersion)));
  }
  CONSILIUM_ASSIGN_OR_RETURN(AeadOpener opener, AeadOpener::Create(secret_));
  SecretBytes secret(wrapped.size() - kHeaderBytes - kAeadTagBytes);
  const absl::Status opened =
      opener.Open(wrapped.subspan(1, kAeadNonceBytes), purpose,
                  wrapped.subspan(kHeaderBytes),
                  secret.MutableBytes(SecretAccess("unwraps")));
  if (!opened.ok()) {
    return Annotate(opened, "a secret does not unwrap with this storage key");
  }
  return secret;
}

std::string RoundKeyPurpose(std::string_view federation, uint64_t round,
                            uint32_t attempt) {
  CanonicalEncoder encoder("consilium/round-key/v1");
  encoder.String(federation).U64(round).U64(attempt);
  return std::move(encoder).str();
}

}  // namespace consilium
